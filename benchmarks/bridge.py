"""Measures the bridge: patches per second from rank 0 to a durable acknowledgement.

Snapshots of 330 patches of 14 x 37 x 37 values (76.7 kB each) go through the folder, and through
Ray to an intake whose reader journals each batch with an fsync before it is acknowledged. One
sender, one batch at a time, as rank 0 does it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

from campaign.events import CampaignOpened  # noqa: E402
from campaign.journal import Journal  # noqa: E402
from campaign.local_executor import FolderIntake  # noqa: E402
from campaign.spool import SpoolTransport, write_incarnation  # noqa: E402
from continuum.patches import PatchBatch  # noqa: E402

PATCHES, BEADS = 330, 8
SPECIES = tuple(f"lipid {number}" for number in range(14))
STATES = ("RASa",)
QUICK, WHOLE = 6, 40
TARGET_PATCHES_PER_S = 1_000


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
        "patches_per_s": round(PATCHES / float(kept.mean()), 1),
        "median_ms_per_batch": round(1e3 * float(np.median(kept)), 2),
        "slowest_ms_per_batch": round(1e3 * float(kept.max()), 2),
        "megabytes_per_s": round(batch_of(0).density.nbytes / float(kept.mean()) / 1e6, 1),
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


def through_the_folder(snapshots: int) -> dict[str, float]:
    """The file is the acknowledgement."""
    with tempfile.TemporaryDirectory() as folder:
        write_incarnation(Path(folder), 1)
        sent = send_all(SpoolTransport(Path(folder), 1, SPECIES, STATES), snapshots)
        began = time.perf_counter()
        taken = FolderIntake(Path(folder)).poll(0)
        reading_s = time.perf_counter() - began
    found = rate(sent)
    return {**found, "reader_patches_per_s": round(len(taken) * PATCHES / reading_s, 1)}


def through_ray(snapshots: int) -> dict[str, float]:
    """A sender of its own process, an intake actor, and a reader that journals."""
    from campaign.ray_bridge import INTAKE, BridgeReader, Intake
    from campaign.ray_cluster import own_cluster

    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        write_incarnation(run, 1)
        with own_cluster(run, {"CPU": 2}, dashboard=False) as cluster:
            import ray

            actor = ray.remote(Intake).options(name=INTAKE, num_cpus=0).remote(str(run))
            sender = subprocess.Popen(
                [sys.executable, __file__, "--send", name, "--snapshots", str(snapshots)],
                env={**os.environ, "RAY_ADDRESS": cluster.address},
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
    return rate(json.loads(said.splitlines()[-1]))


def send_from_here(run: Path, snapshots: int) -> None:
    """The sender's process."""
    from campaign.ray_bridge import RayTransport

    seconds = send_all(RayTransport(run, 1, SPECIES, STATES), snapshots)
    print(json.dumps(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=["folder", "ray"], default=["folder", "ray"])
    parser.add_argument("--send", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--snapshots", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send is not None:
        send_from_here(options.send, options.snapshots)
        return
    snapshots = 1 + (QUICK if options.quick else WHOLE)
    ways = {"folder": through_the_folder, "ray": through_ray}
    result: dict[str, object] = {
        "quick": options.quick,
        "patches_per_batch": PATCHES,
        "target_patches_per_s": TARGET_PATCHES_PER_S,
    }
    for name in options.only:
        result[name] = ways[name](snapshots)
        if not options.json:
            print(name, result[name])
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
