"""The process behind one slot: jobs as JSON lines on stdin, completions as JSON lines on stdout.

It ends itself, and every program it started, when stdin closes: no job outlives its pool. A fault
that no failure class foresees ends the process, and the pool reports the job as crashed.
"""

import gc
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time

from campaign.events import FailureClass
from campaign.molecular_dynamics.engines import Engine, get_engine
from campaign.molecular_dynamics.hidden_truth import read_truth
from campaign.molecular_dynamics.job import (
    BadInput,
    BadOutput,
    Completion,
    EngineCrash,
    JobSpec,
)
from campaign.molecular_dynamics.patch import read_patch
from campaign.molecular_dynamics.results import MdResult, read_result, write_result
from campaign.molecular_dynamics.worker_setup import READY, WorkerSetup


class Worker:
    """Runs jobs one after the other; engines are built when a job first asks for them."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._engines: dict[str, Engine] = {}

    def complete(self, spec: JobSpec) -> Completion:
        """Run a job to a result that is durable but for its name, or say how it failed."""
        started = time.monotonic()
        failure: FailureClass
        try:
            result, crc32 = self._stored(spec) or self._simulated(spec)
        except BadInput as error:
            failure, message = "bad-input", str(error)
        except BadOutput as error:
            failure, message = "bad-output", str(error)
        except MemoryError as error:
            failure, message = "out-of-memory", f"no memory left: {error}"
        except (EngineCrash, OSError, ArithmeticError) as error:
            failure, message = "crash", f"{type(error).__name__}: {error}"
        else:
            return Completion(
                job=spec.job,
                attempt=spec.attempt,
                slot=self._setup.slot,
                wall_s=time.monotonic() - started,
                crc32=crc32,
                frames=result.frames,
                effective_frames=result.effective_frames,
                simulated_us=result.simulated_us,
            )
        return Completion(
            job=spec.job,
            attempt=spec.attempt,
            slot=self._setup.slot,
            wall_s=time.monotonic() - started,
            failure=failure,
            message=message,
        )

    def _stored(self, spec: JobSpec) -> tuple[MdResult, int] | None:
        """Result and checksum of an attempt whose completion nobody heard of, if it is whole."""
        if not spec.result_path.exists():
            return None
        try:
            stored = read_result(spec.result_path)
        except ValueError:
            return None
        same = (stored.job, stored.patch_id, stored.seed) == (spec.job, spec.patch_id, spec.seed)
        return (stored.result, stored.result.crc32()) if same else None

    def _simulated(self, spec: JobSpec) -> tuple[MdResult, int]:
        patch = read_patch(spec.patch_file, spec.patch_id)
        workspace = self._setup.workspaces / spec.job
        result = self._engine(spec.engine).run(patch, spec.seed, spec.duration_us, workspace)
        crc32 = write_result(
            *(spec.result_path, result, spec.job, spec.attempt, spec.patch_id, spec.seed),
            durable_name=False,  # the pool sees to it, for all its workers at once
        )
        if workspace.exists():
            shutil.rmtree(workspace, ignore_errors=True)
        return result, crc32

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            setup = self._setup
            truth = None if setup.truth is None else read_truth(setup.truth)
            try:
                self._engines[name] = get_engine(setup.engines.of(name), truth)
            except ValueError as error:
                raise BadInput(f"engine {name!r} cannot be used: {error}") from error
        return self._engines[name]


def main() -> None:
    """Serve jobs until stdin closes."""
    setup = WorkerSetup.from_json(sys.argv[1])
    # what engines print must not end up between completions
    completions = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides, not the terminal
    if setup.memory_limit_mb is not None:
        limit = setup.memory_limit_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    worker = Worker(setup)
    gc.freeze()  # modules need not be looked through again and again
    print(READY, file=completions)
    for line in sys.stdin.buffer:
        print(worker.complete(JobSpec.from_json(line.decode())).to_json(), file=completions)


def _end_with(pipe: int) -> None:
    """Sleep until nobody can write to a pipe any more; then end, whatever runs."""
    watched = select.poll()
    watched.register(pipe, 0)  # for no event but its end
    watched.poll()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
