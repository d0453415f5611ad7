"""The bridge: patches per second from rank 0 to a durable acknowledgement.

Snapshots of 330 patches of 14 x 37 x 37 values (76.7 kB each) go through the folder, and through
Ray to an intake whose reader journals each batch with an fsync before it is acknowledged. One
sender, one batch at a time, as rank 0 does it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from campaign.events import CampaignOpened
from campaign.journal import Journal
from campaign.local_executor import FolderIntake
from campaign.spool import SpoolTransport, write_incarnation
from continuum.patch_batch import PatchBatch

PATCHES, BEADS = 330, 8
SPECIES = tuple(f"lipid {number}" for number in range(14))
STATES = ("RASa",)


def batch_of(snapshot: int) -> PatchBatch:
    """A snapshot like those of the published membrane."""
    rng = np.random.default_rng(snapshot)
    return PatchBatch(
        patch_id=np.uint64(snapshot << 20) + np.arange(PATCHES, dtype=np.uint64),
        density=rng.random((PATCHES, len(SPECIES), 37, 37), dtype=np.float32),
        centre_nm=rng.random((PATCHES, 2)),
        central_state=np.zeros(PATCHES, np.int8),
        n_ras=np.ones(PATCHES, np.uint8),
        n_raf=np.zeros(PATCHES, np.uint8),
        kind=np.ones(PATCHES, np.uint8),
        bead_offset=np.arange(PATCHES + 1, dtype=np.int64) * BEADS,
        bead_position_nm=rng.random((PATCHES * BEADS, 2)),
        bead_state=np.zeros(PATCHES * BEADS, np.int8),
        time_us=float(snapshot),
        snapshot_index=snapshot,
        parameter_version=0,
    )


def rate(seconds: list[float]) -> dict[str, float]:
    """Of one batch after the other; the first, which pays for imports and folders, is left out."""
    kept = np.array(seconds[1:])
    return {
        "patches_per_s": PATCHES / float(kept.mean()),
        "median_ms_per_batch": 1e3 * float(np.median(kept)),
        "slowest_ms_per_batch": 1e3 * float(kept.max()),
        "megabytes_per_s": batch_of(0).density.nbytes / float(kept.mean()) / 1e6,
        "batches": len(kept),
    }


def send_all(transport: object, snapshots: int) -> list[float]:
    """Seconds of each send."""
    batches = [batch_of(snapshot) for snapshot in range(snapshots)]
    seconds = []
    for batch in batches:
        began = time.perf_counter()
        transport.send(batch)  # type: ignore[attr-defined]
        seconds.append(time.perf_counter() - began)
    return seconds


def through_the_folder(run: Path, snapshots: int) -> dict[str, float]:
    """The file is the acknowledgement."""
    write_incarnation(run, 1)
    sent = send_all(SpoolTransport(run, 1, SPECIES, STATES), snapshots)
    began = time.perf_counter()
    taken = FolderIntake(run).poll(0)
    reading_s = time.perf_counter() - began
    return {**rate(sent), "reader_patches_per_s": len(taken) * PATCHES / reading_s}


def through_ray(run: Path, snapshots: int, address: str) -> dict[str, float]:
    """A sender of its own process, an intake actor, and a reader that journals.

    This process is connected to the cluster at `address`, in the namespace of the run.
    """
    import ray

    from campaign.ray_bridge import INTAKE, BridgeReader, Intake

    write_incarnation(run, 1)
    actor = ray.remote(Intake).options(name=INTAKE, num_cpus=0).remote(str(run))
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bridge", str(run), str(snapshots)],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        text=True,
    )
    journal = Journal.create(run / "journal")
    opened = CampaignOpened(config_hash="", code_version="", encoder_version="")
    journal.append(opened, time.time())
    reader, taken = BridgeReader(run, actor), 0
    while taken < snapshots and sender.poll() is None:
        for batch in reader.poll(taken):
            journal.append(batch, time.time())
            journal.commit()
            reader.accepted(batch.snapshot_index)
            taken = batch.snapshot_index + 1
        reference = reader.question.reference
        if reference is not None:
            ray.wait([reference], timeout=1.0)
    said, _ = sender.communicate(timeout=120)
    journal.close()
    ray.kill(actor)
    return rate(json.loads(said.splitlines()[-1]))


def main() -> None:
    """The sender's process: `python -m benchmarks.bridge RUN SNAPSHOTS`."""
    from campaign.ray_bridge import RayTransport

    run, snapshots = Path(sys.argv[1]), int(sys.argv[2])
    print(json.dumps(send_all(RayTransport(run, 1, SPECIES, STATES), snapshots)))


if __name__ == "__main__":
    main()
