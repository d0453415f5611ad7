import numpy as np
import pytest

from continuum import load_model, read_patches, read_snapshot
from continuum.halo import SingleProcess
from continuum.recut import angle, recut, recut_run
from continuum.run import RunPlan, directory_sink, run

SMALL = (
    "duration_us=0.1",
    "membrane.side_nm=80.0",
    "membrane.cells=96",
    "proteins.count=3",
    "output.snapshot_interval_us=0.05",
    "output.control_patches=2",
    "output.control_distance_nm=16.0",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = load_model("laptop", SMALL)
    plan = RunPlan(
        model=model,
        configuration_hash="x",
        folder=folder,
        sink=directory_sink(model, folder / "patches"),
        last_snapshot=2,
    )
    run(plan, SingleProcess(), lambda membrane, index: None)
    return folder, model


def test_an_angle_of_zero_gives_the_patches_of_the_run(made):
    folder, model = made
    again = recut(read_snapshot(folder / "snapshots" / "0000000002.h5"), model, 0.0)
    once = read_patches(folder / "patches" / "0000000002.h5")
    np.testing.assert_array_equal(again.patch_id, once.patch_id)
    np.testing.assert_array_equal(again.kind, once.kind)
    np.testing.assert_array_equal(again.centre_nm, once.centre_nm)
    np.testing.assert_allclose(again.density, once.density, rtol=2e-4, atol=1e-6)


def test_a_right_angle_turns_the_patch_and_keeps_its_proteins(made):
    folder, model = made
    snapshot = read_snapshot(folder / "snapshots" / "0000000002.h5")
    straight, turned = recut(snapshot, model, 0.0), recut(snapshot, model, np.pi / 2)
    np.testing.assert_allclose(
        turned.density, np.rot90(straight.density, axes=(2, 3)), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(turned.n_ras, straight.n_ras)
    x, y = straight.bead_position_nm.T
    np.testing.assert_allclose(turned.bead_position_nm, np.stack([y, -x], axis=1), atol=1e-9)


def test_views_have_their_own_reproducible_angles(made, tmp_path):
    folder, model = made
    written = list(recut_run(folder, tmp_path, model, copies=2, seed=3))
    assert len(written) == 2 * 3
    first, second = (
        read_patches(tmp_path / f"view-{copy}/patches/0000000001.h5") for copy in (0, 1)
    )
    np.testing.assert_array_equal(first.patch_id, second.patch_id)
    assert np.abs(first.density - second.density).max() > 1e-4
    assert len({angle(3, copy, index) for copy in range(4) for index in range(50)}) == 200
    assert angle(3, 1, 7) == angle(3, 1, 7)


def test_a_run_without_snapshots_is_refused(tmp_path, made):
    with pytest.raises(FileNotFoundError, match="holds no snapshots"):
        list(recut_run(tmp_path, tmp_path / "out", made[1], copies=1, seed=0))
