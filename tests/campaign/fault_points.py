"""A process that dies at its n-th change of the disk, in one process.

Points are counted at the calls that make changes visible: a rename or link (before and after it)
and an append to a journal (before, in the middle of and after it). After the point every further
change is refused, as by a dead process: what cleans up on the way out changes nothing either.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Killed(BaseException):
    """The process is dead; nothing that runs meanwhile is real."""


class FaultPoints:
    """Counts points; dies at number `at`, never if that is None."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0
        self.dead = False
        self.names: list[str] = []

    def here(self, name: str) -> None:
        """A point."""
        self.alive()
        self.names.append(name)
        self.passed += 1
        if self.passed - 1 == self.at:
            self.dead = True
            raise Killed(name)

    def alive(self) -> None:
        if self.dead:
            raise Killed("already")


@contextmanager
def fault_points(monkeypatch: pytest.MonkeyPatch, points: FaultPoints) -> Iterator[FaultPoints]:
    """Within the block, changes of the disk pass `points`; nothing is synced, for speed."""
    real = {name: getattr(os, name) for name in ("replace", "link", "write", "unlink")}

    def around(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            points.here(f"before {name} {arguments[-1]}")
            result = real[name](*arguments, **options)
            points.here(f"after {name} {arguments[-1]}")
            return result

        return call

    def write(descriptor: int, data: memoryview) -> int:
        points.here("before append")
        half = len(data) // 2
        real["write"](descriptor, data[:half])
        points.here("in the middle of append")
        done = half + real["write"](descriptor, data[half:])
        points.here("after append")
        return done

    def unlink(*arguments: Any, **options: Any) -> None:
        points.alive()
        real["unlink"](*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", around("replace"))
        patch.setattr(os, "link", around("link"))
        patch.setattr(os, "write", write)
        patch.setattr(os, "unlink", unlink)
        patch.setattr(os, "fsync", lambda descriptor: points.alive())
        yield points
