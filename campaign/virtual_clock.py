"""A clock that stands still until somebody waits, then jumps to the next thing that happens."""

import heapq
from collections.abc import Callable

MICROSECONDS = 1_000_000


class VirtualClock:
    """Times are whole microseconds, so that sums are exact; equal times keep their order."""

    def __init__(self) -> None:
        self.now_us = 0
        self._next = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def now_s(self) -> float:
        """Seconds since the clock was made."""
        return self.now_us / MICROSECONDS

    def call_after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have `action` called when the clock has passed another `delay_s` >= 0 seconds."""
        if not delay_s >= 0:
            raise ValueError(f"a delay must be >= 0 s, got {delay_s}")
        heapq.heappush(
            self._heap, (self.now_us + round(delay_s * MICROSECONDS), self._next, action)
        )
        self._next += 1

    def advance(self) -> bool:
        """Jump to the next time at which something is due and do all of it; False if nothing is."""
        if not self._heap:
            return False
        self.now_us = self._heap[0][0]
        while self._heap and self._heap[0][0] == self.now_us:
            heapq.heappop(self._heap)[2]()
        return True
