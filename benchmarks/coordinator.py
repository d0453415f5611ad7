"""The coordinator alone: decisions a second, and restarts from long journals."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.instant_shell import PATCHES, SELECTION, FirstComeSelection, instant_shell
from campaign.coordinator import Coordinator
from campaign.embedding_files import Embeddings, embedding_path, write_embeddings
from campaign.events import CampaignOpened, Pick
from campaign.journal import Journal
from campaign.rules import Rules
from campaign.run_folder import fold
from campaign.selection import PatchSelection, reader, recover
from campaign.state import apply, initial_state

DIMENSION = 9
SAVE_EVERY = 100  # snapshots between two states of the selector, as configurations have it
FILLING = 480  # snapshots whose 158,000 patches fill three queues of 35,000
OPENED = CampaignOpened(config_hash="", code_version="", encoder_version="")
PICKS = "picks.json"


def rules_of(snapshots: int, jobs: int) -> Rules:
    return Rules(
        last_snapshot=snapshots - 1,
        per_snapshot=jobs / snapshots,
        every_snapshots=max(1, snapshots // 50),
        lag_snapshots=2,
        credit=32,
        embed_ahead=32,
    )


def measure_decisions(folder: Path, snapshots: int, jobs: int, slots: int) -> dict[str, float]:
    """A whole campaign with a real journal; a decision is an event that the loop recorded."""
    journal = Journal.create(folder / "journal")
    state = initial_state(rules_of(snapshots, jobs))
    apply(state, OPENED)
    journal.append(OPENED, 0.0)
    coordinator = Coordinator(
        state, journal, instant_shell(slots), FirstComeSelection(), lambda snapshot: snapshot
    )
    began, cpu = time.perf_counter(), time.process_time()
    coordinator.begin(1)
    reason = coordinator.run()
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    journal.close()
    if reason != "complete":
        raise RuntimeError(f"the campaign ended: {reason}")
    return {
        "events": journal.sequence,
        "wall_s": wall,
        "cpu_s": used,
        "decisions_per_s": journal.sequence / wall,
        "decisions_per_cpu_s": journal.sequence / used,
        "journal_mb": sum(path.stat().st_size for path in (folder / "journal").iterdir()) / 1e6,
    }


def measure_restart(
    folder: Path, snapshots: int, jobs: int, *, quick: bool = False
) -> dict[str, float]:
    """A new process takes the campaign of `measure_decisions` up: from its start to its readiness.

    The selector's last state is the oldest there can be: everything since was picked by a selector
    that died. The first of two restarts may have to compile kernels; the second counts. A quick one
    has a third of the candidates, and no second.
    """
    filling = min(FILLING // 3 if quick else FILLING, snapshots - SAVE_EVERY)
    _save_selection(folder, snapshots, jobs, filling)
    command = [sys.executable, "-m", "benchmarks.coordinator", str(folder)]
    command += [str(snapshots), str(jobs)]
    walls = []
    for _ in range(1 if quick else 2):
        began = time.perf_counter()
        child = subprocess.run(
            command,
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        walls.append(time.perf_counter() - began)
    found: dict[str, float] = json.loads(child.stdout)
    return {**found, "first_wall_s": walls[0], "wall_s": walls[-1]}


def restart(folder: Path, rules: Rules) -> dict[str, float]:
    """Open the journal, fold it, take up the selector's last state, select again what came after.

    Raises SelectionDivergence where the selector picks something else than before.
    """
    values = json.loads((folder / PICKS).read_text())
    picks = {int(snapshot): [Pick(*pick) for pick in each] for snapshot, each in values.items()}
    began = time.perf_counter()
    journal, contents = Journal.open(folder / "journal")
    opened = time.perf_counter()
    state = fold(rules, contents.records)
    folded = time.perf_counter()
    selection = PatchSelection(SELECTION)
    recover(selection, folder / "selections", state.selected, reader(folder), picks.__getitem__)
    recovered = time.perf_counter()
    journal.close()
    return {
        "patches": state.patches_ingested,
        "jobs": len(state.order),
        "records": len(contents.records),
        "candidates": selection.candidates,
        "snapshots_selected_again": len(picks),
        "open_s": opened - began,
        "fold_s": folded - opened,
        "select_again_s": recovered - folded,
        "cpu_s": time.process_time(),
        "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _embeddings_of(snapshot: int) -> Embeddings:
    """Synthetic vectors: normal in nine dimensions."""
    rng = np.random.default_rng(snapshot)
    return Embeddings(
        patch_id=np.uint64(snapshot << 20) + np.arange(PATCHES, dtype=np.uint64),
        kind=rng.integers(0, 3, PATCHES).astype(np.uint8),
        vector=rng.standard_normal((PATCHES, DIMENSION), dtype=np.float32),
        quarantined=np.empty(0, np.uint32),
        snapshot_index=snapshot,
        encoder_version="e",
    )


def _save_selection(folder: Path, snapshots: int, jobs: int, filling: int) -> None:
    """A selector with full queues and all jobs picked; what it picks in the last snapshots.

    The queues are full long before the end, and patches that only push others out are left out.
    """
    selection = PatchSelection(SELECTION)
    for snapshot in range(filling):
        selection.advance(_embeddings_of(snapshot), round(jobs / filling))
    selection.snapshots = snapshots - SAVE_EVERY
    selection.save(folder / "selections")
    picks = {}
    for snapshot in range(selection.snapshots, snapshots):
        embeddings = _embeddings_of(snapshot)
        write_embeddings(embedding_path(folder, snapshot), embeddings)
        picks[snapshot] = selection.advance(embeddings, 1).patches
    (folder / PICKS).write_text(json.dumps(picks))


def main() -> None:
    """A process that restarts: `python -m benchmarks.coordinator FOLDER SNAPSHOTS JOBS`."""
    folder, (snapshots, jobs) = Path(sys.argv[1]), map(int, sys.argv[2:])
    print(json.dumps(restart(folder, rules_of(snapshots, jobs))))


if __name__ == "__main__":
    main()
