"""Measures the campaign's coordinator alone: decisions a second, and restarts from long journals.

`--quick` is a hundredth of the published campaign; without it, 24,000 jobs and 6 million patches.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

from campaign.coordinator import Coordinator  # noqa: E402
from campaign.embedding_files import Embeddings  # noqa: E402
from campaign.events import (  # noqa: E402
    BatchEmbedded,
    BatchIngested,
    CampaignOpened,
    ContinuumEnded,
    ControlReceived,
    FeedbackMade,
    JobFinished,
    Pick,
)
from campaign.journal import Journal  # noqa: E402
from campaign.plan import MakeFeedback, StartJob  # noqa: E402
from campaign.rules import Rules  # noqa: E402
from campaign.run_folder import fold  # noqa: E402
from campaign.selection import (  # noqa: E402
    Outcome,
    PatchSelection,
    SelectionSettings,
    recover,
)
from campaign.shell_protocol import Slots, Survivors  # noqa: E402
from campaign.state import apply, initial_state  # noqa: E402
from selector import read_queues_settings  # noqa: E402

PATCHES, DIMENSION = 330, 9
OPENED = CampaignOpened(config_hash="", code_version="", encoder_version="")
SELECTION = SelectionSettings(
    queues=read_queues_settings("mummi-ras"),
    queue_of_kind=("lipid-only", "monomers", "dimers", "dimers"),
    seed=0,
    save_every=10**9,
)


class Instant:
    """A shell whose every wish is granted at the next look; nothing but the coordinator costs."""

    name = "instant"

    def __init__(self, slots: int) -> None:
        self.intake = self.embedders = self.pilots = self.continuum = self.feedback = self
        self.controls = self
        self.version = "e"
        self._slots, self._running = slots, deque[StartJob]()
        self._asked: list[int] = []
        self._made: FeedbackMade | None = None
        self._permitted, self._last, self._sails = -1, -1, False

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        self._last, self._sails = last_snapshot, True
        return -1

    def stop(self) -> None:
        """Nothing runs."""

    def accepted(self, snapshot_index: int) -> None:
        """Nobody waits."""

    def permit(self, snapshot_index: int, parameter_version: int) -> None:
        self._permitted = snapshot_index

    def embed(self, snapshot_index: int) -> None:
        self._asked.append(snapshot_index)

    def begin(self, action: MakeFeedback) -> None:
        self._made = FeedbackMade(
            version=action.version,
            boundary_snapshot=action.boundary_snapshot,
            jobs=action.jobs,
            crc32=0,
        )

    def slots(self) -> Slots:
        return Slots(total=self._slots, free=self._slots - len(self._running))

    def start(self, job: StartJob) -> int:
        self._running.append(job)
        return len(self._running) - 1

    def survivors(self) -> Survivors:
        return Survivors()

    def now(self) -> float:
        return 0.0

    def wait(self, seconds: float) -> None:
        """Everything is there at once."""

    def close(self) -> None:
        """Nothing was started."""


class _Door:
    """One of the shell's interfaces, since several have a `poll`."""

    def __init__(self, shell: Instant) -> None:
        self._shell = shell

    def __getattr__(self, name: str) -> object:
        return getattr(self._shell, name)


class _Intake(_Door):
    def poll(self, expected: int) -> list[BatchIngested]:
        last = min(self._shell._permitted + 1, self._shell._last)
        return [batch_of(snapshot) for snapshot in range(expected, last + 1)]


class _Embedders(_Door):
    def poll(self) -> list[BatchEmbedded]:
        asked, self._shell._asked = self._shell._asked, []
        return [
            BatchEmbedded(snapshot_index=snapshot, encoder_version="e", crc32=0)
            for snapshot in asked
        ]


class _Pilots(_Door):
    def poll(self) -> list[JobFinished]:
        ended = [
            JobFinished(
                job=job.job, attempt=job.attempt, crc32=1, frames=2, simulated_us=1.0, wall_s=1.0
            )
            for job in self._shell._running
        ]
        self._shell._running.clear()
        return ended


class _Continuum(_Door):
    def poll(self) -> ContinuumEnded | None:
        if self._shell._permitted < self._shell._last or not self._shell._sails:
            return None
        self._shell._sails = False
        return ContinuumEnded(incarnation=1, exit_code=0, finished=True)


class _Feedback(_Door):
    def poll(self) -> FeedbackMade | None:
        made, self._shell._made = self._shell._made, None
        return made


class _Controls(_Door):
    def poll(self, after: int) -> list[ControlReceived]:
        return []


def instant_shell(slots: int) -> Instant:
    """The shell, each interface behind its own door."""
    shell = Instant(slots)
    shell.intake, shell.embedders = _Intake(shell), _Embedders(shell)
    shell.pilots, shell.continuum = _Pilots(shell), _Continuum(shell)
    shell.feedback, shell.controls = _Feedback(shell), _Controls(shell)
    return shell


class FirstComeSelection:
    """Picks the first slots of each snapshot: the selector is measured elsewhere."""

    settings, snapshots = SELECTION, 0

    def __init__(self) -> None:
        self._candidates = 0

    def advance(self, embeddings: int, picks: int) -> Outcome:
        self._candidates += PATCHES - picks
        first = self.snapshots << 20
        self.snapshots += 1
        patches = tuple(Pick(first + slot, "monomers", 1.0) for slot in range(picks))
        return Outcome(patches, 0, self._candidates)

    def weights(self) -> dict[str, int]:
        return {}


def batch_of(snapshot: int) -> BatchIngested:
    """A snapshot of 300 RAS and 30 controls."""
    return BatchIngested(
        snapshot_index=snapshot,
        incarnation=1,
        time_us=float(snapshot),
        count=PATCHES,
        controls=30,
        crc32=snapshot,
        parameter_version=0,
    )


def rules_of(snapshots: int, jobs: int) -> Rules:
    return Rules(
        last_snapshot=snapshots - 1,
        per_snapshot=jobs / snapshots,
        every_snapshots=max(1, snapshots // 50),
        lag_snapshots=2,
        credit=8,
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


def measure_restart(folder: Path, rules: Rules, selection: Path | None) -> dict[str, float]:
    """Open the journal, fold it and, if there is one, take the selector's state up."""
    began, cpu = time.perf_counter(), time.process_time()
    journal, contents = Journal.open(folder / "journal")
    state = fold(rules, contents.records)
    folded = time.perf_counter() - began
    if selection is not None:
        recover(PatchSelection(SELECTION), selection, state.selected, embeddings_of, lambda s: ())
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    journal.close()
    return {
        "patches": state.patches_ingested,
        "jobs": len(state.order),
        "records": len(contents.records),
        "fold_s": folded,
        "wall_s": wall,
        "cpu_s": used,
        "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def embeddings_of(snapshot: int) -> Embeddings:
    """Synthetic vectors: walkers in nine dimensions."""
    rng = np.random.default_rng(snapshot)
    return Embeddings(
        patch_id=np.uint64(snapshot << 20) + np.arange(PATCHES, dtype=np.uint64),
        kind=rng.integers(0, 3, PATCHES).astype(np.uint8),
        vector=rng.standard_normal((PATCHES, DIMENSION), dtype=np.float32),
        quarantined=np.empty(0, np.uint32),
        snapshot_index=snapshot,
        encoder_version="e",
    )


def saved_selection(folder: Path, snapshots: int, jobs: int) -> tuple[Path, float]:
    """The state of a real selector after all snapshots, and the seconds it took to get there."""
    selection = PatchSelection(SELECTION)
    began = time.perf_counter()
    for snapshot, picks in enumerate(_shares(snapshots, jobs)):
        selection.advance(embeddings_of(snapshot), picks)
    took = time.perf_counter() - began
    selection.save(folder / "selections")
    return folder / "selections", took


def _shares(parts: int, whole: int) -> Iterator[int]:
    for part in range(parts):
        yield (part + 1) * whole // parts - part * whole // parts


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the campaign")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--slots", type=int, default=6000)
    given = parser.parse_args(arguments)
    snapshots, jobs = (182, 240) if given.quick else (18_182, 24_000)
    slots = min(given.slots, jobs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decisions = measure_decisions(folder, snapshots, jobs, slots)
        print(f"{decisions['decisions_per_s']:,.0f} decisions/s ({decisions['events']:,} events)")
        selections, selecting_s = saved_selection(folder, snapshots, jobs)
        restart = measure_restart(folder, rules_of(snapshots, jobs), selections)
        print(
            f"restart with {restart['patches']:,} patches and {restart['jobs']:,} jobs:"
            f" {restart['wall_s']:.2f} s ({restart['fold_s']:.2f} s for the journal)"
        )
    result = {
        "quick": given.quick,
        "coordinator": decisions,
        "restart": {**restart, "selecting_all_s": selecting_s},
        "targets": {"decisions_per_s": 5000, "restart_s": 10},
    }
    if given.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
