"""The state of a campaign: a fold of `apply` over its events, and nothing else.

No Ray, no MPI, no clock, no files. One value a snapshot and one a job are kept, none a patch, so
that millions of patches fit. `apply` checks each event against the conservation laws (DESIGN 4) and
refuses one that would break them, before it changes anything.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from campaign.engine_mix import EngineMix
from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    CampaignFinished,
    CampaignOpened,
    ContinuumEnded,
    ContinuumStarted,
    ControlReceived,
    Event,
    FeedbackMade,
    JobAbandoned,
    JobFailed,
    JobFinished,
    JobStarted,
    Permitted,
    Pick,
    Selected,
    ShellStarted,
    SlotCordoned,
    job_of,
    snapshot_of,
)
from campaign.rules import Rules, boundary_of

HOPELESS = 2  # exit code of ranks that would fail again, such as for bad input


class StateError(ValueError):
    """An event that cannot follow the ones before it."""


class JobStatus(IntEnum):
    """Where a job is."""

    QUEUED = 0
    RUNNING = 1
    DONE = 2
    ABANDONED = 3


@dataclass(slots=True, eq=False)
class Job:
    """One selected patch and what became of it; `apply` alone writes to it."""

    job: str
    patch_id: int
    queue: str
    importance: float
    ordinal: int  # among all selections
    engine: str
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0  # the last one begun
    slot: int = -1  # of the last attempt
    failures: Counter[str] = field(default_factory=Counter)
    message: str = ""  # of the last failure, or the reason it was abandoned
    frames: int = 0
    simulated_us: float = 0.0
    wall_s: float = 0.0
    crc32: int = 0
    version: int = 0  # the parameter version it went into, 0 while none

    @property
    def settled(self) -> bool:
        """Nothing more will come of it."""
        return self.status >= JobStatus.DONE


@dataclass(slots=True, eq=False)
class CampaignState:
    """Everything the events say; `apply` alone writes to it.

    Snapshots pass four gates in order: `ingested` >= `embedded` >= `selected` >= `settled` count
    the snapshots behind each of them.
    """

    rules: Rules
    opened: CampaignOpened | None = None
    shell: ShellStarted | None = None
    finished: str | None = None  # the reason
    draining: bool = False
    stopping: bool = False
    controls: int = 0  # number of the last command

    continuum: int = 0  # incarnation of the last ranks
    continuum_runs: bool = False
    continuum_target: int = -1  # snapshot up to which the last ranks were asked to go
    reached: int = -1  # snapshot at which ranks have ended by themselves
    continuum_failures: int = 0  # in a row without a batch between them
    continuum_message: str = ""

    batches: list[BatchIngested] = field(default_factory=list)
    embedded: int = 0
    selected: int = 0
    settled: int = 0
    permitted: int = -1  # snapshot
    quarantined: dict[int, tuple[int, ...]] = field(default_factory=dict)  # slots by snapshot

    patches_ingested: int = 0
    patches_embedded: int = 0
    patches_quarantined: int = 0
    patches_offered: int = 0  # embedded ones that entered the selector
    patches_discarded: int = 0
    candidates: int = 0  # by the selector's own count

    jobs: dict[str, Job] = field(default_factory=dict)
    order: list[Job] = field(default_factory=list)  # by ordinal
    open_jobs: dict[int, int] = field(default_factory=dict)  # unsettled ones by snapshot
    first_job: list[int] = field(default_factory=lambda: [0])  # ordinal by snapshot selected
    waiting: deque[Job] = field(default_factory=deque)  # never started
    retries: deque[Job] = field(default_factory=deque)
    exhausted: dict[str, Job] = field(default_factory=dict)  # to be abandoned
    running: dict[str, Job] = field(default_factory=dict)
    done: int = 0
    abandoned: int = 0
    cordoned: dict[int, str] = field(default_factory=dict)  # reason by slot

    version: int = 0  # the last parameter version
    fed_back: int = 0  # done jobs behind it
    consumed: int = 0  # ordinal up to which jobs were offered to feedback
    versions: list[FeedbackMade] = field(default_factory=list)
    mix: EngineMix = field(default_factory=EngineMix)

    @property
    def ingested(self) -> int:
        """Number of snapshots whose patches are durable; they are 0 to this, without a gap."""
        return len(self.batches)

    @property
    def queued(self) -> int:
        """Jobs that wait for a slot."""
        return len(self.waiting) + len(self.retries) + len(self.exhausted)

    @property
    def pending_feedback(self) -> int:
        """Done jobs whose result is in no parameter version yet."""
        return self.done - self.fed_back

    def snapshot_picked(self, job: Job) -> int:
        """The snapshot after which a job was selected, which may be later than its patch's."""
        return bisect_right(self.first_job, job.ordinal) - 1

    @property
    def least_last_snapshot(self) -> int:
        """The earliest snapshot that the campaign can still be made to end with."""
        target = self.continuum_target if self.continuum_runs else 0
        return max(target, self.permitted, self.ingested - 1)

    @property
    def continuum_finished(self) -> bool:
        """Every snapshot is durable, and ranks of ours have passed the last boundary."""
        last = self.rules.last_snapshot
        passed = self.reached >= last or not self.rules.launch_continuum
        return self.ingested > last and passed


def initial_state(rules: Rules) -> CampaignState:
    """Before the first event."""
    return CampaignState(rules=rules, mix=EngineMix(dict(rules.mix)))


def apply(state: CampaignState, event: Event) -> CampaignState:
    """The state after an event: the same object, changed.

    Raises StateError, with nothing changed, for an event that cannot follow.
    """
    if state.opened is None and not isinstance(event, CampaignOpened):
        raise StateError(f"a campaign begins with CampaignOpened, not {type(event).__name__}")
    _APPLY[type(event)](state, event)
    return state


def _require(condition: bool, event: Event, reason: str) -> None:
    if not condition:
        raise StateError(f"{event} cannot follow: {reason}")


def _opened(state: CampaignState, event: CampaignOpened) -> None:
    _require(state.opened is None, event, "the campaign is open")
    state.opened = event


def _shell_started(state: CampaignState, event: ShellStarted) -> None:
    last = state.shell.incarnation if state.shell else 0
    _require(event.incarnation > last, event, f"incarnation {last} came before")
    for name in event.surviving:
        _require(name in state.running, event, f"job {name} was not running")
    _require(event.continuum in (0, state.continuum), event, "these ranks are not the last ones")
    state.shell = event
    survivors = set(event.surviving)
    for name in [name for name in state.running if name not in survivors]:
        job = state.running.pop(name)
        job.status = JobStatus.QUEUED
        job.failures["node-lost"] += 1
        state.retries.append(job)
    state.continuum_runs = event.continuum > 0
    state.continuum_failures = 0
    state.cordoned.clear()
    state.draining = state.stopping = False
    state.finished = None


def _continuum_started(state: CampaignState, event: ContinuumStarted) -> None:
    _require(not state.continuum_runs, event, f"ranks of incarnation {state.continuum} run")
    _require(event.incarnation > state.continuum, event, f"incarnation {state.continuum} was first")
    _require(event.from_snapshot < state.ingested, event, "patches in between would be lost")
    state.continuum = event.incarnation
    state.continuum_target = state.rules.last_snapshot
    state.continuum_runs = True


def _continuum_ended(state: CampaignState, event: ContinuumEnded) -> None:
    _require(state.continuum_runs, event, "no ranks run")
    _require(event.incarnation == state.continuum, event, f"incarnation {state.continuum} runs")
    state.continuum_runs = False
    state.continuum_message = event.message
    if event.finished:
        state.reached = max(state.reached, state.continuum_target)
    if event.exit_code == HOPELESS:
        state.continuum_failures = state.rules.continuum_attempts
    elif not event.finished and not (state.draining or state.stopping):
        state.continuum_failures += 1


def _ingested(state: CampaignState, event: BatchIngested) -> None:
    _require(event.snapshot_index == state.ingested, event, f"snapshot {state.ingested} is next")
    _require(0 <= event.controls <= event.count, event, "counts must fit")
    newest = state.batches[-1].incarnation if state.batches else 0
    _require(newest <= event.incarnation, event, f"incarnation {newest} fenced its ranks")
    state.batches.append(event)
    state.patches_ingested += event.count
    state.continuum_failures = 0


def _embedded(state: CampaignState, event: BatchEmbedded) -> None:
    _require(event.snapshot_index == state.embedded, event, f"snapshot {state.embedded} is next")
    _require(state.embedded < state.ingested, event, "it is not ingested")
    count = state.batches[event.snapshot_index].count
    bad = len(event.quarantined)
    _require(bad == len(set(event.quarantined)) <= count, event, f"it has {count} patches")
    state.embedded += 1
    state.patches_embedded += count - bad
    state.patches_quarantined += bad
    if bad:
        state.quarantined[event.snapshot_index] = event.quarantined


def _selected(state: CampaignState, event: Selected) -> None:
    index = event.snapshot_index
    _require(index == state.selected, event, f"snapshot {state.selected} is next")
    _require(index < state.embedded, event, "it is not embedded")
    names = {job_of(pick.patch_id) for pick in event.patches}
    _require(len(names) == len(event.patches), event, "a patch is picked twice")
    _require(state.jobs.keys().isdisjoint(names), event, "a patch was picked before")
    _require(
        all(snapshot_of(pick.patch_id) <= index for pick in event.patches), event, "it is too early"
    )
    offered = state.batches[index].count - len(state.quarantined.get(index, ()))
    left = state.candidates + offered - len(event.patches) - event.discarded
    _require(
        event.candidates == left, event, f"{left} candidates must be left: some are lost or double"
    )
    state.patches_offered += offered
    state.patches_discarded += event.discarded
    state.candidates = event.candidates
    for pick in event.patches:
        _add_job(state, pick)
    state.first_job.append(len(state.order))
    if event.patches:
        state.open_jobs[index] = len(event.patches)
    state.selected += 1
    _advance_settled(state)


def _add_job(state: CampaignState, pick: Pick) -> None:
    job = Job(
        job=job_of(pick.patch_id),
        patch_id=pick.patch_id,
        queue=pick.queue,
        importance=pick.importance,
        ordinal=len(state.order),
        engine=state.mix.take(),
    )
    state.jobs[job.job] = job
    state.order.append(job)
    state.waiting.append(job)


def _job_started(state: CampaignState, event: JobStarted) -> None:
    job = _job(state, event, event.job)
    _require(job.status == JobStatus.QUEUED, event, f"the job is {job.status.name.lower()}")
    _require(job.job not in state.exhausted, event, "its budget is used up")
    _require(event.attempt == job.attempt + 1, event, f"attempt {job.attempt + 1} is next")
    _require(event.engine == job.engine, event, f"its engine is {job.engine}")
    _take_from_queue(state, job)
    job.status, job.attempt, job.slot = JobStatus.RUNNING, event.attempt, event.slot
    state.running[job.job] = job


def _take_from_queue(state: CampaignState, job: Job) -> None:
    queue = state.waiting if job.attempt == 0 else state.retries
    if queue[0] is job:
        queue.popleft()
    else:
        queue.remove(job)


def _running_job(state: CampaignState, event: JobFinished | JobFailed) -> Job:
    job = _job(state, event, event.job)
    _require(job.status == JobStatus.RUNNING, event, f"the job is {job.status.name.lower()}")
    _require(event.attempt == job.attempt, event, f"attempt {job.attempt} runs")
    return job


def _job_finished(state: CampaignState, event: JobFinished) -> None:
    job = _running_job(state, event)
    del state.running[job.job]
    job.status = JobStatus.DONE
    job.crc32, job.frames = event.crc32, event.frames
    job.simulated_us, job.wall_s = event.simulated_us, event.wall_s
    state.done += 1
    _settle(state, job)


def _job_failed(state: CampaignState, event: JobFailed) -> None:
    job = _running_job(state, event)
    del state.running[job.job]
    job.status = JobStatus.QUEUED
    job.failures[event.failure] += 1
    job.message = f"{event.failure}: {event.message}"
    limit = state.rules.attempts.get(event.failure)
    if limit is not None and job.failures[event.failure] >= limit:
        state.exhausted[job.job] = job
    else:
        state.retries.append(job)


def _job_abandoned(state: CampaignState, event: JobAbandoned) -> None:
    job = _job(state, event, event.job)
    _require(job.job in state.exhausted, event, "its budget is not used up")
    del state.exhausted[job.job]
    job.status = JobStatus.ABANDONED
    job.message = event.reason
    state.abandoned += 1
    _settle(state, job)


def _settle(state: CampaignState, job: Job) -> None:
    index = state.snapshot_picked(job)
    state.open_jobs[index] -= 1
    if state.open_jobs[index] == 0:
        del state.open_jobs[index]
        _advance_settled(state)


def _advance_settled(state: CampaignState) -> None:
    while state.settled < state.selected and state.settled not in state.open_jobs:
        state.settled += 1


def _feedback_made(state: CampaignState, event: FeedbackMade) -> None:
    _require(event.version == state.version + 1, event, f"version {state.version + 1} is next")
    boundary = boundary_of(state.rules, event.version)
    _require(event.boundary_snapshot == boundary, event, f"it is due at snapshot {boundary}")
    cut = boundary - state.rules.lag_snapshots
    _require(state.settled > cut, event, f"jobs picked up to snapshot {cut} are not settled")
    due = jobs_behind(state, event.version)
    _require(event.jobs == due, event, f"it must be made of {len(due)} jobs, all due and no other")
    for name in due:
        state.jobs[name].version = event.version
    state.version = event.version
    state.versions.append(event)
    state.fed_back += len(due)
    state.consumed = state.first_job[cut + 1]


def jobs_behind(state: CampaignState, version: int) -> tuple[str, ...]:
    """The done jobs that the next parameter version is the first to use, in order of selection."""
    cut = boundary_of(state.rules, version) - state.rules.lag_snapshots
    jobs = state.order[state.consumed : state.first_job[cut + 1]]
    return tuple(job.job for job in jobs if job.status == JobStatus.DONE)


def _permitted(state: CampaignState, event: Permitted) -> None:
    _require(event.snapshot_index == state.permitted + 1, event, f"{state.permitted + 1} is next")
    state.permitted = event.snapshot_index


def _control(state: CampaignState, event: ControlReceived) -> None:
    _require(event.number > state.controls, event, f"number {state.controls} came before")
    if event.command == "set":
        _require(len(event.arguments) == 2, event, "it must say what to set to which value")
        key, value = event.arguments
        _set(state, event, key, value)
    elif event.command == "drain":
        state.draining = True
    elif event.command == "stop":
        state.stopping = True
    elif event.command == "refused":
        pass
    else:
        raise StateError(f"{event} cannot follow: the command is unknown")
    state.controls = event.number


def _set(state: CampaignState, event: ControlReceived, key: str, value: str) -> None:
    if key == "snapshots":
        last, least = int(value), state.least_last_snapshot
        _require(last >= least, event, f"it cannot end before snapshot {least} any more")
        state.rules = replace(state.rules, last_snapshot=last)
        return
    section, _, engine = key.partition(".")
    _require(section == "mix" and engine in state.mix.shares, event, "the key cannot be set")
    state.mix = state.mix.with_share(engine, float(value))


def _cordoned(state: CampaignState, event: SlotCordoned) -> None:
    state.cordoned[event.slot] = event.reason


def _finished(state: CampaignState, event: CampaignFinished) -> None:
    _require(state.finished is None, event, "the campaign has finished")
    state.finished = event.reason
    state.continuum_runs = False


def _job(state: CampaignState, event: Event, name: str) -> Job:
    job = state.jobs.get(name)
    if job is None:
        raise StateError(f"{event} cannot follow: no such job was selected")
    return job


_APPLY: dict[type[Any], Callable[[CampaignState, Any], None]] = {
    CampaignOpened: _opened,
    ShellStarted: _shell_started,
    ContinuumStarted: _continuum_started,
    ContinuumEnded: _continuum_ended,
    BatchIngested: _ingested,
    BatchEmbedded: _embedded,
    Selected: _selected,
    JobStarted: _job_started,
    JobFinished: _job_finished,
    JobFailed: _job_failed,
    JobAbandoned: _job_abandoned,
    SlotCordoned: _cordoned,
    FeedbackMade: _feedback_made,
    Permitted: _permitted,
    ControlReceived: _control,
    CampaignFinished: _finished,
}
