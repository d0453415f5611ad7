"""Mock jobs a second through pilots: the real coordinator, journal, pilot on Ray and workers.

A job is all of a job but the simulation: planned and journaled (fsync) by the coordinator, sent to
the pilot with the others of its step, handed to a worker process, which reads the patch from its
HDF5 file, draws Poisson counts (9 x 8 x 600), writes the result (fsync, rename) and answers; the
answer is journaled. Everything else is granted at once by `instant_shell`.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.coordinator import OPENED
from benchmarks.instant_shell import PATCHES, FirstComeSelection, Instant, instant_shell
from campaign.coordinator import Coordinator
from campaign.events import Event, JobFailed, JobFinished, JobStarted
from campaign.journal import Journal
from campaign.molecular_dynamics.hidden_truth import true_model, truth_tables, write_truth
from campaign.molecular_dynamics.settings import EnginesSection, HiddenTruth
from campaign.recovery import lone_patch
from campaign.rules import Rules
from campaign.spool import store_batch
from campaign.state import CampaignState, apply, initial_state
from continuum.configuration import load_model, read_configuration
from continuum.parameters import Model
from continuum.patch_batch import PatchBatch

MEMBRANE = "laptop-pre-campaign"
WARM_UP_S = 1.0  # after the worker of each slot has ended a job


class Watch:
    """When jobs were started and ended, and what that cost once all workers were up.

    `pilot` is its process; CPU is that of this process, of the pilot and of its workers.
    """

    def __init__(self, pilot: psutil.Process, slots: int) -> None:
        self._pilot, self._slots = pilot, slots
        self._up: dict[int, float] = {}  # when each slot ended its first job
        self._warm: tuple[float, float, int] | None = None  # s, CPU s, jobs ended before
        self.started_s: list[float] = []
        self.ended_s: list[float] = []
        self.failed = 0

    def __call__(self, state: CampaignState, event: Event) -> None:
        now_s = time.perf_counter()
        match event:
            case JobStarted():
                self.started_s.append(now_s)
            case JobFinished():
                self.ended_s.append(now_s)
                self._up.setdefault(state.jobs[event.job].slot, now_s)
                if self._warm is None and self._all_warm(now_s):
                    self._warm = now_s, self._cpu_s(), len(self.ended_s)
            case JobFailed():
                self.failed += 1

    def _all_warm(self, now_s: float) -> bool:
        return len(self._up) == self._slots and now_s > max(self._up.values()) + WARM_UP_S

    def rates(self) -> dict[str, float]:
        """From the end of the warm-up to the last start, and to the last end for the CPU."""
        if self._warm is None:
            raise RuntimeError("too few jobs: they ended before all workers were warm")
        begin, cpu_s, before = self._warm
        end = self.started_s[-1]
        started, ended = (
            sum(begin <= at <= end for at in times) for times in (self.started_s, self.ended_s)
        )
        return {
            "jobs_started_per_s": started / (end - begin),
            "jobs_ended_per_s": ended / (end - begin),
            "cpu_ms_per_job": 1e3 * (self._cpu_s() - cpu_s) / (len(self.ended_s) - before),
            "measured_s": end - begin,
        }

    def _cpu_s(self) -> float:
        processes = [psutil.Process(), self._pilot, *self._pilot.children()]
        times = [process.cpu_times() for process in processes]
        return sum(each.user + each.system for each in times)


def measure_pilots(run: Path, jobs: int, slots: int) -> dict[str, float]:
    """Jobs a second from when all workers are warm until the queue runs dry.

    This process is connected to a cluster, in a namespace of its own.
    """
    import ray

    from campaign.pilot import Pilot
    from campaign.ray_pilots import RayPilots

    snapshots = -(-jobs // PATCHES)
    truth = _prepare(run, snapshots)
    arguments = (str(run), 0, slots, EnginesSection(), str(truth))
    actor = ray.remote(Pilot).options(num_cpus=0).remote(*arguments)
    shell = _shell(slots)
    shell.pilots = RayPilots(run, [(actor, slots)])
    shell.wait = lambda seconds: _wait(shell.pilots, seconds)
    rules = Rules(
        last_snapshot=snapshots - 1,
        per_snapshot=jobs / snapshots,
        feedback=False,
        credit=snapshots,
        mix={"poisson": 1.0},
    )
    state = initial_state(rules)
    apply(state, OPENED)
    pid = ray.get(actor.__ray_call__.remote(lambda pilot: os.getpid()))
    journal, watch = Journal.create(run / "journal"), Watch(psutil.Process(pid), slots)
    journal.append(OPENED, time.time())
    coordinator = Coordinator(
        state, journal, shell, FirstComeSelection(), lambda snapshot: snapshot, watch=watch
    )
    coordinator.begin(1)
    reason = coordinator.run()
    rates = watch.rates()
    journal.close()
    ray.kill(actor)
    if reason != "complete" or watch.failed:
        raise RuntimeError(f"the campaign ended: {reason}, with {watch.failed} failed attempts")
    return {**rates, "jobs": jobs, "slots": slots}


def _shell(slots: int) -> Instant:
    shell = instant_shell(slots)
    shell.now = time.time
    return shell


def _wait(pilots: Any, seconds: float) -> None:
    import ray

    pilots.flush()
    ray.wait(pilots.references, timeout=seconds, fetch_local=False)


def _prepare(run: Path, snapshots: int) -> Path:
    """Patches of a real membrane's lipids and proteins, and the tables of the hidden truth."""
    model = load_model(MEMBRANE)
    names = tuple(state.name for state in model.proteins.states)
    for snapshot in range(snapshots):
        store_batch(run, _batch(model, snapshot), model.lipids.labels, names)
    tables = truth_tables(true_model(HiddenTruth(), read_configuration(MEMBRANE)))
    write_truth(run / "hidden-truth.h5", tables)
    return run / "hidden-truth.h5"


def _batch(model: Model, snapshot: int) -> PatchBatch:
    """The same lone RAS in every patch."""
    one = lone_patch(model, 0).batch
    per_patch = ("density", "centre_nm", "central_state", "n_ras", "n_raf", "kind")
    return PatchBatch(
        **{name: np.repeat(getattr(one, name), PATCHES, axis=0) for name in per_patch},
        patch_id=np.uint64(snapshot << 20) + np.arange(PATCHES, dtype=np.uint64),
        bead_offset=np.arange(PATCHES + 1, dtype=np.int64),
        bead_position_nm=np.repeat(one.bead_position_nm, PATCHES, axis=0),
        bead_state=np.repeat(one.bead_state, PATCHES),
        time_us=float(snapshot),
        snapshot_index=snapshot,
        parameter_version=0,
    )
