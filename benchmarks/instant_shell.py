"""A shell whose every wish is granted at the next look: nothing but the coordinator costs."""

from collections import deque

from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    ContinuumEnded,
    ControlReceived,
    FeedbackMade,
    JobFinished,
    Pick,
)
from campaign.plan import MakeFeedback, StartJob
from campaign.selection import Outcome, SelectionSettings
from campaign.shell_protocol import Slots, Survivors
from selector import read_queues_settings

PATCHES = 330
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
