"""Slots for molecular dynamics: one worker process each, kept alive from job to job.

A job ends in exactly one completion, told when its result is durable: done, failed by itself, over
its time limit (its process group is killed), or dead with its process. A dead worker is replaced,
and jobs that waited behind the one it ran are run by its successor. A slot on which several
different jobs fail one after the other is cordoned.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import campaign
from campaign.events import FailureClass
from campaign.molecular_dynamics.job import Completion, JobSpec
from campaign.molecular_dynamics.settings import EnginesSection
from campaign.molecular_dynamics.worker_setup import READY, WorkerSetup
from continuum.atomic_file import sync

MOST_PREFETCH = 63  # that many jobs fit into a pipe
_STARTS_IN_VAIN = 3
_START_LIMIT_S = 300.0
_LOG_TAIL = 300
_READ_BYTES = 1 << 20
_OOM_EVENTS = Path("/sys/fs/cgroup/memory.events")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(slots=True, kw_only=True, eq=False)
class _Slot:
    """One worker and the jobs it was given, the first of which it runs."""

    number: int
    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    jobs: deque[JobSpec] = field(default_factory=deque)
    received: bytes = b""
    ready: bool = False
    since_s: float = 0.0  # when the first of `jobs` began, or the process was started
    failed_in_a_row: set[str] = field(default_factory=set)
    last_failure: str = ""
    starts_in_vain: int = 0

    def due_s(self) -> float:
        """When patience ends, on the monotonic clock."""
        if not self.ready:
            return self.since_s + _START_LIMIT_S
        return self.since_s + self.jobs[0].time_limit_s if self.jobs else float("inf")


class SlotPool:
    """Runs jobs in `slots` worker processes; not to be shared between threads.

    A slot holds one running job and up to `prefetch` waiting ones, so that it need not wait for the
    caller between two. Workers log to `folder`/logs; jobs keep checkpoints in `folder`/work.
    """

    def __init__(
        self,
        slots: int,
        engines: EnginesSection,
        folder: Path,
        *,
        truth: Path | None = None,  # tables for the mock engines
        prefetch: int = 0,
        failures_to_cordon: int = 4,
        memory_limit_mb: int | None = None,
    ) -> None:
        if not (slots >= 1 and 0 <= prefetch <= MOST_PREFETCH and failures_to_cordon >= 1):
            raise ValueError(
                f"a pool needs slots >= 1, prefetch 0 to {MOST_PREFETCH} and failures_to_cordon "
                f">= 1, got {slots}, {prefetch} and {failures_to_cordon}"
            )
        self._engines, self._folder, self._truth = engines, folder.absolute(), truth
        self._depth = 1 + prefetch
        self._failures_to_cordon = failures_to_cordon
        self._memory_limit_mb = memory_limit_mb
        self._selector = selectors.EpollSelector()
        self._cordoned: dict[int, str] = {}
        self._completed: list[Completion] = []
        self._to_sync: set[Path] = set()  # folders of results whose names may not be durable yet
        self._oom_kills = _oom_kills()
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        self._slots = [self._spawned(number) for number in range(slots)]

    @property
    def free(self) -> int:
        """Jobs that can be started now."""
        return sum(max(0, self._depth - len(slot.jobs)) for slot in self._usable())

    @property
    def running(self) -> dict[str, int]:
        """Slot of each job that runs or waits in one."""
        return {spec.job: slot.number for slot in self._slots for spec in slot.jobs}

    @property
    def cordoned(self) -> dict[int, str]:
        """Why each cordoned slot takes no more jobs."""
        return dict(self._cordoned)

    def fileno(self) -> int:
        """A descriptor that is readable when a worker has something to say to `poll`."""
        return self._selector.fileno()

    def patience_s(self) -> float:
        """Until the first worker is overdue, if none has anything to say; infinite if none runs."""
        due = min((slot.due_s() for slot in self._usable()), default=float("inf"))
        return max(0.0, due - time.monotonic())

    def worker_pids(self) -> dict[int, int]:
        """Process of each slot."""
        return {slot.number: slot.process.pid for slot in self._slots}

    def start(self, spec: JobSpec) -> int:
        """Give a job to the slot with the fewest; its number.

        Raises ValueError where no slot is free or the job is in one already.
        """
        if any(spec.job == each.job for slot in self._slots for each in slot.jobs):
            raise ValueError(f"job {spec.job} is in a slot already")
        free = [slot for slot in self._usable() if len(slot.jobs) < self._depth]
        if not free:
            raise ValueError(f"no slot is free for job {spec.job}")
        slot = min(free, key=lambda slot: len(slot.jobs))
        self._give(slot, spec)
        return slot.number

    def poll(self, timeout_s: float = 0.0) -> list[Completion]:
        """Completions since the last call; waits up to `timeout_s` for the first."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._listen(deadline)
            self._end_overdue()
            self._cordon_failing()
            if self._completed or time.monotonic() >= deadline:
                return self._made_durable()

    def lift_cordon(self, number: int) -> None:
        """Let a slot take jobs again; nothing where it is not cordoned."""
        if self._cordoned.pop(number, None) is not None:
            self._slots[number] = self._spawned(number)

    def close(self) -> None:
        """End all workers and what they run; jobs still in slots get no completion."""
        for slot in self._slots:
            if slot.number not in self._cordoned:
                self._end(slot)
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _made_durable(self) -> list[Completion]:
        """What has been completed, once the names of all results are durable: one sync for many."""
        completed, self._completed = self._completed, []
        folders, self._to_sync = self._to_sync, set()
        try:
            for folder in folders:
                sync(folder)
        except OSError as error:
            message = f"the name of its result is not durable: {error}"
            return [
                replace(each, failure="crash", message=message) if each.finished else each
                for each in completed
            ]
        return completed

    def _usable(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.number not in self._cordoned]

    def _give(self, slot: _Slot, spec: JobSpec) -> None:
        if not slot.jobs and slot.ready:
            slot.since_s = time.monotonic()
        try:
            slot.stdin.write(spec.to_json().encode() + b"\n")
        except BrokenPipeError:
            # it died before it had this job, which is therefore not to blame
            self._bury(slot)
            if slot.number not in self._cordoned:
                self._give(self._slots[slot.number], spec)
                return
        slot.jobs.append(spec)
        if slot.number in self._cordoned:
            self._fail_waiting(slot)

    def _listen(self, deadline: float) -> None:
        """Take in what workers said; waits until one speaks, is overdue, or the deadline."""
        left_s = max(0.0, deadline - time.monotonic())
        wait_s = 0.0 if self._completed else min(left_s, self.patience_s())
        for key, _ in self._selector.select(wait_s):
            slot = self._slots[key.data]
            if said := os.read(key.fd, _READ_BYTES):
                self._hear(slot, said)
            else:
                self._bury(slot)

    def _hear(self, slot: _Slot, said: bytes) -> None:
        *lines, slot.received = (slot.received + said).split(b"\n")
        for line in lines:
            slot.since_s = time.monotonic()
            if line == READY.encode():
                slot.ready = True
                slot.starts_in_vain = 0
                continue
            completion = Completion.from_json(line.decode())
            expected = slot.jobs.popleft()
            if completion.job != expected.job:
                raise RuntimeError(f"slot {slot.number} ended {completion.job}, not {expected.job}")
            if completion.finished:
                self._to_sync.add(expected.result_path.parent)
            self._record(slot, completion)

    def _record(self, slot: _Slot, completion: Completion) -> None:
        """Keep a completion for the caller, and the slot's reputation."""
        self._completed.append(completion)
        if completion.finished:
            slot.failed_in_a_row.clear()
        elif completion.failure != "bad-input":
            slot.failed_in_a_row.add(completion.job)
            slot.last_failure = f"{completion.failure}: {completion.message}"

    def _end_overdue(self) -> None:
        for slot in self._usable():
            if time.monotonic() < slot.due_s():
                continue
            limit = f"time_limit_s = {slot.jobs[0].time_limit_s}" if slot.jobs else "start-up"
            self._bury(slot, "timeout", f"did not end within {limit}")

    def _cordon_failing(self) -> None:
        for slot in self._usable():
            failed = len(slot.failed_in_a_row)
            if failed >= self._failures_to_cordon:
                self._end(slot)
                self._cordon(
                    slot, f"{failed} jobs in a row failed on it, the last by {slot.last_failure}"
                )

    def _bury(self, slot: _Slot, cause: FailureClass | None = None, why: str = "") -> None:
        """End a worker that is dead or must die, blame the job it ran, and start its successor."""
        blamed = slot.jobs[0] if slot.jobs and slot.ready else None
        code = self._end(slot)
        oom_kills = _oom_kills()
        if cause is None:
            cause, why = "crash", f"its worker ended with code {code}"
            if code == -signal.SIGKILL and oom_kills > self._oom_kills:
                cause, why = "out-of-memory", "its worker was killed for want of memory"
        self._oom_kills = oom_kills
        if blamed is not None and slot.jobs and slot.jobs[0] is blamed:
            slot.jobs.popleft()
            tail = "" if cause == "timeout" else self._last_words(slot.number)
            self._record(slot, _failed(slot, blamed, cause, why + tail))
        if not slot.ready:
            slot.starts_in_vain += 1
        if slot.starts_in_vain >= _STARTS_IN_VAIN:
            self._cordon(slot, f"its worker does not start{self._last_words(slot.number)}")
            return
        successor = self._spawned(slot.number)
        successor.failed_in_a_row = slot.failed_in_a_row
        successor.last_failure = slot.last_failure
        successor.starts_in_vain = slot.starts_in_vain
        self._slots[slot.number] = successor
        for spec in slot.jobs:
            self._give(successor, spec)

    def _cordon(self, slot: _Slot, reason: str) -> None:
        """Take a slot whose worker has been ended out of use."""
        self._cordoned[slot.number] = reason
        self._fail_waiting(slot)

    def _fail_waiting(self, slot: _Slot) -> None:
        while slot.jobs:
            reason = f"slot {slot.number} is cordoned: {self._cordoned[slot.number]}"
            self._completed.append(_failed(slot, slot.jobs.popleft(), "node-lost", reason))

    def _end(self, slot: _Slot) -> int:
        """Kill a worker's process group, hear it out, and reap it; its exit code."""
        with suppress(ProcessLookupError):
            os.killpg(slot.process.pid, signal.SIGKILL)
        self._selector.unregister(slot.stdout)
        rest = slot.stdout.read()
        code = slot.process.wait()
        self._hear(slot, rest)
        slot.stdout.close()
        with suppress(BrokenPipeError):
            slot.stdin.close()
        return code

    def _spawned(self, number: int) -> _Slot:
        setup = WorkerSetup(
            slot=number,
            engines=self._engines,
            truth=self._truth,
            workspaces=self._folder / "work",
            memory_limit_mb=self._memory_limit_mb,
        )
        root = str(Path(campaign.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, **dict.fromkeys(_ONE_THREAD, "1")}
        with open(self._log(number), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "campaign.molecular_dynamics.worker", setup.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker was started without pipes")
        self._selector.register(process.stdout, selectors.EVENT_READ, number)
        return _Slot(
            number=number,
            process=process,
            stdin=process.stdin,
            stdout=process.stdout,
            since_s=time.monotonic(),
        )

    def _log(self, number: int) -> Path:
        return self._folder / "logs" / f"worker-{number:04d}.log"

    def _last_words(self, number: int) -> str:
        text = self._log(number).read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
        return f"; its log ends: {text.splitlines()[-1]}" if text else ""


def _failed(slot: _Slot, spec: JobSpec, failure: FailureClass, message: str) -> Completion:
    return Completion(
        job=spec.job,
        attempt=spec.attempt,
        slot=slot.number,
        wall_s=time.monotonic() - slot.since_s,
        failure=failure,
        message=message,
    )


def _oom_kills() -> int:
    """Processes of this container killed for want of memory, as far as the kernel tells."""
    try:
        lines = _OOM_EVENTS.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
