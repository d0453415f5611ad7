import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from campaign.molecular_dynamics import worker_pool
from campaign.molecular_dynamics.hidden_truth import write_truth
from campaign.molecular_dynamics.job import Completion, JobSpec
from campaign.molecular_dynamics.results import read_result
from campaign.molecular_dynamics.settings import BrownianSettings, CommandSettings, EnginesSection
from campaign.molecular_dynamics.worker_pool import MOST_PREFETCH, SlotPool
from tests.campaign.md_laboratory import RASA, patch_of, spec_of, tables, write_batch

PATIENCE_S = 300.0
# what a job does depends on its seed, so that one pool can hold good jobs and bad ones
PROGRAM = """
import os, signal, subprocess, sys, time
import h5py, numpy as np
seed, output = int(sys.argv[1]), sys.argv[2]
if seed == 1: time.sleep(1000)
if seed == 2: os.kill(os.getppid(), signal.SIGKILL)
if seed == 3: open(output, "w").write("nonsense"); sys.exit(0)
if seed == 4: sys.exit("out of paper")
if seed == 5: subprocess.Popen([sys.executable, "-c", sys.argv[3]]); time.sleep(1000)
file = h5py.File(output, "w")
file["counts"] = np.full((9, 8, 600), seed)
file.attrs.update(frames=1, effective_frames=1.0, simulated_us=1.0)
"""
GRANDCHILD = "import os, time; open('grandchild', 'w').write(str(os.getpid())); time.sleep(1000)"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "md").mkdir()
    write_truth(tmp_path / "truth.h5", tables())
    write_batch(tmp_path / "patches.h5", [patch_of(RASA, slot) for slot in range(64)])
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def pool_of(folder, slots=1, **options):
    argv = [sys.executable, str(folder / "program.py"), "{seed}", "{output}", GRANDCHILD]
    engines = EnginesSection(
        command=CommandSettings(argv=argv), brownian=BrownianSettings(checkpoint_interval_us=1.0)
    )
    return SlotPool(slots, engines, folder, truth=folder / "truth.h5", **options)


def run_all(pool, specs):
    """Completions by job, of those already in slots too; each job must end exactly once."""
    waiting, ended = list(specs), []
    expected = len(specs) + len(pool.running)
    deadline = time.monotonic() + PATIENCE_S
    while len(ended) < expected:
        assert time.monotonic() < deadline, f"only {len(ended)} of {expected} jobs ended"
        while waiting and pool.free:
            pool.start(waiting.pop(0))
        ended.extend(pool.poll(1.0))
    assert set(Counter(c.job for c in ended).values()) == {1}
    assert pool.poll() == []
    return {completion.job: completion for completion in ended}


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("slots", "prefetch"), [(1, 0), (2, 5)])
def test_every_job_ends_once_with_its_result_on_disk(folder, slots, prefetch):
    """Many at a time, done faster than they are given out."""
    specs = [spec_of(folder, slot, duration_us=0.01 + slot) for slot in range(64)]
    with pool_of(folder, slots, prefetch=prefetch) as pool:
        assert pool.free == slots * (1 + prefetch)
        ended = run_all(pool, specs)
        assert pool.free == slots * (1 + prefetch)
        assert pool.running == {}
    for spec in specs:
        completion, stored = ended[spec.job], read_result(spec.result_path)
        assert completion.finished
        assert completion.message == ""
        assert (stored.job, stored.patch_id, stored.seed) == (spec.job, spec.patch_id, spec.seed)
        assert completion.crc32 == stored.result.crc32()
        assert completion.simulated_us == stored.result.simulated_us == spec.duration_us
        assert 0 <= completion.slot < slots


def test_a_result_is_told_only_once_its_name_is_durable(folder, monkeypatch):
    full = "the disk is full of holes"
    synced = []

    def failing(path):
        synced.append(path)
        raise OSError(errno.EIO, full)

    spec = spec_of(folder, 0)
    with pool_of(folder) as pool:
        monkeypatch.setattr(worker_pool, "sync", failing)
        lost = run_all(pool, [spec])[spec.job]
        assert (lost.failure, lost.crc32 > 0) == ("crash", True)
        assert full in lost.message
        assert spec.result_path.exists()
        monkeypatch.setattr(worker_pool, "sync", synced.append)
        assert run_all(pool, [spec])[spec.job].finished
    assert synced == 2 * [spec.result_path.parent]


def test_a_pool_says_how_long_it_can_be_left_alone(folder):
    with pool_of(folder) as pool:
        assert 0.0 < pool.patience_s() <= 300.0  # until it must have started
        assert run_all(pool, [spec_of(folder, 0)])
        assert pool.patience_s() == float("inf")
        pool.start(spec_of(folder, 1, engine="command", seed=1, time_limit_s=0.5))
        assert 0.0 < pool.patience_s() <= 0.5
        assert pool.poll(PATIENCE_S)[0].failure == "timeout"


def test_results_do_not_depend_on_slots(folder):
    crcs = []
    for slots in (1, 2):
        specs = [
            spec_of(folder, slot, result_path=folder / "md" / f"{slots}-{slot}")
            for slot in range(6)
        ]
        with pool_of(folder, slots, prefetch=2) as pool:
            crcs.append({job: done.crc32 for job, done in run_all(pool, specs).items()})
    assert crcs[0] == crcs[1]


def test_bad_jobs_end_in_their_class_and_good_ones_beside_them_in_results(folder):
    limits_s = {1: 1.0, 2: 100.0, 3: 100.0, 4: 100.0}
    specs = {
        seed: spec_of(folder, seed, engine="command", seed=seed, time_limit_s=limit_s)
        for seed, limit_s in limits_s.items()
    }
    good = [spec_of(folder, slot, engine="command", seed=slot) for slot in (10, 11, 12, 13, 14)]
    others = [
        spec_of(folder, 20, patch_file=folder / "nowhere.h5"),
        spec_of(folder, 21, engine="gromacs"),
        spec_of(folder, 22, result_path=folder / "no" / "such" / "folder.h5"),
    ]
    mixed = [specs[1], good[0], specs[2], good[1], specs[3], good[2], specs[4], *good[3:], *others]
    with pool_of(folder, 2, prefetch=2, failures_to_cordon=20) as pool:
        ended = run_all(pool, mixed)
    failures = {seed: ended[spec.job] for seed, spec in specs.items()}
    assert [failures[seed].failure for seed in (1, 2, 3, 4)] == [
        "timeout",
        "crash",
        "bad-output",
        "crash",
    ]
    assert failures[1].message == "did not end within time_limit_s = 1.0"
    assert 1.0 <= failures[1].wall_s < 60.0
    assert "worker ended with code -9" in failures[2].message
    assert "output.h5 cannot be used" in failures[3].message
    assert "ended with code 1; its last words: out of paper" in failures[4].message
    assert all(ended[spec.job].finished for spec in good)
    assert all(read_result(spec.result_path).result.counts[0, 0, 0] == spec.seed for spec in good)
    assert [ended[spec.job].failure for spec in others] == ["bad-input", "bad-input", "crash"]
    assert "nowhere.h5" in ended[others[0].job].message
    assert "engine must be one of" in ended[others[1].job].message
    assert not list((folder / "md").glob(".*"))


def test_a_worker_killed_from_outside_costs_one_attempt_of_one_job(folder):
    specs = [spec_of(folder, slot, engine="brownian", duration_us=4.0) for slot in range(3)]
    with pool_of(folder, prefetch=2) as pool:
        for spec in specs:
            pool.start(spec)
        checkpoint = folder / "work" / specs[0].job / "checkpoint.h5"
        until(checkpoint.exists)
        (pid,) = pool.worker_pids().values()
        os.kill(pid, signal.SIGKILL)
        (failed,) = pool.poll(PATIENCE_S)
        assert (failed.job, failed.failure) == (specs[0].job, "crash")
        assert checkpoint.exists()
        assert set(pool.running) == {specs[1].job, specs[2].job}
        (new_pid,) = pool.worker_pids().values()
        assert new_pid != pid
        ended = run_all(pool, [spec_of(folder, 0, engine="brownian", duration_us=4.0, attempt=2)])
        assert ended[specs[0].job].finished
        assert ended[specs[0].job].attempt == 2
        assert not (folder / "work" / specs[0].job).exists()
    undisturbed = spec_of(
        folder, 0, engine="brownian", duration_us=4.0, result_path=folder / "md" / "alone.h5"
    )
    with pool_of(folder) as pool:
        assert run_all(pool, [undisturbed])[specs[0].job].crc32 == ended[specs[0].job].crc32


def test_an_idle_worker_that_dies_is_replaced_and_nobody_is_blamed(folder):
    with pool_of(folder) as pool:
        assert run_all(pool, [spec_of(folder, 0)])
        (pid,) = pool.worker_pids().values()
        os.kill(pid, signal.SIGKILL)
        # its pipes close with the last of its threads, not with the first
        until(lambda: not alive(pid) and len(os.listdir(f"/proc/{pid}/task")) == 1)
        assert run_all(pool, [spec_of(folder, 1)])[f"{1:016x}"].finished


def test_programs_die_with_their_job_and_with_the_pool(folder):
    pidfile = folder / "work" / f"{0:016x}" / "grandchild"
    for how in ("timeout", "close"):
        pidfile.unlink(missing_ok=True)
        limit_s = 10.0 if how == "timeout" else 1000.0
        with pool_of(folder) as pool:
            pool.start(spec_of(folder, 0, engine="command", seed=5, time_limit_s=limit_s))
            until(lambda: pidfile.exists() and pidfile.read_text())
            grandchild = int(pidfile.read_text())
            assert alive(grandchild)
            if how == "timeout":
                assert pool.poll(PATIENCE_S)[0].failure == "timeout"
        until(lambda pid=grandchild: not alive(pid))


def test_workers_end_with_the_process_that_owns_them(folder):
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from campaign.molecular_dynamics.settings import EnginesSection\n"
        "from campaign.molecular_dynamics.worker_pool import SlotPool\n"
        f"pool = SlotPool(2, EnginesSection(), Path({str(folder)!r}))\n"
        "print(*pool.worker_pids().values(), flush=True)\ntime.sleep(1000)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_result_that_is_there_is_reported_again_without_a_second_run(folder):
    spec = spec_of(folder, 0)
    with pool_of(folder) as pool:
        first = run_all(pool, [spec])[spec.job]
        written = spec.result_path.stat().st_mtime_ns
        # even its patch is gone
        again = run_all(pool, [spec_of(folder, 0, attempt=2, patch_file=folder / "gone.h5")])
        assert again[spec.job].finished
        assert again[spec.job].crc32 == first.crc32
        assert spec.result_path.stat().st_mtime_ns == written
        # another seed's result is not this job's, nor is a damaged one
        other = run_all(pool, [spec_of(folder, 0, seed=999)])[spec.job]
        assert other.crc32 != first.crc32
        spec.result_path.write_bytes(b"torn")
        assert run_all(pool, [spec])[spec.job].crc32 == first.crc32


def test_a_slot_on_which_different_jobs_keep_failing_is_cordoned(folder):
    def failing(slot, **changes):
        return spec_of(folder, slot, engine="command", seed=4, **changes)

    with pool_of(folder, prefetch=1, failures_to_cordon=3) as pool:
        # one poisonous job, however often, says nothing about the slot
        for attempt in range(4):
            run_all(pool, [failing(0, attempt=attempt)])
        run_all(pool, [failing(1), spec_of(folder, 9), failing(2), failing(3)])
        assert pool.cordoned == {}
        pool.start(failing(4))
        pool.start(spec_of(folder, 5, engine="command", seed=1))  # lasts until the slot is cordoned
        ended = []
        until(lambda: ended.extend(pool.poll(1.0)) or len(ended) == 2)
        assert [completion.failure for completion in ended] == ["crash", "node-lost"]
        assert "3 jobs in a row failed on it" in pool.cordoned[0]
        assert "slot 0 is cordoned" in ended[1].message
        assert pool.free == 0
        with pytest.raises(ValueError, match="no slot is free"):
            pool.start(spec_of(folder, 6))
        assert pool.poll(0.05) == []
        pool.lift_cordon(0)
        assert run_all(pool, [spec_of(folder, 6)])[f"{6:016x}"].finished


def test_bad_input_is_not_the_slots_fault(folder):
    with pool_of(folder, failures_to_cordon=2) as pool:
        run_all(pool, [spec_of(folder, slot, engine="gromacs") for slot in range(4)])
        assert pool.cordoned == {}


def test_a_worker_that_cannot_start_ends_in_a_cordon_not_in_a_loop(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pool_of(folder) as pool:
        pool.start(spec_of(folder, 0))
        (lost,) = pool.poll(PATIENCE_S)
        assert (lost.job, lost.failure) == (f"{0:016x}", "node-lost")
        assert "its worker does not start" in lost.message
        assert list(pool.cordoned) == [0]


def test_memory_beyond_the_limit_is_its_own_class(folder):
    density = np.full(8, 0.1)
    density[0] = 3e5  # 3e8 lipids
    write_batch(folder / "huge.h5", [patch_of(RASA, density=density)])
    huge = spec_of(folder, 0, engine="brownian", patch_file=folder / "huge.h5")
    with pool_of(folder, memory_limit_mb=4000) as pool:
        ended = run_all(pool, [huge, spec_of(folder, 1)])
    assert ended[huge.job].failure == "out-of-memory"
    assert ended[f"{1:016x}"].finished


def test_pools_that_make_no_sense_are_refused(folder):
    for wrong in ({"slots": 0}, {"prefetch": -1}, {"prefetch": MOST_PREFETCH + 1}):
        with pytest.raises(ValueError, match="a pool needs slots >= 1"):
            pool_of(folder, **wrong)
    with pool_of(folder, prefetch=1) as pool:
        pool.start(spec_of(folder, 0, engine="command", seed=1))
        with pytest.raises(ValueError, match="is in a slot already"):
            pool.start(spec_of(folder, 0))
    with pytest.raises(ValueError, match="duration_us and time_limit_s must be > 0"):
        spec_of(folder, 0, time_limit_s=0.0)
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^64\)"):
        spec_of(folder, 0, seed=-1)


def test_the_longest_queue_fits_into_a_pipe(folder):
    """Otherwise giving out jobs could wait for a worker that waits to be heard."""
    long_path = folder / ("x" * 200)
    spec = spec_of(folder, 2**40, patch_file=long_path, result_path=long_path)
    assert (MOST_PREFETCH + 1) * (len(spec.to_json()) + 1) <= 65536


def test_jobs_and_completions_survive_json(folder):
    spec = spec_of(folder, 7, seed=2**64 - 1, duration_us=0.1)
    assert JobSpec.from_json(spec.to_json()) == spec
    completion = Completion(
        job="a", attempt=2, slot=3, wall_s=0.1, failure="timeout", message="späte\nAntwort"
    )
    assert Completion.from_json(completion.to_json()) == completion
    assert "\n" not in completion.to_json()
