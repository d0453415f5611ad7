"""One coordinator a run: a lock that ends with its process, however that dies."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

_PATIENCE_S = 1.0  # `holder` takes the lock for an instant


class RunInUse(ValueError):
    """A live campaign works in this folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds or last held the lock."""

    host: str
    pid: int


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a journal's folder. Raises RunInUse, naming who holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _take(descriptor, patience_s=_PATIENCE_S):
            other = _read(path)
            who = f"process {other.pid} on {other.host}" if other else "another process"
            raise RunInUse(f"{folder.parent} is in use by a live campaign: {who}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _text().encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(folder: Path) -> Holder | None:
    """Who works on a run now; None where nobody does."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _take(descriptor, patience_s=0.0, how=fcntl.LOCK_SH):
            return None
        return _read(path) or Holder(host="unknown", pid=0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, *, patience_s: float, how: int = fcntl.LOCK_EX) -> bool:
    end = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        else:
            return True


def _text() -> str:
    return json.dumps(asdict(Holder(host=socket.gethostname(), pid=os.getpid())))


def _read(path: Path) -> Holder | None:
    try:
        values = json.loads(path.read_text())
        return Holder(host=str(values["host"]), pid=int(values["pid"]))
    except (ValueError, KeyError, TypeError):
        return None
