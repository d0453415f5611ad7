"""The loop of a campaign: events into the journal, actions out to the shell.

Exactly once: what an event speaks of is durable before the event, the event is durable before
anybody is told of it, and every action may be repeated. A coordinator that dies at any point is
replaced by one that folds the journal and derives the outstanding actions again.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from campaign.events import (
    BatchEmbedded,
    CampaignFinished,
    ContinuumStarted,
    ControlReceived,
    Event,
    JobAbandoned,
    JobFailed,
    JobFinished,
    JobStarted,
    Permitted,
    Pick,
    Selected,
    ShellStarted,
    SlotCordoned,
)
from campaign.journal import EventSink
from campaign.plan import (
    AbandonJob,
    Action,
    Embed,
    Finish,
    LaunchContinuum,
    MakeFeedback,
    Permit,
    Resources,
    Select,
    StartJob,
    StopContinuum,
    plan,
)
from campaign.rules import picks_at, version_behind
from campaign.selection import PatchSelection, ReadEmbeddings, recover
from campaign.selection_weights import write_weights
from campaign.shell_protocol import EmbeddingFailed, FeedbackError, Shell
from campaign.state import CampaignState, JobStatus, apply

LOGGER = logging.getLogger(__name__)
EMBEDDING_ATTEMPTS = 3
IDLE_S = 0.02

Watcher = Callable[[CampaignState, Event], None]


def nobody(state: CampaignState, event: Event) -> None:
    """The watcher that watches nothing."""


class Coordinator:
    """One campaign under one shell; `step` does what can be done now, `run` goes on to the end."""

    def __init__(
        self,
        state: CampaignState,
        journal: EventSink,
        shell: Shell,
        selection: PatchSelection,
        read_embeddings: ReadEmbeddings,
        selections: Path | None = None,
        watch: Watcher = nobody,
    ) -> None:
        """`selections` is where the selector's states and weights are kept; None: nowhere."""
        self.state, self.journal, self.shell = state, journal, shell
        self.selection, self.read_embeddings = selection, read_embeddings
        self.selections, self.watch = selections, watch
        self._recorded = 0
        self._to_accept: list[int] = []  # batches whose senders may be told after the commit
        self._to_permit: Permit | None = None
        self._asked = state.embedded  # snapshots the embedders were asked for
        self._embedded: dict[int, BatchEmbedded] = {}  # out of turn
        self._embedding_failures: dict[int, int] = {}
        self._making = 0  # the parameter version in hand
        self._saved = 0  # snapshots in the last saved state of the selector

    def begin(self, pid: int) -> None:
        """Take over: bring the selector back, say that a shell has started, repeat the permit.

        Raises SelectionDivergence where the selector disagrees with the journal.
        """
        state = self.state
        recover(
            self.selection,
            self.selections,
            state.selected,
            self.read_embeddings,
            lambda snapshot: picks_of(state, snapshot),
        )
        self._saved = self.selection.snapshots
        survivors = self.shell.survivors()
        self._record(
            ShellStarted(
                shell=self.shell.name,
                pid=pid,
                incarnation=1 + (state.shell.incarnation if state.shell else 0),
                surviving=tuple(job for job in survivors.jobs if job in state.running),
                continuum=survivors.continuum if survivors.continuum == state.continuum else 0,
            )
        )
        if state.permitted >= 0:
            self._to_permit = Permit(
                snapshot_index=state.permitted, parameter_version=state.version
            )
        self._commit()

    def run(self) -> str:
        """Go on until the campaign has finished; the reason."""
        while self.state.finished is None:
            if not self.step():
                self.shell.wait(IDLE_S)
        self._commit()
        return self.state.finished

    def step(self) -> bool:
        """Take in what has happened, then do what follows from it; whether there was anything.

        What was done is made durable together with what is taken in next, at once: an action whose
        event is lost is one that a successor repeats.
        """
        before = self._recorded, self._asked, self._making
        self._take_in()
        self._commit()
        for action in self._plan():
            self._carry_out(action)
        self._save_selection()
        return before != (self._recorded, self._asked, self._making)

    def _record(self, event: Event) -> None:
        apply(self.state, event)
        self.journal.append(event, self.shell.now())
        self._recorded += 1
        self.watch(self.state, event)

    def _commit(self) -> None:
        """Make the events durable; only then tell those who wait for them."""
        self.journal.commit()
        for snapshot in self._to_accept:
            self.shell.intake.accepted(snapshot)
        self._to_accept.clear()
        if self._to_permit is not None:
            permit, self._to_permit = self._to_permit, None
            self.shell.intake.permit(permit.snapshot_index, permit.parameter_version)

    def _take_in(self) -> None:
        for command in self.shell.controls.poll(self.state.controls):
            self._obey(command)
        ended = self.shell.continuum.poll()  # before the batches, so that none comes after its end
        for batch in self.shell.intake.poll(self.state.ingested):
            self._record(batch)
            self._to_accept.append(batch.snapshot_index)
        if ended is not None and ended.incarnation == self.state.continuum:
            self._record(ended)
        self._take_embeddings()
        for event in self.shell.pilots.poll():
            self._take_job_event(event)
        self._take_feedback()

    def _obey(self, command: ControlReceived) -> None:
        try:
            self._record(command)
        except ValueError as error:
            LOGGER.warning("%s", error)
            refused = ControlReceived(
                number=command.number, command="refused", arguments=(str(error),)
            )
            self._record(refused)

    def _take_embeddings(self) -> None:
        for result in self.shell.embedders.poll():
            if isinstance(result, EmbeddingFailed):
                self._embedding_failed(result)
            elif result.snapshot_index >= self.state.embedded:
                self._embedded[result.snapshot_index] = result
        while self.state.embedded in self._embedded:
            self._record(self._embedded.pop(self.state.embedded))

    def _embedding_failed(self, failed: EmbeddingFailed) -> None:
        snapshot = failed.snapshot_index
        count = self._embedding_failures.get(snapshot, 0) + 1
        self._embedding_failures[snapshot] = count
        LOGGER.warning("snapshot %d was not embedded: %s", snapshot, failed.message)
        if count < EMBEDDING_ATTEMPTS:
            self.shell.embedders.embed(snapshot)
        else:
            self._fail(f"snapshot {snapshot} cannot be embedded ({failed.message})")

    def _take_job_event(self, event: JobFinished | JobFailed | SlotCordoned) -> None:
        if not isinstance(event, SlotCordoned):
            job = self.state.jobs.get(event.job)
            if job is None or job.status != JobStatus.RUNNING or job.attempt != event.attempt:
                LOGGER.warning("an answer to attempt %d of %s is stale", event.attempt, event.job)
                return
        self._record(event)

    def _take_feedback(self) -> None:
        try:
            made = self.shell.feedback.poll()
        except FeedbackError as error:
            self._fail(f"no parameter version {self._making} ({error})")
            return
        if made is not None:
            self._record(made)
            self._making = 0

    def _fail(self, reason: str) -> None:
        if self.state.finished is None:
            self._record(CampaignFinished(reason=f"failed: {reason}"))

    def _plan(self) -> list[Action]:
        slots = self.shell.pilots.slots()
        return plan(
            self.state,
            Resources(
                free_slots=slots.free,
                usable_slots=slots.total - slots.cordoned,
                embedding=self._asked - self.state.embedded,
                feedback_busy=self._making > 0,
            ),
        )

    def _carry_out(self, action: Action) -> None:
        match action:
            case StartJob():
                self._start(action)
            case Embed(snapshot_index=snapshot):
                self.shell.embedders.embed(snapshot)
                self._asked = snapshot + 1
            case Select(snapshot_index=snapshot):
                self._select(snapshot)
            case Permit(snapshot_index=snapshot):
                self._record(Permitted(snapshot_index=snapshot))
                self._to_permit = action
            case MakeFeedback():
                self.shell.feedback.begin(action)
                self._making = action.version
            case AbandonJob():
                self._record(JobAbandoned(job=action.job, reason=action.reason))
            case LaunchContinuum(incarnation=incarnation):
                begun = self.shell.continuum.launch(incarnation, action.last_snapshot)
                self._record(ContinuumStarted(incarnation=incarnation, from_snapshot=begun))
            case StopContinuum():
                self.shell.continuum.stop()
            case Finish():
                self._record(CampaignFinished(reason=action.reason))

    def _start(self, action: StartJob) -> None:
        slot = self.shell.pilots.start(action)
        self._record(
            JobStarted(job=action.job, attempt=action.attempt, slot=slot, engine=action.engine)
        )

    def _select(self, snapshot: int) -> None:
        rules = self.state.rules
        outcome = self.selection.advance(self.read_embeddings(snapshot), picks_at(rules, snapshot))
        if self.selections is not None and version_behind(rules, snapshot) is not None:
            write_weights(self.selections, snapshot, self.selection.weights())
        self._record(
            Selected(
                snapshot_index=snapshot,
                patches=outcome.patches,
                discarded=outcome.discarded,
                candidates=outcome.candidates,
            )
        )

    def _save_selection(self) -> None:
        """Keep the selector's state now and then; only once its selections are durable."""
        every, done = self.selection.settings.save_every, self.selection.snapshots
        if self.selections is not None and done // every > self._saved // every:
            self._commit()
            self.selection.save(self.selections)
            self._saved = done


def picks_of(state: CampaignState, snapshot: int) -> tuple[Pick, ...]:
    """What was picked after a snapshot."""
    first, last = state.first_job[snapshot : snapshot + 2]
    return tuple(Pick(job.patch_id, job.queue, job.importance) for job in state.order[first:last])
