"""The owner of one node's MD slots, a plain class of which `ray_shell.py` makes actors."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from campaign.molecular_dynamics.job import Completion, JobSpec
from campaign.molecular_dynamics.settings import EnginesSection
from campaign.molecular_dynamics.worker_pool import SlotPool
from campaign.process_identity import die_with_parent

_POOL_LOOK_S = 10.0  # at most, where no worker says anything and none is due
_GATHER_S = 0.005  # after a completion, for others that come with it in one message and one sync


class Pilot:
    """Owner of the MD slots of one node, which run jobs whether or not anybody asks.

    Completions are numbered and kept until whoever asks has the ones before them.
    """

    def __init__(
        self, run: str, number: int, slots: int, engines: EnginesSection, truth: str | None
    ) -> None:
        die_with_parent()
        folder = Path(run) / "md" / ".work" / f"pilot-{number}"
        _share_workspaces(folder)
        self._pool = SlotPool(slots, engines, folder, truth=Path(truth) if truth else None)
        self._attempts: dict[str, int] = {}  # of jobs in slots, as last asked for
        self._completed: deque[tuple[int, Completion]] = deque()
        self._number = 0
        self._news = asyncio.Condition()
        self._spoken = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def start(self, specs: Sequence[str]) -> None:
        """Put jobs into free slots; a job that is in one already goes on as the new attempt."""
        self._spoken.set()  # a worker may turn out to be dead
        held = set(self._pool.running)
        for text in specs:
            spec = JobSpec.from_json(text)
            self._attempts[spec.job] = spec.attempt
            if spec.job in held:
                continue
            held.add(spec.job)
            try:
                self._pool.start(spec)
            except ValueError as error:
                self._keep(_not_started(spec, str(error)))
        await self._tell()

    async def ended(self, after: int, wait_s: float, specs: Sequence[str] = ()) -> dict[str, Any]:
        """Completions numbered above `after`, soon after there are any, and cordoned slots.

        `specs` are started first.
        """
        if specs:
            await self.start(specs)
        self._watch = self._watch or asyncio.create_task(self._look_after_pool())
        while self._completed and self._completed[0][0] <= after:
            self._completed.popleft()
        with suppress(TimeoutError):
            async with self._news, asyncio.timeout(wait_s):
                await self._news.wait_for(lambda: bool(self._completed))
        return {
            "completions": [(number, each.to_json()) for number, each in self._completed],
            "cordoned": self._pool.cordoned,
        }

    async def in_hand(self) -> list[str]:
        """Jobs that run here, or have ended without anybody having asked since."""
        return [*self._pool.running, *(each.job for _, each in self._completed)]

    async def close(self) -> None:
        """End all workers."""
        if self._watch is not None:
            self._watch.cancel()
            asyncio.get_running_loop().remove_reader(self._pool.fileno())
        self._pool.close()

    async def _look_after_pool(self) -> None:
        while True:
            asyncio.get_running_loop().add_reader(self._pool.fileno(), self._hear)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_POOL_LOOK_S, self._pool.patience_s())):
                    await self._spoken.wait()
            if self._spoken.is_set():
                await asyncio.sleep(_GATHER_S)
            self._spoken.clear()
            completions = self._pool.poll()
            for each in completions:
                attempt = self._attempts.pop(each.job, each.attempt)
                self._keep(replace(each, attempt=attempt))
            if completions:
                await self._tell()

    def _hear(self) -> None:
        """A worker has something to say, and will go on saying so until the pool is polled."""
        asyncio.get_running_loop().remove_reader(self._pool.fileno())
        self._spoken.set()

    def _keep(self, completion: Completion) -> None:
        self._number += 1
        self._completed.append((self._number, completion))

    async def _tell(self) -> None:
        if self._completed:
            async with self._news:
                self._news.notify_all()


def _share_workspaces(folder: Path) -> None:
    """Jobs find their checkpoints wherever they ran before."""
    shared = folder.parent / "work"
    shared.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    if not (folder / "work").exists():
        (folder / "work").symlink_to(shared.resolve(), target_is_directory=True)


def _not_started(spec: JobSpec, message: str) -> Completion:
    return Completion(
        job=spec.job,
        attempt=spec.attempt,
        slot=-1,
        wall_s=0.0,
        failure="node-lost",
        message=message,
    )
