import os
import subprocess
import sys

import numpy as np
import pytest

from continuum.halo import SingleProcess, WrongLauncher, check_launcher


@pytest.mark.parametrize("halo", [0, 1, 3, 8, 21])
def test_a_single_process_is_its_own_neighbour_however_far_it_looks(halo):
    rows = 8
    own = np.random.default_rng(0).integers(0, 100, (2, rows, 5))
    field = np.full((2, rows + 2 * halo, 5), -1)
    field[:, halo : halo + rows] = own
    SingleProcess().fill_halo(field, halo)
    expected = own[:, np.arange(-halo, rows + halo) % rows]
    np.testing.assert_array_equal(field, expected)


def test_a_single_process_is_all_there_is():
    world, array = SingleProcess(), np.arange(3)
    assert (world.rank, world.size) == (0, 1)
    assert world.sum(array) is array
    assert world.sum_to_root(array) is array
    assert world.broadcast("x") == "x"
    assert world.gather_to_root("x") == ["x"]
    with pytest.raises(RuntimeError, match="nobody to send rows to"):
        world.send_rows(array)
    with pytest.raises(RuntimeError, match="no rank 1 to receive"):
        world.receive_rows(array, 1)
    with pytest.raises(SystemExit) as exit_:
        world.abort(3)
    assert exit_.value.code == 3


@pytest.mark.parametrize(
    ("environment", "library", "wrong"),
    [
        ({}, "MPICH", False),
        ({"PMI_SIZE": "4"}, "MPICH", False),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "Open MPI", False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "MPICH", False),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "MPICH", True),
        ({"PMI_SIZE": "4"}, "Open MPI", True),
    ],
)
def test_the_launcher_of_another_mpi_is_named(environment, library, wrong):
    if not wrong:
        check_launcher(environment, library)
        return
    with pytest.raises(WrongLauncher) as error:
        check_launcher(environment, library)
    for name in ("MPICH", "Open MPI", "mpiexec"):
        assert name in str(error.value)


@pytest.mark.mpi
def test_a_foreign_launcher_is_refused_before_anything_is_written(tmp_path):
    pytest.importorskip("mpi4py")
    environment = {**os.environ, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "continuum", "run", "laptop", "--out", str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert "started by Open MPI's mpiexec, but mpi4py is linked with MPICH" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()
