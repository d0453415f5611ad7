"""The coordinator's side of the pilots: seats, starts in bundles, and jobs lost with a pilot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from campaign.events import JobFailed, JobFinished, SlotCordoned
from campaign.local_executor import event_of, job_spec
from campaign.molecular_dynamics.job import Completion
from campaign.plan import StartJob
from campaign.ray_bridge import StandingQuestion, first_line
from campaign.shell_protocol import Slots

_LONG_S = 5.0
_ANSWER_LIMIT_S = 300.0


@dataclass(slots=True, eq=False)
class _PilotHand:
    """What the coordinator knows of a pilot: seats are numbered across all pilots."""

    actor: Any
    question: StandingQuestion
    free: list[int]
    seats: int
    first_seat: int
    acknowledged: int = 0
    running: dict[str, tuple[int, int]] = field(default_factory=dict)  # seat, attempt
    to_start: list[str] = field(default_factory=list)
    cordoned: dict[int, str] = field(default_factory=dict)  # by the pilot's own slot
    silent: bool = True  # it has not answered since it was started

    def take_starts(self) -> list[str]:
        """Jobs to be sent."""
        starts, self.to_start = self.to_start, []
        return starts

    @property
    def room(self) -> int:
        return 0 if self.silent else max(0, len(self.free) - len(self.cordoned))


class RayPilots:
    """MD slots of all nodes; starts travel in bundles, one a step and pilot."""

    def __init__(self, run: Path, actors: Sequence[tuple[Any, int]]) -> None:
        self._run = run
        self._hands: list[_PilotHand] = []
        self._adopted: dict[str, _PilotHand] = {}
        first = 0
        for actor, seats in actors:
            self._hands.append(self._hand(actor, first, seats))
            first += seats

    @property
    def references(self) -> list[Any]:
        return [h.question.reference for h in self._hands if h.question.reference is not None]

    def slots(self) -> Slots:
        return Slots(
            total=sum(hand.seats for hand in self._hands),
            free=sum(hand.room for hand in self._hands),
            cordoned=sum(len(hand.cordoned) for hand in self._hands),
        )

    def survivors(self) -> tuple[str, ...]:
        """Jobs that pilots still have in hand from an earlier coordinator; they keep seats."""
        for hand in self._hands:
            asked = hand.actor.in_hand.options(max_task_retries=-1).remote()
            for job in ray.get(asked, timeout=_ANSWER_LIMIT_S):
                self._adopted[job] = hand
                if hand.free:
                    hand.running[job] = hand.free.pop(), 0
        return tuple(self._adopted)

    def start(self, job: StartJob) -> int:
        hand = self._adopted.get(job.job) or max(self._hands, key=lambda hand: hand.room)
        known = hand.running.get(job.job)
        seat = known[0] if known else hand.free.pop()
        hand.running[job.job] = seat, job.attempt
        hand.to_start.append(job_spec(self._run, job).to_json())
        return seat

    def flush(self) -> None:
        """Send what has been started since the last time, with a question if one is due."""
        for hand in self._hands:
            if hand.to_start and not hand.question.ask():
                hand.actor.start.remote(hand.take_starts())

    def poll(self) -> list[JobFinished | JobFailed | SlotCordoned]:
        self.flush()
        events: list[JobFinished | JobFailed | SlotCordoned] = []
        for hand in list(self._hands):
            try:
                answer = hand.question.answer()
            except RayActorError as error:
                events += self._lost(hand, error)
                continue
            if answer is not None:
                events += self._heard(hand, answer)
        return events

    def _hand(self, actor: Any, first_seat: int, seats: int) -> _PilotHand:
        free = list(range(first_seat + seats - 1, first_seat - 1, -1))
        hand = _PilotHand(actor, StandingQuestion(lambda: None), free, seats, first_seat)
        hand.question = StandingQuestion(
            lambda: actor.ended.remote(
                hand.acknowledged, 0.0 if hand.silent else _LONG_S, hand.take_starts()
            )
        )
        return hand

    def _heard(
        self, hand: _PilotHand, answer: dict[str, Any]
    ) -> Iterator[JobFinished | JobFailed | SlotCordoned]:
        hand.silent = False
        for number, text in answer["completions"]:
            if number <= hand.acknowledged:
                continue
            hand.acknowledged = number
            completion = Completion.from_json(text)
            self._leave(hand, completion.job)
            yield event_of(completion)
        for slot, reason in answer["cordoned"].items():
            if slot not in hand.cordoned:
                hand.cordoned[slot] = reason
                yield SlotCordoned(slot=hand.first_seat + slot, reason=reason)

    def _lost(self, hand: _PilotHand, error: RayActorError) -> Iterator[JobFailed]:
        """A pilot died with its jobs; Ray restarts it, unless its node is gone for good."""
        lost = dict(hand.running)
        hand.acknowledged, hand.cordoned, hand.to_start, hand.silent = 0, {}, [], True
        if isinstance(error, ActorDiedError) and not isinstance(error, ActorUnavailableError):
            self._hands.remove(hand)
        for job, (_, attempt) in lost.items():
            self._leave(hand, job)
            yield JobFailed(
                job=job,
                attempt=attempt,
                failure="node-lost",
                message=f"its pilot died: {first_line(error)}",
            )

    def _leave(self, hand: _PilotHand, job: str) -> None:
        self._adopted.pop(job, None)
        seat, _ = hand.running.pop(job, (-1, 0))
        if seat >= 0:
            hand.free.append(seat)
