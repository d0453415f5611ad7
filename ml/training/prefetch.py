"""The next batches are read in a thread while the model works on this one."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Runs `loads` in order in one thread, at most `ahead` results before they are taken.

    `waited_s` is the time the consumer stood still. An error of a load is raised at its turn.
    """

    def __init__(self, loads: Sequence[Callable[[], T]], ahead: int = 2) -> None:
        self._loads = loads
        self._ahead = ahead
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[T]:
        pending: deque[Future[T]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            upcoming = iter(self._loads)
            try:
                for _ in self._loads:
                    while len(pending) < self._ahead and (load := next(upcoming, None)):
                        pending.append(thread.submit(load))
                    began = time.perf_counter()
                    batch = pending.popleft().result()
                    self.waited_s += time.perf_counter() - began
                    yield batch
            finally:
                for future in pending:
                    future.cancel()
