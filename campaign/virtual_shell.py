"""A shell without a machine: the coordinator's own code in the virtual time of a modelled cluster.

Patches have synthetic embeddings that drift, jobs last and fail as drawn; everything drawn is keyed
by (seed, what, which), so a replay is a function of its model. Nothing is written.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from campaign.embedding_files import Embeddings
from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    ContinuumEnded,
    ControlReceived,
    FeedbackMade,
    JobFailed,
    JobFinished,
    SlotCordoned,
    patch_of,
)
from campaign.plan import MakeFeedback, StartJob
from campaign.shell_protocol import EmbeddingFailed, Slots, Survivors
from campaign.virtual_clock import VirtualClock

Array = NDArray[np.float64]

_DURATION, _FAILURE, _PLACE = 1, 2, 3


class ClusterModel(BaseModel):
    """What a replay assumes of the machine; see `source` in the presets."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    slots: int = Field(24_000, ge=1)
    snapshot_s: float = Field(90.0, gt=0)  # of the membrane
    patches: int = Field(330, ge=1)  # a snapshot
    controls: int = Field(30, ge=0)
    embedding_s: float = Field(2.0, ge=0)
    feedback_s: float = Field(120.0, ge=0)
    job_h: float = Field(24.0, gt=0)  # median
    job_spread: float = Field(0.3, ge=0)  # standard deviation of the logarithm
    failures_per_h: float = Field(0.0005, ge=0)  # of a running job
    drift: float = Field(1.5, ge=0)  # of the embeddings' mean over the campaign
    seed: int = Field(0, ge=0)


def drawn(seed: int, what: int, which: int) -> np.random.Generator:
    """The generator of one thing."""
    return np.random.Generator(np.random.Philox(key=[seed, what], counter=[0, 0, 0, which]))


class SyntheticEmbeddings:
    """Vectors of a snapshot's patches, made anew whenever they are asked for."""

    def __init__(self, model: ClusterModel, snapshots: int) -> None:
        self._model, self._snapshots = model, max(snapshots, 1)

    def __call__(self, snapshot_index: int) -> Embeddings:
        """Nine dimensions, heavier tails than Gaussian, one cluster a kind."""
        model = self._model
        generator = drawn(model.seed, _PLACE, snapshot_index)
        kind = generator.choice(4, model.patches, p=[0.09, 0.55, 0.25, 0.11]).astype(np.uint8)
        vector = 0.5 * generator.standard_t(5, size=(model.patches, 9))
        vector[np.arange(model.patches), kind] += 3.0
        vector[:, 4] += model.drift * snapshot_index / self._snapshots
        ids = (np.uint64(snapshot_index) << np.uint64(20)) + np.arange(
            model.patches, dtype=np.uint64
        )
        return Embeddings(
            patch_id=ids,
            kind=kind,
            vector=vector.astype(np.float32),
            quarantined=np.zeros(0, np.uint32),
            snapshot_index=snapshot_index,
            encoder_version="synthetic",
        )


class _Intake:
    def __init__(self, shell: "VirtualShell") -> None:
        self._shell = shell
        self.batches: list[BatchIngested] = []
        self.permitted = -1

    def poll(self, expected: int) -> Sequence[BatchIngested]:
        return self.batches[expected:]

    def accepted(self, snapshot_index: int) -> None:
        """The membrane of a replay waits for permits alone."""

    def permit(self, snapshot_index: int, parameter_version: int) -> None:
        self.permitted = max(self.permitted, snapshot_index)
        self._shell.continuum.sail()


class _Embedders:
    version = "synthetic"

    def __init__(self, shell: "VirtualShell") -> None:
        self._shell = shell
        self._done: list[BatchEmbedded | EmbeddingFailed] = []

    def embed(self, snapshot_index: int) -> None:
        made = BatchEmbedded(snapshot_index=snapshot_index, encoder_version=self.version, crc32=0)
        self._shell.clock.call_after(self._shell.model.embedding_s, lambda: self._done.append(made))

    def poll(self) -> Sequence[BatchEmbedded | EmbeddingFailed]:
        done, self._done = self._done, []
        return done


class _Pilots:
    def __init__(self, shell: "VirtualShell") -> None:
        self._shell = shell
        self._free = list(range(shell.model.slots - 1, -1, -1))
        self._ended: list[JobFinished | JobFailed | SlotCordoned] = []

    def slots(self) -> Slots:
        return Slots(total=self._shell.model.slots, free=len(self._free))

    def start(self, job: StartJob) -> int:
        model, slot = self._shell.model, self._free.pop()
        patch = patch_of(job.job)
        lasts_h = model.job_h * float(
            np.exp(model.job_spread * drawn(model.seed, _DURATION, patch).standard_normal())
        )
        fails_h = float("inf")
        if model.failures_per_h:
            generator = drawn(model.seed, _FAILURE, (job.attempt << 50) + patch)
            fails_h = float(generator.exponential(1 / model.failures_per_h))
        hours = min(lasts_h, fails_h)
        event: JobFinished | JobFailed = JobFinished(
            job=job.job,
            attempt=job.attempt,
            crc32=0,
            frames=1,
            simulated_us=job.duration_us,
            wall_s=3600 * hours,
        )
        if fails_h < lasts_h:
            event = JobFailed(
                job=job.job, attempt=job.attempt, failure="node-lost", message="the node failed"
            )
        self._shell.clock.call_after(3600 * hours, lambda: self._end(slot, event))
        return slot

    def _end(self, slot: int, event: JobFinished | JobFailed) -> None:
        self._free.append(slot)
        self._ended.append(event)

    def poll(self) -> Sequence[JobFinished | JobFailed | SlotCordoned]:
        ended, self._ended = self._ended, []
        return ended


class _Continuum:
    def __init__(self, shell: "VirtualShell") -> None:
        self._shell = shell
        self._incarnation = 0
        self._last = -1
        self._steps = False
        self._ended: ContinuumEnded | None = None

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        self._incarnation, self._last = incarnation, last_snapshot
        self._emit()
        return -1

    def sail(self) -> None:
        """Step to the next snapshot, where that is permitted and not under way."""
        emitted = len(self._shell.intake.batches)
        if self._steps or not self._incarnation or self._shell.intake.permitted < emitted - 1:
            return
        if emitted > self._last:
            if self._ended is None:
                self._ended = ContinuumEnded(
                    incarnation=self._incarnation, exit_code=0, finished=True
                )
            return
        self._steps = True
        self._shell.clock.call_after(self._shell.model.snapshot_s, self._emit)

    def _emit(self) -> None:
        self._steps = False
        batches, model = self._shell.intake.batches, self._shell.model
        batches.append(
            BatchIngested(
                snapshot_index=len(batches),
                incarnation=self._incarnation,
                time_us=float(len(batches)),
                count=model.patches,
                controls=min(model.controls, model.patches),
                crc32=0,
                parameter_version=0,
            )
        )
        self.sail()

    def poll(self) -> ContinuumEnded | None:
        ended, self._ended = self._ended, None
        return ended

    def stop(self) -> None:
        self._last = -1


class _Feedback:
    def __init__(self, shell: "VirtualShell") -> None:
        self._shell = shell
        self._made: FeedbackMade | None = None

    def begin(self, action: MakeFeedback) -> None:
        made = FeedbackMade(
            version=action.version,
            boundary_snapshot=action.boundary_snapshot,
            jobs=action.jobs,
            crc32=0,
        )
        self._shell.clock.call_after(self._shell.model.feedback_s, lambda: self._set(made))

    def _set(self, made: FeedbackMade) -> None:
        self._made = made

    def poll(self) -> FeedbackMade | None:
        made, self._made = self._made, None
        return made


class _Controls:
    def poll(self, after: int) -> Sequence[ControlReceived]:
        return ()


class VirtualShell:
    """A cluster of `model`; `tick` is called at every jump of the clock."""

    name = "virtual"

    def __init__(self, model: ClusterModel, tick: Callable[[float], None]) -> None:
        self.model, self.clock, self._tick = model, VirtualClock(), tick
        self.intake = _Intake(self)
        self.embedders = _Embedders(self)
        self.pilots = _Pilots(self)
        self.continuum = _Continuum(self)
        self.feedback = _Feedback(self)
        self.controls = _Controls()

    def survivors(self) -> Survivors:
        return Survivors()

    def now(self) -> float:
        return self.clock.now_s

    def wait(self, seconds: float) -> None:
        """Jump to what comes next. Raises RuntimeError where nothing ever will."""
        if not self.clock.advance():
            raise RuntimeError("the replay hangs: the coordinator waits and nothing is under way")
        self._tick(self.clock.now_s)

    def close(self) -> None:
        """Nothing was started."""
