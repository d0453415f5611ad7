"""Which process is meant: a pid with its start time, and a mark that children inherit.

A pid alone may belong to somebody else by the time it is read back, and a name never says whose
process it is. A mark is an environment variable whose value only our own children carry.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

import psutil

# Boot time is known to a hundredth of a second, and so are start times.
_CLOCK_TOLERANCE_S = 0.05
_PARENT_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process of one host, once and for all."""

    host: str
    pid: int
    started_s: float  # seconds since the epoch

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """A running process (this one by default); psutil.NoSuchProcess where there is none."""
        process = psutil.Process(pid)
        return cls(
            host=socket.gethostname(), pid=process.pid, started_s=float(process.create_time())
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `as_json`; ValueError where a key is missing or of another type."""
        try:
            return cls(
                host=str(values["host"]),
                pid=int(values["pid"]),
                started_s=float(values["started_s"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the record of a process: {values!r}") from error

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def here(self) -> bool:
        """Whether it is or was a process of this host."""
        return self.host == socket.gethostname()

    def process(self) -> psutil.Process | None:
        """The process if it still runs on this host, and is not another one with its pid."""
        if not self.here():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_s) < _CLOCK_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def marked_processes(variable: str, value: str) -> list[psutil.Process]:
    """Processes of this host started with `variable=value` in their environment, but this one."""
    found = []
    own = psutil.Process().pid
    for process in psutil.process_iter():
        try:
            carries = process.pid != own and process.environ().get(variable) == value
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if carries:
            found.append(process)
    return found


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """All children of children, whatever process group or session they have moved to."""
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def die_with_parent() -> None:
    """Watch, in a thread, that the parent stays the same; when it dies, end at once.

    Ray's workers may go on for minutes after their raylet was killed, and hold locks meanwhile.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def kill(processes: Iterable[psutil.Process], timeout_s: float = 10.0) -> list[psutil.Process]:
    """SIGKILL all and wait; those that are still there after `timeout_s` come back."""
    processes = list(processes)
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
