"""Campaigns without files in which chance decides what is next: any order, failures, deaths."""

from collections.abc import Callable

from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    CampaignFinished,
    CampaignOpened,
    ContinuumEnded,
    ContinuumStarted,
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
)
from campaign.plan import (
    AbandonJob,
    Embed,
    Finish,
    LaunchContinuum,
    MakeFeedback,
    Permit,
    Resources,
    Select,
    StartJob,
    plan,
)
from campaign.rules import Rules, picks_at
from campaign.state import CampaignState, apply, initial_state

PATCHES = 5
OPENED = CampaignOpened(config_hash="h", code_version="1", encoder_version="e")
Choose = Callable[[int], int]  # n -> one of 0 .. n - 1
FAILURES = ("crash", "timeout", "bad-output", "bad-input")


class RandomCampaign:
    """`step` lets one of the things happen that may happen now; `events` is all that did."""

    def __init__(self, rules: Rules, choose: Choose, slots: int = 2) -> None:
        self.state: CampaignState = initial_state(rules)
        self.events: list[Event] = []
        self.choose, self.slots = choose, slots
        self.pool: dict[int, list[int]] = {}  # candidates' ids, only for picking
        self.candidates: list[int] = []
        self.membrane = -1  # last snapshot sent
        self.answers: list[Event] = []
        self.embedding = 0
        self.making = False
        self.record(OPENED)
        self.restart()

    def record(self, event: Event) -> None:
        apply(self.state, event)
        self.events.append(event)

    def restart(self) -> None:
        """A new coordinator: whatever was under way is lost."""
        incarnation = self.state.shell.incarnation + 1 if self.state.shell else 1
        self.answers, self.embedding, self.making = [], 0, False
        self.record(ShellStarted(shell="chance", pid=1, incarnation=incarnation))

    def step(self) -> bool:
        """One thing; False when the campaign has finished."""
        if self.state.finished is not None:
            return False
        resources = Resources(
            free_slots=self.slots - len(self.state.running),
            usable_slots=self.slots,
            embedding=self.embedding,
            feedback_busy=self.making,
        )
        happenings: list[Callable[[], None]] = [
            lambda action=action: self.carry_out(action) for action in plan(self.state, resources)
        ]
        happenings += [lambda answer=answer: self.answer(answer) for answer in self.answers]
        if self.state.continuum_runs:
            happenings.append(self.sail)
        if happenings:
            happenings[self.choose(len(happenings))]()
        return True

    def answer(self, event: Event) -> None:
        if isinstance(event, BatchEmbedded):
            if event.snapshot_index != self.state.embedded:
                return
            self.embedding -= 1
        self.answers.remove(event)
        self.making = self.making and not isinstance(event, FeedbackMade)
        self.record(event)

    def sail(self) -> None:
        """The membrane sends its next snapshot, ends, or breaks down."""
        state = self.state
        snapshot = self.membrane + 1
        if self.choose(12) == 0 and state.continuum_failures < state.rules.continuum_attempts - 1:
            self.membrane = state.ingested - 1 if self.choose(2) else self.membrane
            self.end(finished=False)
        elif snapshot > state.rules.last_snapshot:
            if state.permitted >= state.rules.last_snapshot:
                self.end(finished=True)
        elif state.permitted >= snapshot - 1:
            self.membrane = snapshot
            self.record(
                BatchIngested(
                    snapshot_index=snapshot,
                    incarnation=state.continuum,
                    time_us=float(snapshot),
                    count=PATCHES,
                    controls=1,
                    crc32=snapshot,
                    parameter_version=state.version,
                )
            )

    def end(self, *, finished: bool) -> None:
        code = 0 if finished else 1
        self.record(
            ContinuumEnded(incarnation=self.state.continuum, exit_code=code, finished=finished)
        )

    def carry_out(self, action: object) -> None:
        state = self.state
        match action:
            case LaunchContinuum(incarnation=incarnation):
                self.record(
                    ContinuumStarted(incarnation=incarnation, from_snapshot=state.ingested - 1)
                )
            case Embed(snapshot_index=snapshot):
                if snapshot == state.embedded + self.embedding:  # asked for in order
                    bad = (snapshot % PATCHES,) if snapshot % 3 == 0 else ()
                    self.embedding += 1
                    self.answers.append(
                        BatchEmbedded(
                            snapshot_index=snapshot, encoder_version="e", crc32=1, quarantined=bad
                        )
                    )
            case Select(snapshot_index=snapshot):
                if snapshot == state.selected:
                    self.select(snapshot)
            case MakeFeedback(version=version, boundary_snapshot=boundary, jobs=jobs):
                self.making = True
                self.answers.append(
                    FeedbackMade(version=version, boundary_snapshot=boundary, jobs=jobs, crc32=1)
                )
            case Permit(snapshot_index=snapshot):
                if snapshot == state.permitted + 1:
                    self.record(Permitted(snapshot_index=snapshot))
            case Finish(reason=reason):
                self.record(CampaignFinished(reason=reason))
            case _:
                self.see_to_job(action)

    def see_to_job(self, action: object) -> None:
        match action:
            case StartJob(job=job, attempt=attempt, engine=engine):
                self.record(JobStarted(job=job, attempt=attempt, slot=0, engine=engine))
                self.answers.append(self.ending(job, attempt))
            case AbandonJob(job=job, reason=reason):
                self.record(JobAbandoned(job=job, reason=reason))

    def ending(self, job: str, attempt: int) -> Event:
        fate = self.choose(4 + len(FAILURES))
        if fate < len(FAILURES):
            return JobFailed(job=job, attempt=attempt, failure=FAILURES[fate], message="chance")
        return JobFinished(
            job=job, attempt=attempt, crc32=1, frames=1, simulated_us=1.0, wall_s=1.0
        )

    def select(self, snapshot: int) -> None:
        """Picks the least ids, after a cap on candidates has thrown out the greatest."""
        bad = self.state.quarantined.get(snapshot, ())
        ids = [snapshot << 20 | slot for slot in range(PATCHES) if slot not in bad]
        pool = sorted(self.candidates + ids)
        kept = pool[:12]
        n = min(picks_at(self.state.rules, snapshot), len(kept))
        picks = tuple(Pick(id_, "patches", 1.0) for id_ in kept[-n:] if n)
        self.candidates = kept[:-n] if n else kept
        self.record(
            Selected(
                snapshot_index=snapshot,
                patches=picks,
                discarded=len(pool) - len(kept),
                candidates=len(self.candidates),
            )
        )
