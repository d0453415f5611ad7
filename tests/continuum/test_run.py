import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from continuum.configuration import load_model
from continuum.halo import SingleProcess
from continuum.parameter_versions import ParameterVersion, write_parameter_version
from continuum.patch_files import read_patches
from continuum.run import ADOPTED, RunPlan, claim_folder, directory_sink, resume, run, snapshots_in
from continuum.snapshots import read_snapshot

MODEL = load_model(
    "laptop",
    (
        "membrane.side_nm=60.0",
        "membrane.cells=72",
        "duration_us=0.08",
        "output.snapshot_interval_us=0.02",
        "output.checkpoint_every=1",
        "output.control_patches=2",
        "output.control_distance_nm=5.0",
        "proteins.count=3",
        "numerics.protein_substep_us=0.0025",
    ),
)
HASH = "of a configuration"


def silent(membrane, index):
    pass


def plan(folder, last=4, model=MODEL, sink="directory", hash_=HASH):
    if sink == "directory":
        sink = directory_sink(model, folder / "patches")
    return RunPlan(
        model=model, configuration_hash=hash_, folder=folder, sink=sink, last_snapshot=last
    )


def arrays(path):
    """Every dataset of an HDF5 file, by name."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def assert_same_files(folder, other, names=("snapshots", "patches")):
    for sub in names:
        paths = sorted((other / sub).glob("*.h5"))
        assert paths
        assert [p.name for p in sorted((folder / sub).glob("*.h5"))] == [p.name for p in paths]
        for path in paths:
            expected, found = arrays(path), arrays(folder / sub / path.name)
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    run(plan(folder), SingleProcess(), silent)
    return folder


class PowerCut(RuntimeError):
    pass


def test_a_run_leaves_what_its_plan_says(whole):
    assert snapshots_in(MODEL) == 4
    names = [f"{i:010d}.h5" for i in range(5)]
    assert sorted(p.name for p in (whole / "snapshots").glob("*.h5")) == names
    assert sorted(p.name for p in (whole / "patches").glob("*.h5")) == names
    assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == names[-2:]
    for index in range(5):
        snapshot = read_snapshot(whole / "snapshots" / names[index])
        batch = read_patches(whole / "patches" / names[index], MODEL.lipids.labels)
        assert snapshot.info.snapshot_index == batch.snapshot_index == index
        assert snapshot.time_us == pytest.approx(0.02 * index)
        assert (batch.patch_id >> np.uint64(20) == index).all()
        np.testing.assert_array_equal(
            batch.centre_nm[:3], snapshot.beads.position_nm[snapshot.beads.bead_id < 3]
        )
    first, last = (read_snapshot(whole / "snapshots" / names[i]) for i in (0, 4))
    assert np.abs(last.density - first.density).max() > 0.05
    with h5py.File(whole / "checkpoints" / names[4]) as file:
        quanta = np.stack([file[f"arrays/density.{s}"][()] for s in range(14)])
    np.testing.assert_allclose(last.density, quanta * 2.0**-27, rtol=1e-3)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_run_stopped_at_a_snapshot_resumes_bit_for_bit(whole, tmp_path, stop):
    run(plan(tmp_path, last=stop), SingleProcess(), silent)
    resume(plan(tmp_path), SingleProcess(), silent)
    assert_same_files(tmp_path, whole)
    last = "0000000004.h5"
    expected, found = (arrays(f / "checkpoints" / last) for f in (whole, tmp_path))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_run_cut_at_any_step_repeats_what_followed_its_checkpoint(whole, tmp_path):
    for cut_at in (1, 3, 6):
        folder = tmp_path / str(cut_at)

        def cut(membrane, index, cut_at=cut_at):
            if membrane.step == cut_at:
                raise PowerCut

        with pytest.raises(PowerCut):
            run(plan(folder), SingleProcess(), cut)
        resume(plan(folder), SingleProcess(), silent)
        assert_same_files(folder, whole)


def test_a_run_cut_before_its_first_checkpoint_begins_again(whole, tmp_path):
    def cut(batch):
        raise PowerCut

    with pytest.raises(PowerCut):
        run(plan(tmp_path, sink=cut), SingleProcess(), silent)
    resume(plan(tmp_path), SingleProcess(), silent)
    assert_same_files(tmp_path, whole)


def test_patches_go_to_any_sink_or_to_none(whole, tmp_path):
    taken = []
    run(plan(tmp_path, last=1, sink=taken.append), SingleProcess(), silent)
    assert [batch.snapshot_index for batch in taken] == [0, 1]
    stored = read_patches(whole / "patches" / "0000000001.h5")
    np.testing.assert_array_equal(taken[1].density, stored.density)
    assert not (tmp_path / "patches").exists()
    run(plan(tmp_path / "none", last=0, sink=None), SingleProcess(), silent)
    assert not (tmp_path / "none" / "patches").exists()


def test_fields_and_checkpoints_may_be_written_less_often(whole, tmp_path):
    sparse = replace(MODEL, output=replace(MODEL.output, field_every=2, checkpoint_every=3))
    run(plan(tmp_path, model=sparse), SingleProcess(), silent)
    written = [int(p.stem) for p in sorted((tmp_path / "snapshots").glob("*.h5"))]
    assert written == [0, 2, 4]
    kept = [int(p.stem) for p in sorted((tmp_path / "checkpoints").glob("*.h5"))]
    assert kept == [3, 4]
    assert len(list((tmp_path / "patches").glob("*.h5"))) == 5
    a, b = (read_snapshot(f / "snapshots" / "0000000004.h5") for f in (tmp_path, whole))
    np.testing.assert_array_equal(a.density, b.density)


def version(number, factor):
    return ParameterVersion(
        version=number,
        potentials=replace(MODEL.potentials, u=factor * MODEL.potentials.u),
        state_names=tuple(state.name for state in MODEL.proteins.states),
        lipid_labels=MODEL.lipids.labels,
        provenance=f"a test, {factor}",
    )


def versions_in_patches(folder):
    return [
        read_patches(path).parameter_version for path in sorted((folder / "patches").glob("*.h5"))
    ]


def adopted(folder):
    lines = (folder / "parameters" / ADOPTED).read_text().splitlines()
    return {r["snapshot_index"]: r["parameter_version"] for r in map(json.loads, lines)}


def test_a_new_version_is_taken_up_at_the_next_boundary_and_recorded(whole, tmp_path):
    def feedback(membrane, index):
        if membrane.step == 3:
            write_parameter_version(tmp_path / "parameters", version(17, 2.0))

    run(plan(tmp_path), SingleProcess(), feedback)
    # the patches of a boundary are cut before it changes anything
    assert versions_in_patches(tmp_path) == [0, 0, 0, 17, 17]
    assert adopted(tmp_path) == {0: 0, 1: 0, 2: 17, 3: 17, 4: 17}
    for index in (2, 3):
        a, b = (read_patches(f / "patches" / f"{index:010d}.h5") for f in (tmp_path, whole))
        assert np.array_equal(a.density, b.density) is (index == 2)


@pytest.mark.parametrize("cut_at", [5, 7])
def test_a_resumed_run_repeats_recorded_adoptions_though_newer_versions_came(tmp_path, cut_at):
    straight, cut_short = tmp_path / "straight", tmp_path / "cut"
    sparse = replace(MODEL, output=replace(MODEL.output, checkpoint_every=4))
    for folder, cut in ((straight, None), (cut_short, cut_at)):

        def feedback(membrane, index, folder=folder, cut=cut):
            if membrane.step == 3 and not (folder / "parameters" / "v000017.h5").exists():
                write_parameter_version(folder / "parameters", version(17, 2.0))
            if membrane.step == cut:
                raise PowerCut

        if cut is None:
            run(plan(folder, model=sparse), SingleProcess(), feedback)
            continue
        with pytest.raises(PowerCut):
            run(plan(folder, model=sparse), SingleProcess(), feedback)
    recorded = adopted(cut_short)
    assert max(recorded) == cut_at // 2
    write_parameter_version(cut_short / "parameters", version(18, 0.0))
    resume(plan(cut_short, last=cut_at // 2, model=sparse), SingleProcess(), silent)
    for index in range(cut_at // 2 + 1):
        a, b = (
            read_patches(folder / "patches" / f"{index:010d}.h5")
            for folder in (cut_short, straight)
        )
        np.testing.assert_array_equal(a.density, b.density)
        assert a.parameter_version == b.parameter_version
    assert adopted(cut_short) == recorded
    resume(plan(cut_short, model=sparse), SingleProcess(), silent)
    assert adopted(cut_short)[cut_at // 2 + 1] == 18


def test_a_record_cut_short_by_a_crash_is_made_again(tmp_path):
    run(plan(tmp_path, last=1), SingleProcess(), silent)
    path = tmp_path / "parameters" / ADOPTED
    path.write_text(path.read_text() + '{"snapshot_ind')
    resume(plan(tmp_path, last=2), SingleProcess(), silent)
    assert adopted(tmp_path) == {0: 0, 1: 0, 2: 0}


def test_parameters_of_other_lipids_are_refused(tmp_path):
    foreign = replace(version(1, 1.0), lipid_labels=tuple(f"outer X{i}" for i in range(14)))
    write_parameter_version(tmp_path / "parameters", foreign)
    with pytest.raises(ValueError, match=r"v000001.h5 is for other protein states or lipids"):
        run(plan(tmp_path), SingleProcess(), silent)


def test_checkpoints_of_another_configuration_are_refused(tmp_path):
    run(plan(tmp_path, last=0), SingleProcess(), silent)
    with pytest.raises(ValueError, match="is a checkpoint of another configuration"):
        resume(plan(tmp_path, hash_="another"), SingleProcess(), silent)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(whole, tmp_path):
    run(plan(tmp_path, last=3), SingleProcess(), silent)
    last = tmp_path / "checkpoints" / "0000000003.h5"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    resume(plan(tmp_path), SingleProcess(), silent)
    assert_same_files(tmp_path, whole)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"all 2 checkpoints in .* are damaged"):
        resume(plan(tmp_path), SingleProcess(), silent)


def test_leftovers_of_killed_writers_are_cleared(tmp_path):
    run(plan(tmp_path, last=0), SingleProcess(), silent)
    for sub in ("snapshots", "patches", "checkpoints"):
        (tmp_path / sub / ".0000000001.h5.123.partial").write_bytes(b"half")
    resume(plan(tmp_path, last=0), SingleProcess(), silent)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", ["config.resolved.yaml", "snapshots", "patches"])
def test_a_folder_that_holds_a_run_is_not_taken(tmp_path, name):
    claim_folder(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep").is_dir()
    used = Path(tmp_path / "used" / name)
    used.mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"already holds a run: continue it with .* resume"):
        claim_folder(tmp_path / "used")
