"""The bridge between ranks and a campaign on Ray: rank 0's side, the intake actor, and its reader.

A batch travels through shared memory to the intake, which writes it, waits until the coordinator
has it in its journal, and only then answers rank 0. The intake keeps nothing that is not on disk:
its successor finds the files, the permit and the incarnation there.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from campaign.events import BatchIngested
from campaign.process_identity import die_with_parent
from campaign.ray_cluster import namespace_of
from campaign.spool import (
    ArrivedBatch,
    Permit,
    SpoolIntake,
    check_incarnation,
    patch_path,
    read_incarnation,
    read_permit,
    store_batch,
    write_permit,
)
from continuum.patch_batch import PatchBatch

INTAKE = "intake"
NAMESPACE_VARIABLE = "BILAYER_RAY_NAMESPACE"
_ASK_S = 1.0
_LONG_S = 5.0
_LOOK_S = 1.0
_RESTART_LOOK_S = 0.2
ONCE = {"max_task_retries": 0}  # for calls that are asked again anyway


class BridgeDown(ConnectionError):
    """The campaign's side of the bridge is gone."""


class RayTransport:
    """Rank 0's side: a Ray driver of its own, connected to the intake of its run."""

    def __init__(
        self,
        run: Path,
        incarnation: int,
        species: Sequence[str],
        state_names: Sequence[str],
        *,
        compression: int = 0,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect. Raises BridgeDown where there is no cluster or no intake."""
        self._incarnation = incarnation
        self._layout = (tuple(species), tuple(state_names), compression)
        self._waiting = waiting
        hook = sys.excepthook
        try:
            ray.init(
                address=os.environ.get("RAY_ADDRESS", "auto"),
                namespace=os.environ.get(NAMESPACE_VARIABLE) or namespace_of(run),
                log_to_driver=False,
            )
            self._intake = ray.get_actor(INTAKE)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BridgeDown(f"no campaign takes the patches of {run}: {error}") from error
        finally:
            sys.excepthook = hook  # the one that ends all ranks

    def send(self, batch: PatchBatch) -> None:
        self._answer(self._intake.push.remote(self._incarnation, batch, self._layout))

    def wait_permit(self, snapshot_index: int) -> Permit:
        while True:
            asked: Any = self._intake.wait_permit.remote(self._incarnation, snapshot_index, _LONG_S)
            if (permit := self._answer(asked)) is not None:
                return Permit(**permit)

    def _answer(self, reference: Any) -> Any:
        while not ray.wait([reference], timeout=_ASK_S)[0]:
            self._waiting()
        try:
            return ray.get(reference)
        except RayActorError as error:
            raise BridgeDown(f"the campaign's intake is gone: {error}") from error


class Intake:
    """The actor behind the bridge; asynchronous, so that waiting senders stop nobody."""

    def __init__(self, run: str) -> None:
        die_with_parent()
        self._run = Path(run)
        self._arrived: dict[int, tuple[int, ArrivedBatch]] = {}  # incarnation and batch
        self._accepted = -1
        self._permit = read_permit(self._run)
        self._news = asyncio.Condition()

    async def push(self, incarnation: int, batch: PatchBatch, layout: tuple[Any, Any, int]) -> None:
        """Answered once the batch and its journal record are durable.

        Raises Fenced for an older incarnation, DivergentBatch for other content than before.
        """
        species, state_names, compression = layout
        check_incarnation(self._run, incarnation)
        arrived = await asyncio.to_thread(
            store_batch, self._run, batch, species, state_names, compression=compression
        )
        async with self._news:
            self._arrived[batch.snapshot_index] = incarnation, arrived
            self._news.notify_all()
            await self._news.wait_for(lambda: self._accepted >= batch.snapshot_index)

    async def new_batches(self, expected: int, wait_s: float) -> list[dict[str, Any]]:
        """Durable batches from `expected` on, without gaps, as soon as there are any.

        What the coordinator expects tells what it has.
        """
        await self.accepted(expected - 1)
        deadline = time.monotonic() + wait_s
        while not (found := self._from(expected)) and time.monotonic() < deadline:
            await self._listen()
        return found

    async def accepted(self, snapshot_index: int) -> None:
        """Batches up to this one are in the journal."""
        async with self._news:
            self._accepted = max(self._accepted, snapshot_index)
            for index in [index for index in self._arrived if index <= self._accepted]:
                del self._arrived[index]
            self._news.notify_all()

    async def permit(self, snapshot_index: int, parameter_version: int) -> None:
        """The membrane may pass; the permit is durable already."""
        async with self._news:
            self._permit = Permit(
                snapshot_index=snapshot_index, parameter_version=parameter_version
            )
            self._news.notify_all()

    async def wait_permit(
        self, incarnation: int, snapshot_index: int, wait_s: float
    ) -> dict[str, int] | None:
        """The permit once it reaches a boundary; None after `wait_s`. Raises Fenced."""
        deadline = time.monotonic() + wait_s
        while True:
            check_incarnation(self._run, incarnation)
            if self._permit is not None and self._permit.snapshot_index >= snapshot_index:
                return asdict(self._permit)
            if time.monotonic() >= deadline:
                return None
            await self._listen()

    async def _listen(self) -> None:
        """Wait for news; not for long, since files may also come from elsewhere."""
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait(), _LOOK_S)
            except TimeoutError:
                return

    def _from(self, expected: int) -> list[dict[str, Any]]:
        found = []
        while True:
            if expected in self._arrived:
                incarnation, batch = self._arrived[expected]
                found.append(_described(batch, incarnation))
            elif patch_path(self._run, expected).exists() and not found:
                incarnation = read_incarnation(self._run) or 1
                spool = SpoolIntake(self._run, expected)
                return [_described(batch, incarnation) for batch in spool.poll()]
            else:
                return found
            expected += 1


def _described(batch: ArrivedBatch, incarnation: int) -> dict[str, Any]:
    values = {**asdict(batch), "incarnation": incarnation}
    del values["path"]
    return values


class StandingQuestion:
    """A call to an actor that is asked again as soon as its answer has been taken."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._not_before_s = 0.0
        self.reference: Any = None

    def ask(self) -> bool:
        """Ask unless an answer is awaited or the actor is being restarted; whether it was asked."""
        if self.reference is not None or time.monotonic() < self._not_before_s:
            return False
        self.reference = self._ask()
        return True

    def answer(self) -> Any | None:
        """The answer if it is there. Raises RayActorError while the actor is being restarted."""
        self.ask()
        if self.reference is None:
            return None
        if not ray.wait([self.reference], timeout=0, fetch_local=False)[0]:
            return None
        reference, self.reference = self.reference, None
        try:
            return ray.get(reference)
        except RayActorError:
            self._not_before_s = time.monotonic() + _RESTART_LOOK_S
            raise


class BridgeReader:
    """The coordinator's side: `shell_protocol.Intake` over the intake actor."""

    def __init__(self, run: Path, intake: Any) -> None:
        self._run, self._intake = run, intake
        self._expected = 0
        self.question = StandingQuestion(
            lambda: self._intake.new_batches.options(**ONCE).remote(self._expected, _LONG_S)
        )

    def poll(self, expected: int) -> list[BatchIngested]:
        self._expected = expected
        try:
            found = self.question.answer()
        except RayActorError:
            return []  # it is being restarted, and finds on disk what it had
        batches = [BatchIngested(**values) for values in found or []]
        return [batch for batch in batches if batch.snapshot_index >= expected]

    def accepted(self, snapshot_index: int) -> None:
        self._intake.accepted.remote(snapshot_index)

    def permit(self, snapshot_index: int, parameter_version: int) -> None:
        write_permit(
            self._run,
            Permit(snapshot_index=snapshot_index, parameter_version=parameter_version),
        )
        self._intake.permit.remote(snapshot_index, parameter_version)


def first_line(error: BaseException) -> str:
    """Of what Ray has to say, which may be pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
