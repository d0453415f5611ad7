"""A campaign in one process and without a clock: a deterministic membrane, real files, no science.

Everything durable is written by the code that real campaigns use. What the membrane emits depends
on its history of parameter versions, a version on the results and weights behind it, and a result
on its patch: so whatever a crash loses, doubles or reorders shows up as other patches or picks.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from campaign.configuration import CampaignSetup, read_campaign
from campaign.control import FolderControls
from campaign.coordinator import Coordinator
from campaign.embedding import embed_snapshot
from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    ContinuumEnded,
    FeedbackMade,
    JobFailed,
    JobFinished,
    SlotCordoned,
    snapshot_of,
)
from campaign.molecular_dynamics.results import MdResult, read_result, write_result
from campaign.plan import MakeFeedback, StartJob
from campaign.run_folder import create_run, open_run, selection_settings
from campaign.selection import PatchSelection, reader
from campaign.selection_weights import read_weights
from campaign.shell_protocol import EmbeddingFailed, Slots, Survivors
from campaign.spool import (
    Permit,
    SpoolIntake,
    read_permit,
    store_batch,
    write_permit,
)
from campaign.state import CampaignState
from continuum.atomic_file import write_atomically
from continuum.parameter_versions import (
    ParameterVersion,
    latest_version,
    read_parameter_version,
    version_path,
    write_parameter_version,
)
from continuum.parameters import RadialPotentials
from continuum.patch_batch import PatchBatch
from continuum.run import _record_version, _recorded_versions

PATCHES, CONTROLS, SPECIES = 5, 1, ("inner A", "inner B")
STATES = ("RASa",)
CHECKPOINT_EVERY = 2


def setup_of(*overrides: str) -> CampaignSetup:
    """The `small` preset with overrides, read as commands read it."""
    return read_campaign("small", overrides)


class LinearEncoder:
    """Means of the channels and of their corners, a fixed linear map to 3-D."""

    version = "linear-1"

    def encode(self, density: np.ndarray) -> np.ndarray:
        parts = [density.mean(axis=(2, 3)), density[:, :, :5, :5].mean(axis=(2, 3))]
        features = np.concatenate(parts, axis=1).astype(np.float64)
        mixing = np.random.default_rng(7).normal(size=(features.shape[1], 3))
        return (features @ mixing).astype(np.float32)


def membrane_patches(seed: int, snapshot: int, history: Sequence[int]) -> PatchBatch:
    """What the membrane emits at a snapshot after it lived under `history` of versions."""
    rng = np.random.default_rng([seed, snapshot, *history])
    count = PATCHES + CONTROLS
    density = rng.random((count, len(SPECIES), 37, 37), dtype=np.float32)
    density += rng.random((count, len(SPECIES), 1, 1), dtype=np.float32)
    central = np.zeros(count, np.int8)
    central[PATCHES:] = -1
    return PatchBatch(
        patch_id=(np.uint64(snapshot << 20) + np.arange(count, dtype=np.uint64)),
        density=density,
        centre_nm=rng.random((count, 2)),
        central_state=central,
        n_ras=np.ones(count, np.uint8),
        n_raf=np.zeros(count, np.uint8),
        kind=(central >= 0).astype(np.uint8),
        bead_offset=np.arange(count + 1, dtype=np.int64),
        bead_position_nm=rng.random((count, 2)),
        bead_state=np.zeros(count, np.int8),
        time_us=0.5 * snapshot,
        snapshot_index=snapshot,
        parameter_version=history[-1] if history else 0,
    )


@dataclass
class ToyContinuum:
    """A membrane whose state is the versions it adopted; checkpoints every other snapshot."""

    run: Path
    seed: int
    incarnation: int = 0
    runs: bool = False
    sent: bool = False
    history: list[int] = field(default_factory=list)
    last: int = -1
    dies_after: set[int] = field(default_factory=set)  # snapshots

    def launch(self, incarnation: int, last_snapshot: int) -> int:
        path = self.run / "checkpoints.json"
        self.history = json.loads(path.read_text()) if path.exists() else []
        self.incarnation, self.last, self.runs, self.sent = incarnation, last_snapshot, True, False
        return len(self.history) - 1

    def poll(self) -> ContinuumEnded | None:
        if not self.runs:
            return None
        snapshot = len(self.history)
        if snapshot > self.last:
            return self._end(0, finished=True)
        if not self.sent:
            batch = membrane_patches(self.seed, snapshot, self.history)
            store_batch(self.run, batch, SPECIES, STATES)
            self.sent = True
            if snapshot in self.dies_after:
                self.dies_after.discard(snapshot)
                return self._end(-9, finished=False)
            return None
        permit = read_permit(self.run)
        if permit is not None and permit.snapshot_index >= snapshot:
            self._pass(snapshot, permit)
        return None

    def _pass(self, snapshot: int, permit: Permit) -> None:
        parameters = self.run / "parameters"
        recorded = _recorded_versions(parameters)
        if snapshot not in recorded:
            newest = latest_version(parameters) or 0
            assert newest == permit.parameter_version, "a version came before its boundary"
            _record_version(parameters, snapshot, newest)
        self.history.append(recorded.get(snapshot, permit.parameter_version))
        self.sent = False
        if snapshot % CHECKPOINT_EVERY == 0:
            write_atomically(self.run / "checkpoints.json", json.dumps(self.history))

    def _end(self, code: int, *, finished: bool) -> ContinuumEnded:
        self.runs = False
        return ContinuumEnded(incarnation=self.incarnation, exit_code=code, finished=finished)

    def stop(self) -> None:
        self.last = -1 if self.runs else self.last


@dataclass
class ToyIntake:
    """The spool, read by its own reader."""

    run: Path
    seen: int = -1
    spool: SpoolIntake | None = None

    def poll(self, expected: int) -> list[BatchIngested]:
        if self.spool is None:
            self.spool = SpoolIntake(self.run, expected)
        return [
            BatchIngested(
                snapshot_index=batch.snapshot_index,
                incarnation=1,
                time_us=batch.time_us,
                count=batch.count,
                controls=batch.controls,
                crc32=batch.crc32,
                parameter_version=batch.parameter_version,
            )
            for batch in self.spool.poll()
        ]

    def accepted(self, snapshot_index: int) -> None:
        assert snapshot_index == self.seen + 1 or self.seen < 0
        self.seen = snapshot_index

    def permit(self, snapshot_index: int, parameter_version: int) -> None:
        write_permit(
            self.run, Permit(snapshot_index=snapshot_index, parameter_version=parameter_version)
        )


@dataclass
class ToyEmbedders:
    """Embeds at once, answers late and last come first served."""

    run: Path
    version: str = LinearEncoder.version
    asked: deque[int] = field(default_factory=deque)
    failing: dict[int, int] = field(default_factory=dict)  # how often a snapshot still fails

    def embed(self, snapshot_index: int) -> None:
        self.asked.append(snapshot_index)

    def poll(self) -> list[BatchEmbedded | EmbeddingFailed]:
        if not self.asked:
            return []
        snapshot = self.asked.pop()
        if self.failing.get(snapshot, 0) > 0:
            self.failing[snapshot] -= 1
            return [EmbeddingFailed(snapshot_index=snapshot, message="planted")]
        return [embed_snapshot(self.run, snapshot, LinearEncoder())]


Failing = Callable[[StartJob], str | None]


def no_failures(job: StartJob) -> str | None:
    return None


@dataclass
class ToyPilots:
    """Slots whose jobs take a number of polls that differs from job to job."""

    run: Path
    total: int
    failing: Failing = no_failures
    busy: dict[int, tuple[StartJob, int]] = field(default_factory=dict)
    started: int = 0
    cordon: list[int] = field(default_factory=list)
    announced: set[int] = field(default_factory=set)

    def slots(self) -> Slots:
        free = self.total - len(self.busy) - len(self.cordon)
        return Slots(total=self.total, free=max(free, 0), cordoned=len(self.cordon))

    def start(self, job: StartJob) -> int:
        taken = {*self.busy, *self.cordon}
        slot = next(number for number in range(self.total) if number not in taken)
        self.busy[slot] = (job, 1 + (self.started * 7) % 4)
        self.started += 1
        return slot

    def poll(self) -> list[JobFinished | JobFailed | SlotCordoned]:
        events: list[JobFinished | JobFailed | SlotCordoned] = []
        for slot in self.cordon:
            if slot not in self.announced:
                self.announced.add(slot)
                events.append(SlotCordoned(slot=slot, reason="planted"))
        for slot, (job, left) in list(self.busy.items()):
            if left > 1:
                self.busy[slot] = (job, left - 1)
                continue
            del self.busy[slot]
            events.append(self._end(job))
        return events

    def _end(self, job: StartJob) -> JobFinished | JobFailed:
        failure = self.failing(job)
        if failure is not None:
            return JobFailed(job=job.job, attempt=job.attempt, failure=failure, message="planted")
        result = toy_result(job.seed)
        crc32 = write_result(
            self.run / "md" / f"{job.job}.h5", result, job.job, job.attempt, job.patch_id, job.seed
        )
        return JobFinished(
            job=job.job,
            attempt=job.attempt,
            crc32=crc32,
            frames=result.frames,
            simulated_us=result.simulated_us,
            wall_s=0.1,
        )


def toy_result(seed: int) -> MdResult:
    counts = np.zeros((1, 1, 600))
    counts[0, 0, :8] = np.random.default_rng(seed).integers(0, 9, 8)
    return MdResult(counts=counts, frames=4, effective_frames=2.0, simulated_us=1.0)


@dataclass
class ToyFeedback:
    """A version is the weighted sum of all counts so far; made at once, told later."""

    run: Path
    lag: int
    ready: FeedbackMade | None = None

    def begin(self, action: MakeFeedback) -> None:
        parameters = self.run / "parameters"
        table = np.zeros((1, 1, 16))
        if action.version > 1:
            table += read_parameter_version(
                version_path(parameters, action.version - 1)
            ).potentials.u
        weights = read_weights(self.run / "selections", action.boundary_snapshot - self.lag)
        for job in action.jobs:
            counts = read_result(self.run / "md" / f"{job}.h5").result.counts
            table[0, 0, :8] += weights[job] * counts[0, 0, :8]
        made = ParameterVersion(
            version=action.version,
            potentials=RadialPotentials(u=table, dr_nm=0.1, cutoff_nm=1.0),
            state_names=STATES,
            lipid_labels=("inner A",),
            provenance=json.dumps(action.jobs),
        )
        path = version_path(parameters, action.version)
        if path.exists():
            assert np.array_equal(read_parameter_version(path).potentials.u, table)
        else:
            write_parameter_version(parameters, made)
        self.ready = FeedbackMade(
            version=action.version,
            boundary_snapshot=action.boundary_snapshot,
            jobs=action.jobs,
            crc32=int(table.sum()),
        )

    def poll(self) -> FeedbackMade | None:
        made, self.ready = self.ready, None
        return made


class ToyShell:
    """All of it; time passes by one second a look."""

    name = "toy"

    def __init__(self, run: Path, setup: CampaignSetup, failing: Failing = no_failures) -> None:
        self.time = 0.0
        self.idle = 0
        self.intake = ToyIntake(run)
        self.embedders = ToyEmbedders(run)
        self.pilots = ToyPilots(run, setup.config.molecular_dynamics.slots, failing)
        self.continuum = ToyContinuum(run, setup.config.seed)
        self.feedback = ToyFeedback(run, setup.config.feedback.lag_snapshots)
        self.controls = FolderControls(run)

    def survivors(self) -> Survivors:
        return Survivors()

    def now(self) -> float:
        self.time += 1.0
        return self.time

    def wait(self, seconds: float) -> None:
        self.idle += 1
        assert self.idle < 10_000, "the campaign hangs"

    def close(self) -> None:
        """Nothing outlives the process."""


Prepare = Callable[[ToyShell], None]


def start(run: Path, setup: CampaignSetup) -> None:
    """Make the folder of a run."""
    create_run(run, setup, "preset: small\n")


def carry_on(
    run: Path,
    setup: CampaignSetup,
    *,
    failing: Failing = no_failures,
    prepare: Prepare = lambda shell: None,
    steps: int | None = None,
) -> CampaignState:
    """Open a run and go on to its end, or for so many steps; the state then."""
    with open_run(run, setup, LinearEncoder.version) as opened:
        shell = ToyShell(run, opened.setup, failing)
        prepare(shell)
        coordinator = Coordinator(
            opened.state,
            opened.journal,
            shell,
            PatchSelection(selection_settings(opened.setup)),
            reader(run),
            run / "selections",
        )
        coordinator.begin(pid=1)
        if steps is None:
            coordinator.run()
        else:
            for _ in range(steps):
                coordinator.step()
        return opened.state


def picks(state: CampaignState) -> list[tuple[str, str, float]]:
    """The list of selected patches, which crashes must not change."""
    return [(job.job, job.queue, job.importance) for job in state.order]


def with_rules(state: CampaignState, **values: object) -> CampaignState:
    """A state under other rules."""
    return replace(state, rules=replace(state.rules, **values))


def snapshots_of(state: CampaignState) -> set[int]:
    return {snapshot_of(job.patch_id) for job in state.order}
