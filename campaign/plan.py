"""What to do next: `plan(state, resources) -> actions`, a pure function without memory.

It is level-triggered: what is still to be done follows from the state alone, so that after a crash
the same actions come out again. `Resources` says what the shell has in hand meanwhile, and bounds
the work of a call; nothing here grows with the campaign.
"""

import hashlib
from dataclasses import dataclass
from itertools import chain, islice

from campaign.events import snapshot_of
from campaign.rules import boundary_of
from campaign.state import CampaignState, Job, jobs_behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the shell can take on, and what it has in hand that is in no event yet."""

    free_slots: int
    usable_slots: int  # not cordoned
    embedding: int = 0  # batches in the embedders' hands, from `state.embedded` on
    feedback_busy: bool = False
    selections: int = 8  # at most so many in one plan


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchContinuum:
    """Start the ranks."""

    incarnation: int
    last_snapshot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopContinuum:
    """End the ranks: the campaign drains."""

    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """Embed the patches of a snapshot."""

    snapshot_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Offer the embeddings of a snapshot to the selector, and pick."""

    snapshot_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob:
    """Begin an attempt at a job; `seed` depends on campaign and patch alone."""

    job: str
    attempt: int
    patch_id: int
    engine: str
    seed: int
    duration_us: float
    time_limit_s: float

    @property
    def snapshot_index(self) -> int:
        """Where the patch is."""
        return snapshot_of(self.patch_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonJob:
    """Give a job up."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeFeedback:
    """Make a parameter version of `earlier` jobs and `jobs`, which it is the first to use."""

    version: int
    boundary_snapshot: int
    jobs: tuple[str, ...]
    earlier: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Let the membrane pass the boundary of a snapshot, where this is the newest version."""

    snapshot_index: int
    parameter_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the campaign."""

    reason: str


Action = (
    LaunchContinuum
    | StopContinuum
    | Embed
    | Select
    | StartJob
    | AbandonJob
    | MakeFeedback
    | Permit
    | Finish
)


def plan(state: CampaignState, resources: Resources) -> list[Action]:
    """What may be done now."""
    if state.finished is not None:
        return []
    if state.stopping:
        return [Finish(reason="stopped")]
    actions: list[Action] = [
        AbandonJob(job=job.job, reason=job.message) for job in state.exhausted.values()
    ]
    ending = _ending(state, resources)
    if ending is not None:
        return [*actions, ending]
    if state.draining:
        if state.continuum_runs:
            actions.append(StopContinuum(incarnation=state.continuum))
        return actions
    actions += _membrane(state)
    actions += _patches(state, resources)
    actions += _jobs(state, resources)
    actions += _feedback(state, resources)
    return actions


def job_seed(campaign_seed: int, patch_id: int) -> int:
    """Of 63 bits, the same for every attempt at a job, in every slot."""
    text = f"molecular dynamics {campaign_seed} {patch_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def _ending(state: CampaignState, resources: Resources) -> Finish | None:
    if state.draining:
        if not state.running and not state.continuum_runs:
            return Finish(reason="drained")
        return None
    if state.continuum_failures >= state.rules.continuum_attempts:
        return Finish(
            reason=f"failed: the continuum ended {state.continuum_failures} times without a new"
            f" snapshot ({state.continuum_message})"
        )
    jobs_left = state.queued + len(state.running)
    if jobs_left and resources.usable_slots == 0:
        reasons = next(iter(state.cordoned.values()), "there are none")
        return Finish(reason=f"failed: no MD slot is usable ({reasons})")
    membrane_done = state.continuum_finished and not state.continuum_runs
    if membrane_done and state.selected == state.ingested and not jobs_left:
        return None if _version_due(state) else Finish(reason="complete")
    return None


def _membrane(state: CampaignState) -> list[Action]:
    rules = state.rules
    actions: list[Action] = []
    if rules.launch_continuum and not state.continuum_runs and not state.continuum_finished:
        actions.append(
            LaunchContinuum(incarnation=state.continuum + 1, last_snapshot=rules.last_snapshot)
        )
    crowded = rules.max_queued is not None and state.queued > rules.max_queued
    last = min(rules.last_snapshot, state.selected + rules.credit - 1)
    if rules.feedback and rules.pacing == "lockstep":
        last = min(last, boundary_of(rules, state.version + 1) - 1)
    if not crowded:
        actions += [
            Permit(snapshot_index=snapshot, parameter_version=state.version)
            for snapshot in range(state.permitted + 1, last + 1)
        ]
    return actions


def _patches(state: CampaignState, resources: Resources) -> list[Action]:
    first = state.embedded + resources.embedding
    last = min(state.ingested, state.embedded + state.rules.embed_ahead)
    actions: list[Action] = [Embed(snapshot_index=snapshot) for snapshot in range(first, last)]
    ready = min(state.embedded, state.selected + resources.selections)
    actions += [Select(snapshot_index=snapshot) for snapshot in range(state.selected, ready)]
    return actions


def _jobs(state: CampaignState, resources: Resources) -> list[Action]:
    return [
        _start(state, job)
        for job in islice(chain(state.retries, state.waiting), max(resources.free_slots, 0))
    ]


def _start(state: CampaignState, job: Job) -> StartJob:
    return StartJob(
        job=job.job,
        attempt=job.attempt + 1,
        patch_id=job.patch_id,
        engine=job.engine,
        seed=job_seed(state.rules.seed, job.patch_id),
        duration_us=state.rules.duration_us,
        time_limit_s=state.rules.time_limit_s,
    )


def _version_due(state: CampaignState) -> int | None:
    """The next parameter version, if everything it is made of is there.

    In lockstep it must not appear before the membrane has come to its boundary, or ranks would take
    it up too early.
    """
    rules = state.rules
    if not rules.feedback:
        return None
    version = state.version + 1
    boundary = boundary_of(rules, version)
    settled = state.settled > boundary - rules.lag_snapshots
    arrived = rules.pacing == "free" or state.ingested > boundary
    return version if settled and arrived and boundary <= rules.last_snapshot else None


def _feedback(state: CampaignState, resources: Resources) -> list[Action]:
    version = _version_due(state)
    if version is None or resources.feedback_busy:
        return []
    return [
        MakeFeedback(
            version=version,
            boundary_snapshot=boundary_of(state.rules, version),
            jobs=jobs_behind(state, version),
            earlier=tuple(job for made in state.versions for job in made.jobs),
        )
    ]
