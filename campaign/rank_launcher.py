"""What starts the continuum's ranks, a plain class of which `ray_shell.py` makes an actor."""

import asyncio
import time
from dataclasses import asdict
from typing import Any

from campaign.mpi_launcher import LaunchEnd, LaunchSettings, MpiLauncher
from campaign.process_identity import die_with_parent

_LAUNCHER_LOOK_S = 0.5


class RankLauncher:
    """Starts and watches the ranks from inside the placement group that holds their CPUs.

    Every call may be repeated, also to a successor, which has no ranks: they died with this.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        die_with_parent()
        self._launcher = MpiLauncher(settings)
        self._running = 0
        self._end: LaunchEnd | None = None

    async def launch(self, incarnation: int, last_snapshot: int) -> int:
        """The snapshot the ranks continue from. Raises LaunchError."""
        self._running, self._end = 0, None
        continues_from = await asyncio.to_thread(self._launcher.launch, incarnation, last_snapshot)
        self._running = incarnation
        return continues_from

    async def ended(self, incarnation: int, wait_s: float) -> dict[str, Any] | None:
        """How an incarnation ended; None while it runs on."""
        deadline = time.monotonic() + wait_s
        while self._running == incarnation:
            end = self._launcher.poll()
            if end is not None:
                self._running, self._end = 0, end
            elif time.monotonic() >= deadline:
                return None
            else:
                await asyncio.sleep(_LAUNCHER_LOOK_S)
        if self._end is not None and self._end.incarnation == incarnation:
            return asdict(self._end)
        lost = "its launcher was started anew"
        return asdict(
            LaunchEnd(incarnation=incarnation, exit_code=-1, finished=False, message=lost)
        )

    async def running(self) -> int:
        """The incarnation that runs, 0 if none does."""
        return self._running

    async def stop(self) -> None:
        """End the ranks."""
        stopped, self._running = self._running, 0
        await asyncio.to_thread(self._launcher.stop)
        if stopped:
            self._end = LaunchEnd(
                incarnation=stopped, exit_code=0, finished=False, message="stopped"
            )

    async def end_stale(self) -> list[int]:
        """Kill ranks of this run that nobody watches any more, unless this launcher does."""
        return [] if self._running else await asyncio.to_thread(self._launcher.end_stale)
