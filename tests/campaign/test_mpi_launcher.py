"""Ranks start under the right MPI, end all together, and never outlive who started them."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from campaign.mpi_launcher import (
    MARK,
    MPIEXEC_VARIABLE,
    RECORD,
    LaunchEnd,
    LaunchError,
    LaunchSettings,
    MpiLauncher,
    find_mpiexec,
    last_checkpoint,
    linked_mpi,
    scrubbed,
)
from campaign.process_identity import ProcessIdentity, kill, marked_processes
from campaign.run_folder import prepare_ranks
from campaign.spool import Permit, SpoolIntake, batch_crc32, read_incarnation, write_permit
from continuum.patch_files import read_patches
from tests.campaign.test_continuum_rank import LAST, SMALL

MPIEXEC = Path(sys.executable).parent / "mpiexec"
needs_mpi = pytest.mark.skipif(not MPIEXEC.exists(), reason="mpiexec is not beside Python")
SLEEPER = [sys.executable, "-c", "import time; time.sleep(300)"]


@pytest.fixture
def sleepers():
    """Starts processes that do nothing, and ends them."""
    started = []

    def start(mark=None, **options):
        environment = {**os.environ, **({} if mark is None else {MARK: str(mark)})}
        started.append(subprocess.Popen(SLEEPER, env=environment, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def record(run, identity):
    (run / "control").mkdir(exist_ok=True)
    (run / "control" / RECORD).write_text(json.dumps({**identity.as_json(), "incarnation": 1}))


def launcher(run, ranks=1, **settings):
    return MpiLauncher(LaunchSettings(run=run, ranks=ranks, **settings))


def wait_until(condition, limit_s=120.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.05)


def test_no_trace_of_another_mpi_is_left_in_the_environment():
    foreign = ("PMI_RANK", "PMIX_ID", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "HYDRA_HOST_FILE")
    kept = {"PATH": "/bin", "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "here"}
    assert scrubbed({**kept, **dict.fromkeys(foreign, "1")}) == kept


@needs_mpi
def test_the_mpiexec_is_that_of_mpi4py(monkeypatch):
    monkeypatch.delenv(MPIEXEC_VARIABLE, raising=False)
    assert find_mpiexec()[0] == str(MPIEXEC)
    assert linked_mpi() == "MPICH"


def fake_mpiexec(folder, answer):
    folder.mkdir()
    for name in ("mpiexec", "mpirun"):
        path = folder / name
        path.write_text(f"#!/bin/sh\necho '{answer}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@needs_mpi
def test_the_mpiexec_of_another_mpi_is_named_and_refused(tmp_path, monkeypatch):
    fake_mpiexec(tmp_path / "bin", "mpirun (Open MPI) 4.1.4")
    linked = tmp_path / "python"
    linked.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(linked))  # with no mpiexec beside it
    monkeypatch.setattr("campaign.mpi_launcher.linked_mpi", lambda: "MPICH")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(MPIEXEC_VARIABLE, raising=False)
    with pytest.raises(LaunchError, match=r"needs its mpiexec .*bin/mpiexec is Open MPI's"):
        find_mpiexec()
    monkeypatch.setenv(MPIEXEC_VARIABLE, f"{tmp_path}/bin/mpiexec --flag 'two words'")
    assert find_mpiexec() == [f"{tmp_path}/bin/mpiexec", "--flag", "two words"]
    monkeypatch.setenv(MPIEXEC_VARIABLE, "no-such-launcher -n")
    with pytest.raises(LaunchError, match="there is no program no-such-launcher"):
        find_mpiexec()


def test_orphans_of_the_run_are_killed_and_those_of_others_are_not(tmp_path, sleepers):
    mine = sleepers(tmp_path.resolve(), start_new_session=True)
    other, unmarked = sleepers(tmp_path / "other"), sleepers()
    assert launcher(tmp_path).end_stale() == [mine.pid]
    assert mine.wait(10) is not None
    assert (other.poll(), unmarked.poll()) == (None, None)


def test_a_recorded_process_is_killed_unless_its_pid_belongs_to_somebody_else_now(
    tmp_path, sleepers
):
    process = sleepers()
    identity = ProcessIdentity.of(process.pid)
    record(tmp_path, ProcessIdentity(host=identity.host, pid=process.pid, started_s=1.0))
    assert launcher(tmp_path).end_stale() == []
    record(tmp_path, ProcessIdentity(host="elsewhere", pid=process.pid, started_s=1.0))
    assert launcher(tmp_path).end_stale() == []
    assert process.poll() is None
    record(tmp_path, identity)
    assert launcher(tmp_path).end_stale() == [process.pid]
    assert process.wait(10) is not None


def test_a_process_is_itself_until_it_ends(sleepers):
    process = sleepers()
    identity = ProcessIdentity.from_json(ProcessIdentity.of(process.pid).as_json())
    assert identity.process().pid == process.pid
    assert kill([psutil.Process(process.pid)]) == []
    assert identity.process() is None  # a zombie is no process
    process.wait()
    assert identity.process() is None
    with pytest.raises(ValueError, match="not the record of a process"):
        ProcessIdentity.from_json({"pid": 1})


def run_to_the_end(run, first, limit_s=120.0):
    write_permit(run, Permit(snapshot_index=LAST, parameter_version=0))
    ends = []
    wait_until(lambda: ends.append(first.poll()) or ends[-1] is not None, limit_s)
    return ends[-1]


def patches_of(run):
    return [batch_crc32(read_patches(batch.path)) for batch in SpoolIntake(run).poll()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Patches of one process without MPI."""
    run = tmp_path_factory.mktemp("undisturbed")
    prepare_ranks(run, SMALL)
    single = launcher(run)
    assert single.launch(1, LAST) == -1
    end = run_to_the_end(run, single)
    assert (end.exit_code, end.finished) == (0, True), end
    return patches_of(run)


@pytest.mark.slow
@pytest.mark.mpi
@needs_mpi
def test_ranks_die_together_and_the_next_incarnation_sends_the_same_patches(tmp_path, undisturbed):
    prepare_ranks(tmp_path, SMALL)
    first = launcher(tmp_path, ranks=2)
    write_permit(tmp_path, Permit(snapshot_index=1, parameter_version=0))
    assert first.launch(1, LAST) == -1
    wait_until(lambda: len(SpoolIntake(tmp_path).poll()) == 3)
    assert first.poll() is None
    ranks = [p for p in marked_processes(MARK, first.mark) if "continuum_rank" in str(p.cmdline())]
    assert len([p for p in ranks if p.environ().get("PMI_RANK") in ("0", "1")]) == 2
    next(p for p in ranks if p.environ().get("PMI_RANK") == "1").kill()
    ends = []
    wait_until(lambda: ends.append(first.poll()) or ends[-1] is not None, 20)
    assert isinstance(ends[-1], LaunchEnd)
    assert (ends[-1].finished, ends[-1].incarnation) == (False, 1)
    assert marked_processes(MARK, first.mark) == []
    assert last_checkpoint(tmp_path) == 0
    assert first.launch(2, LAST) == 0
    assert read_incarnation(tmp_path) == 2
    end = run_to_the_end(tmp_path, first)
    assert (end.exit_code, end.finished) == (0, True), end
    assert "incarnation 2, on 2 ranks" in end.message
    assert patches_of(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.mpi
@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_end_when_their_launcher_is_killed(tmp_path, ranks):
    prepare_ranks(tmp_path, SMALL)
    code = (
        "import sys, time; from pathlib import Path;"
        "from campaign.mpi_launcher import LaunchSettings, MpiLauncher;"
        "MpiLauncher(LaunchSettings(run=Path(sys.argv[1]), ranks=int(sys.argv[2]))).launch(1, 3);"
        "time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(ranks)])
    mark = launcher(tmp_path).mark
    try:
        wait_until(lambda: SpoolIntake(tmp_path).poll())
        assert marked_processes(MARK, mark)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not marked_processes(MARK, mark), 15)
    log = tmp_path / "logs" / "continuum-0001.log"
    assert "the launcher is gone" in log.read_text()


@pytest.mark.slow
def test_ranks_that_show_no_sign_of_life_are_ended(tmp_path):
    prepare_ranks(tmp_path, SMALL)
    stalling = launcher(tmp_path, stall_s=60.0)
    stalling.launch(1, LAST)
    wait_until(lambda: SpoolIntake(tmp_path).poll())
    time.sleep(1.5)
    assert stalling.poll() is None  # it waits for a permit, and says so
    (rank,) = marked_processes(MARK, stalling.mark)
    rank.suspend()
    impatient = launcher(tmp_path, stall_s=2.0)
    for name in ("_process", "_log", "_incarnation", "_launched_s"):
        setattr(impatient, name, getattr(stalling, name))
    ends = []
    wait_until(lambda: ends.append(impatient.poll()) or ends[-1] is not None, 20)
    assert ends[-1].message.startswith("no sign of life for 2 s")
    assert (ends[-1].finished, ends[-1].exit_code) == (False, -signal.SIGKILL)
    assert marked_processes(MARK, stalling.mark) == []


@pytest.mark.slow
@pytest.mark.mpi
@needs_mpi
def test_an_mpiexec_that_has_lost_its_proxy_does_not_wait_for_ever(tmp_path):
    prepare_ranks(tmp_path, SMALL)
    waiting = launcher(tmp_path, ranks=2)
    waiting.launch(1, LAST)
    ends = []
    wait_until(lambda: ends.append(waiting.poll()) or SpoolIntake(tmp_path).poll())
    time.sleep(2.5)
    assert (ends[-1], waiting.poll()) == (None, None)
    mpiexec = [p for p in marked_processes(MARK, waiting.mark) if p.name().startswith("mpiexec")]
    (proxy,) = psutil.Process(mpiexec[0].pid).children()
    proxy.kill()
    wait_until(lambda: ends.append(waiting.poll()) or ends[-1] is not None, 20)
    assert not ends[-1].finished
    assert marked_processes(MARK, waiting.mark) == []


def test_what_ended_the_ranks_is_told(tmp_path):
    failing = launcher(tmp_path)  # there is no configuration
    failing.launch(1, LAST)
    ends = []
    wait_until(lambda: ends.append(failing.poll()) or ends[-1] is not None, 60)
    assert (ends[-1].exit_code, ends[-1].finished) == (2, False)
    assert "continuum.resolved.yaml does not exist" in ends[-1].message
    assert failing.poll() is None
