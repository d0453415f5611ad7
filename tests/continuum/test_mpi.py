"""Bit for bit the same on any number of ranks, after crashes too; and failures end every rank."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from continuum.patch_files import read_patches
from continuum.snapshots import read_snapshot

MPIEXEC = Path(sys.executable).parent / "mpiexec"

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.slow,
    pytest.mark.skipif(not MPIEXEC.exists(), reason="mpiexec is not installed beside Python"),
]

# 67 nm and 20 rows a rank on four; proteins fast enough to change owners, and to bind and unbind.
SETTINGS = [
    "seed=8",
    "membrane.side_nm=66.66666666666667",
    "membrane.cells=80",
    "duration_us=0.3",
    "output.snapshot_interval_us=0.1",
    "output.checkpoint_every=1",
    "output.control_patches=4",
    "output.control_distance_nm=8.0",
    "proteins.count=8",
    "proteins.binding_per_us.zRASa_zRAFa=8.0",
    "proteins.unbinding_per_us.zRASa_zRAFa.RASa=2.0",
    "numerics.protein_substep_us=0.0025",
    *(
        f"proteins.states.{state}.diffusivity_nm2_per_us=400.0"
        for state in ("RASa", "RASb", "RASc", "zRASa")
    ),
]
ROW_NM = 66.66666666666667 / 80


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(ranks, *arguments):
    launcher = [str(MPIEXEC), "-n", str(ranks)] if ranks else []
    return [*launcher, sys.executable, "-m", "continuum", *map(str, arguments)]


def continuum(ranks, *arguments, timeout_s=300):
    """`ranks` 0 is a plain process without mpiexec."""
    return subprocess.run(
        command(ranks, *arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_arguments(folder):
    return ["run", "laptop", "--out", folder, *(f"--set={setting}" for setting in SETTINGS)]


def content(folder):
    """A hash of every dataset and attribute of all snapshots and patches and the last checkpoint.

    Checkpoints before it may have been kept or not.
    """
    files = [
        *sorted((folder / "snapshots").glob("*.h5")),
        *sorted((folder / "patches").glob("*.h5")),
        sorted((folder / "checkpoints").glob("*.h5"))[-1],
    ]
    hashes = {}

    def add(name, item):
        for key, value in sorted(item.attrs.items()):
            digest.update(f"{name}@{key}={np.asarray(value).tolist()!r}".encode())
        if isinstance(item, h5py.Dataset):
            values = np.asarray(item[()])
            text = values.tolist() if values.dtype == object else None
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(repr(text).encode() if text is not None else values.tobytes())

    for path in files:
        digest = hashlib.sha256()
        with h5py.File(path) as file:
            add("/", file)
            file.visititems(add)
        hashes[str(path.relative_to(folder))] = digest.hexdigest()
    return hashes


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks") / "one"
    ended = continuum(0, *run_arguments(folder))
    assert ended.returncode == 0, ended.stderr
    return folder


def test_the_run_moves_lipids_changes_owners_and_binds(alone):
    snapshots = [read_snapshot(path) for path in sorted((alone / "snapshots").glob("*.h5"))]
    first, last = snapshots[0], snapshots[-1]
    assert np.abs(last.density - first.density).max() > 0.1
    assert np.isfinite(last.density).all()
    batches = [read_patches(path) for path in sorted((alone / "patches").glob("*.h5"))]
    assert len(batches) == 4
    assert all(8 < len(batch) <= 12 for batch in batches)  # controls too
    owner = np.array([batch.centre_nm[:8, 1] // (20 * ROW_NM) for batch in batches])
    assert (owner != owner[0]).any()
    bound = [set(snapshot.beads.bead_id.tolist()) for snapshot in snapshots]
    assert any(later - earlier for earlier, later in pairwise(bound))  # ligands arrived


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_any_number_of_ranks_gives_the_same_bits(alone, tmp_path, ranks):
    folder = tmp_path / "run"
    ended = continuum(ranks, *run_arguments(folder))
    assert ended.returncode == 0, ended.stderr
    assert "BAD TERMINATION" not in ended.stdout + ended.stderr
    expected = content(alone)
    assert len(expected) == 4 + 4 + 1
    assert content(folder) == expected


def ranks_of(launcher):
    """Process ids of the Python processes below a launcher."""
    found, pending = [], [launcher]
    while pending:
        process = pending.pop()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        pending += map(int, children)
        if b"continuum" in Path(f"/proc/{process}/cmdline").read_bytes() and not children:
            found.append(process)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize(("ranks", "ranks_after"), [(2, 2), (3, 1)])
def test_a_run_whose_rank_was_killed_resumes_to_the_same_bits(alone, tmp_path, ranks, ranks_after):
    folder = tmp_path / "run"
    running = subprocess.Popen(
        command(ranks, *run_arguments(folder)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    started = time.monotonic()
    while not (folder / "checkpoints" / "0000000001.h5").exists():
        assert running.poll() is None
        assert time.monotonic() - started < 200
        time.sleep(0.005)
    os.kill(ranks_of(running.pid)[-1], signal.SIGKILL)
    killed = time.monotonic()
    running.communicate(timeout=60)
    assert running.returncode != 0
    assert time.monotonic() - killed < 30
    assert not (folder / "checkpoints" / "0000000003.h5").exists()
    ended = continuum(ranks_after, "resume", folder)
    assert ended.returncode == 0, ended.stderr
    assert content(folder) == content(alone)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from continuum.configuration import configuration_hash, load_model, read_configuration
from continuum.halo import connect
from continuum.run import RunPlan, directory_sink, run

folder, what, *settings = sys.argv[1:]
world = connect()
model = load_model("laptop", settings)
write = directory_sink(model, Path(folder) / "patches")

def sink(batch):
    write(batch)
    if what == "kill" and batch.snapshot_index == 2:
        os.killpg(0, signal.SIGKILL)

def progress(membrane, index):
    if what == "raise" and membrane.step == 3 and world.rank == 1:
        raise RuntimeError("rank 1 has had enough")

plan = RunPlan(
    model=model,
    configuration_hash=configuration_hash(read_configuration("laptop", settings)),
    folder=Path(folder),
    sink=sink,
    last_snapshot=3,
)
run(plan, world, progress)
"""


def script(ranks, folder, what):
    return subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, "-c", SCRIPT, folder, what, *SETTINGS],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        start_new_session=True,
    )


def test_a_run_killed_between_patches_and_checkpoint_repeats_them(alone, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "config.resolved.yaml", "run.json"):
        (folder / name).write_bytes((alone / name).read_bytes())
    assert script(2, folder, "kill").returncode != 0
    assert (folder / "patches" / "0000000002.h5").exists()
    assert not (folder / "checkpoints" / "0000000002.h5").exists()
    before = (folder / "patches" / "0000000002.h5").read_bytes()
    ended = continuum(3, "resume", folder)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "patches" / "0000000002.h5").read_bytes() == before
    assert content(folder) == content(alone)


def test_an_exception_on_one_rank_ends_all_at_once(tmp_path):
    started = time.monotonic()
    ended = script(3, tmp_path, "raise")
    assert ended.returncode == 1
    assert "rank 1 has had enough" in ended.stderr
    assert time.monotonic() - started < 60


def test_ranks_that_do_not_fit_are_refused_with_those_that_do(tmp_path):
    folder = tmp_path / "run"
    ended = continuum(
        4,
        "run",
        "laptop",
        "--out",
        folder,
        "--set=membrane.side_nm=60.0",
        "--set=membrane.cells=72",
        "--set=proteins.count=2",
    )
    assert ended.returncode == 2
    assert "4 ranks do not fit 72 rows" in ended.stderr
    assert "use 1 to 3 ranks" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not folder.exists()


def test_a_used_folder_is_refused_by_every_rank(alone):
    ended = continuum(2, *run_arguments(alone))
    assert ended.returncode == 2
    assert "already holds a run: continue it with `continuum resume" in ended.stderr
    assert json.loads((alone / "run.json").read_text())["config"] == "laptop"


def test_finished_ranks_leave_without_a_word(tmp_path):
    code = "from continuum.halo import connect; print(connect().size)"
    for _ in range(3):
        ended = subprocess.run(
            [str(MPIEXEC), "-n", "3", sys.executable, "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0
        assert "".join(ended.stdout.split()) == "333"
