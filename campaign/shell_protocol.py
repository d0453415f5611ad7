"""What a shell must offer the coordinator: batches in, embeddings, MD slots, ranks, feedback.

Every call returns at once; results are polled as events, which the coordinator journals before it
acts on them. Everything asked for may be asked again after a crash, so each must be idempotent: a
result that is already durable is reported again rather than made anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    ContinuumEnded,
    ControlReceived,
    FeedbackMade,
    JobFailed,
    JobFinished,
    SlotCordoned,
)
from campaign.plan import MakeFeedback, StartJob


class FeedbackError(ValueError):
    """No parameter version can be made from the results there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """MD slots, as the pilots see them."""

    total: int
    free: int
    cordoned: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivors:
    """What outlived the previous coordinator: running jobs, and the incarnation of the ranks."""

    jobs: tuple[str, ...] = ()
    continuum: int = 0  # 0: no ranks run


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFailed:
    """A worker could not embed a batch, through no fault of single patches."""

    snapshot_index: int
    message: str


class Intake(Protocol):
    """Batches from the ranks."""

    def poll(self, expected: int) -> Sequence[BatchIngested]:
        """Durable batches in snapshot order, the first of snapshot `expected`.

        Raises `spool.DivergentBatch` for one that came again with other content.
        """

    def accepted(self, snapshot_index: int) -> None:
        """The batch is in the journal: its sender may be told so."""

    def permit(self, snapshot_index: int, parameter_version: int) -> None:
        """The membrane may pass this boundary under this version; durable on return."""


class Embedders(Protocol):
    """Workers that turn the patches of a snapshot into vectors on disk."""

    @property
    def version(self) -> str:
        """Of the encoder."""

    def embed(self, snapshot_index: int) -> None:
        """Begin to embed a batch that has been ingested."""

    def poll(self) -> Sequence[BatchEmbedded | EmbeddingFailed]:
        """What is done since the last call, in any order."""


class Pilots(Protocol):
    """Owners of the MD slots."""

    def slots(self) -> Slots:
        """How many there are and how many are free now."""

    def start(self, job: StartJob) -> int:
        """Begin an attempt in a free slot; the slot's number."""

    def poll(self) -> Sequence[JobFinished | JobFailed | SlotCordoned]:
        """What ended since the last call."""


class Continuum(Protocol):
    """The MPI ranks of the membrane."""

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        """Start the ranks, after ending older ones; the snapshot they continue from, -1 if none."""

    def poll(self) -> ContinuumEnded | None:
        """The end of the ranks, once."""

    def stop(self) -> None:
        """End the ranks, if they run; `poll` then reports it."""


class Feedback(Protocol):
    """Makes parameter versions."""

    def begin(self, action: MakeFeedback) -> None:
        """Begin to make a version from results that are durable."""

    def poll(self) -> FeedbackMade | None:
        """The version that became durable. Raises FeedbackError where none can be made."""


class Controls(Protocol):
    """Commands from outside."""

    def poll(self, after: int) -> Sequence[ControlReceived]:
        """Commands with numbers above `after`, in order."""


class Shell(Protocol):
    """All of it, and the passing of time."""

    @property
    def name(self) -> str: ...
    @property
    def intake(self) -> Intake: ...
    @property
    def embedders(self) -> Embedders: ...
    @property
    def pilots(self) -> Pilots: ...
    @property
    def continuum(self) -> Continuum: ...
    @property
    def feedback(self) -> Feedback: ...
    @property
    def controls(self) -> Controls: ...

    def survivors(self) -> Survivors:
        """What still runs from an earlier coordinator; asked once, before the first step."""

    def now(self) -> float:
        """Seconds since the epoch (or of a virtual clock), for the journal's envelopes only."""

    def wait(self, seconds: float) -> None:
        """Let time pass; may return early when there is something to poll."""

    def close(self) -> None:
        """End everything that the shell started, at the end or after an error."""
