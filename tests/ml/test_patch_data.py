"""Patches opened from files and caches, standardised, and split by history; and what is refused."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ml import patch_files
from ml.patch_data import (
    CHANNELS,
    PatchDataError,
    PatchSet,
    Standardisation,
    load_batch,
    open_patches,
    split_by_history,
)
from tests.ml.conftest import SIDE_NM, patches_of, write_patch_file

PER_PATCH = ("patch_id", "kind", "central_state", "n_ras", "n_raf", "centre_nm")


@pytest.fixture
def patch_file(tmp_path: Path) -> Path:
    path = tmp_path / "0000000000.h5"
    write_patch_file(path)
    return path


def same(a: PatchSet, b: PatchSet) -> bool:
    names = [*PER_PATCH, "run", "snapshot_index", "time_us", "slot", "parameter_version", "density"]
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def test_a_run_is_its_files_one_after_the_other(run_folder):
    patches = open_patches([run_folder])

    expected: dict[str, list[np.ndarray]] = {name: [] for name in (*PER_PATCH, "density")}
    for path in sorted((run_folder / "patches").iterdir()):
        with h5py.File(path) as file:
            for name, parts in expected.items():
                parts.append(file[name][()])
    for name in PER_PATCH:
        np.testing.assert_array_equal(getattr(patches, name), np.concatenate(expected[name]))
    density = np.concatenate(expected["density"])
    np.testing.assert_array_equal(patches.density, density.astype(np.float16))
    np.testing.assert_array_equal(patches.snapshot_index, np.repeat([0, 1, 2], 9))
    np.testing.assert_array_equal(patches.time_us, np.repeat([0.0, 0.5, 1.0], 9))
    np.testing.assert_array_equal(patches.parameter_version, np.repeat([0, 0, 1], 9))
    np.testing.assert_array_equal(patches.slot, np.tile(np.arange(9), 3))
    assert patches.side_nm.tolist() == [SIDE_NM]


def test_run_folder_patch_folder_and_files_are_the_same_patches(run_folder):
    whole = open_patches([run_folder])

    assert same(open_patches([run_folder / "patches"]), whole)
    assert same(open_patches(sorted((run_folder / "patches").iterdir(), reverse=True)), whole)
    assert same(open_patches([run_folder, run_folder / "patches"]), whole)


def test_two_runs_are_told_apart(run_folder, write_run):
    other = write_run(snapshots=1, seed=4)

    patches = open_patches([run_folder, other])

    assert np.bincount(patches.run).tolist() == [27, 9]
    assert len(np.unique(patches.history)) == 18
    assert len(patches.side_nm) == 2


def test_a_campaigns_membrane_is_described_beside_its_own_configuration(write_run):
    folder = write_run(snapshots=1, seed=5)
    (folder / "config.resolved.yaml").rename(folder / "continuum.resolved.yaml")
    (folder / "config.resolved.yaml").write_text("continuum: {ranks: 1}\n")

    assert open_patches([folder]).side_nm.tolist() == [SIDE_NM]


def test_early_snapshots_are_left_out_and_others_thinned(write_run):
    folder = write_run(snapshots=6)

    assert np.unique(open_patches([folder], first_us=1.0).snapshot_index).tolist() == [2, 3, 4, 5]
    kept = open_patches([folder], first_us=0.5, every=2)
    assert np.unique(kept.snapshot_index).tolist() == [1, 3, 5]


def test_a_cache_holds_the_same_patches_and_is_written_once(run_folder, tmp_path):
    cache = tmp_path / "cache"
    direct = open_patches([run_folder])

    written = open_patches([run_folder], cache=cache)
    stamp = (cache / "density.npy").stat().st_mtime_ns
    again = open_patches([run_folder], cache=cache)
    alone = open_patches([cache])

    for patches in (written, again, alone):
        assert same(patches, direct)
        assert patches.fingerprint == direct.fingerprint
        assert patches.side_nm.tolist() == [SIDE_NM]
    assert isinstance(again.density, np.memmap)
    assert (cache / "density.npy").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_cache_of_other_patches_is_replaced(run_folder, write_run, tmp_path):
    cache = tmp_path / "cache"
    open_patches([write_run(seed=3)], cache=cache)

    assert same(open_patches([run_folder], cache=cache), open_patches([run_folder]))


def test_a_damaged_cache_is_replaced_or_refused(run_folder, tmp_path):
    cache = tmp_path / "cache"
    open_patches([run_folder], cache=cache)
    density = (cache / "density.npy").read_bytes()
    (cache / "density.npy").write_bytes(density[: len(density) // 2])

    with pytest.raises(PatchDataError, match="not a whole cache"):
        open_patches([cache])
    assert same(open_patches([run_folder], cache=cache), open_patches([run_folder]))


def test_a_cache_is_thinned_as_files_are(write_run, tmp_path):
    folder = write_run(snapshots=6)
    open_patches([folder], cache=tmp_path / "cache")

    thin = open_patches([tmp_path / "cache"], first_us=0.5, every=2)

    assert same(thin, open_patches([folder], first_us=0.5, every=2))


def test_a_folder_of_something_else_is_no_cache(run_folder, tmp_path):
    (tmp_path / "precious.txt").write_text("keep me")

    with pytest.raises(PatchDataError, match="must be a cache"):
        open_patches([run_folder], cache=tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def test_a_cache_that_cannot_be_completed_leaves_nothing(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    with h5py.File(tmp_path / "run" / "patches" / "0000000002.h5", "r+") as file:
        file["density"][4, 6, 18, 18] = np.nan

    with pytest.raises(PatchDataError, match="finite"):
        open_patches([tmp_path / "run"], cache=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_fingerprint_follows_content_not_place(run_folder, write_run, tmp_path):
    shutil.copytree(run_folder, tmp_path / "moved")
    here = open_patches([run_folder]).fingerprint

    assert open_patches([tmp_path / "moved"]).fingerprint == here
    assert open_patches([write_run(seed=1)]).fingerprint != here
    assert open_patches([run_folder], every=2).fingerprint != here


def test_standardisation_gives_mean_zero_and_deviation_one(run_folder):
    patches = open_patches([run_folder])
    index = np.arange(3, 25)

    standardisation = Standardisation.of(patches, index)

    density = load_batch(patches, index).astype(np.float64)
    np.testing.assert_allclose(standardisation.mean, density.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(standardisation.std, density.std((0, 2, 3)), rtol=1e-5)
    images = standardisation.apply(load_batch(patches, index)).astype(np.float64)
    np.testing.assert_allclose(images.mean((0, 2, 3)), 0.0, atol=1e-4)
    np.testing.assert_allclose(images.std((0, 2, 3)), 1.0, atol=1e-4)


def test_standardisation_does_not_depend_on_order_or_blocks(monkeypatch):
    density = np.random.default_rng(1).normal(0.3, 0.02, (11, 14, 37, 37)).astype(np.float32)
    patches = patches_of(density, np.arange(11) % 4)
    whole = Standardisation.of(patches)

    monkeypatch.setattr("ml.patch_set._AT_ONCE", 3)
    blockwise = Standardisation.of(patches, np.arange(11)[::-1])

    np.testing.assert_allclose(blockwise.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(blockwise.std, whole.std, rtol=1e-5)


def test_profiles_may_be_standardised_before_or_after(run_folder):
    from ml.metric import radial_profiles

    patches = open_patches([run_folder])
    standardisation = Standardisation.of(patches)
    density = load_batch(patches, np.arange(5))

    np.testing.assert_allclose(
        standardisation.apply_to_profiles(radial_profiles(density)),
        radial_profiles(standardisation.apply(density)),
        atol=2e-5,
    )


def test_a_channel_that_does_not_vary_is_refused():
    density = np.random.default_rng(1).normal(0.3, 0.02, (4, 14, 37, 37)).astype(np.float32)
    density[:, 9] = 0.215

    with pytest.raises(PatchDataError, match=r"outer PAPC must vary, it is 0\.215"):
        Standardisation.of(patches_of(density, np.arange(4)))


def test_batches_keep_the_order_of_their_index(run_folder):
    patches = open_patches([run_folder])
    index = np.array([20, 3, 3, 11])

    batch = load_batch(patches, index)

    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, patches.density[index].astype(np.float32))
    np.testing.assert_array_equal(patches.subset(index).patch_id, patches.patch_id[index])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_no_history_is_on_both_sides_of_a_split(write_run, share):
    patches = open_patches([write_run(snapshots=4, ras=12, controls=8)])

    training, validation = split_by_history(patches, share, seed=3)

    assert sorted([*training, *validation]) == list(range(len(patches)))
    assert not set(patches.history[training]) & set(patches.history[validation])
    assert len(validation) == pytest.approx(share * len(patches), abs=8)
    for side in (training, validation):
        assert set(np.sign(patches.central_state[side])) == {0, -1}


def test_a_split_follows_the_seed_and_the_histories_only(write_run):
    long, short = write_run(snapshots=4, ras=12), write_run(snapshots=2, ras=12)
    patches = open_patches([long])
    history = patches.history

    _, validation = split_by_history(patches, 0.3, seed=3)
    _, of_few = split_by_history(open_patches([short]), 0.3, seed=3)
    shuffled = np.random.default_rng(0).permutation(len(patches))
    _, of_shuffled = split_by_history(patches.subset(shuffled), 0.3, seed=3)
    _, of_other_seed = split_by_history(patches, 0.3, seed=4)

    held = set(history[validation])
    assert set(open_patches([short]).history[of_few]) == held
    assert set(history[shuffled][of_shuffled]) == held
    assert set(history[of_other_seed]) != held


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_senseless_share_is_refused(run_folder, share):
    with pytest.raises(PatchDataError, match="validation_share"):
        split_by_history(open_patches([run_folder]), share)


def test_one_history_cannot_be_split(run_folder):
    patches = open_patches([run_folder])

    with pytest.raises(PatchDataError, match="two histories"):
        split_by_history(patches.subset(patches.slot == 0))


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(PatchDataError, match=r"absent.* must be a run folder"):
        open_patches([tmp_path / "absent"])
    with pytest.raises(PatchDataError, match="holds no patch file"):
        open_patches([tmp_path])
    with pytest.raises(PatchDataError, match="at least one source"):
        open_patches([])


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_file_is_named(patch_file, kept):
    content = patch_file.read_bytes()
    patch_file.write_bytes(content[: int(kept * len(content))])

    with pytest.raises(PatchDataError, match=r"0000000000\.h5 is not a whole patch file"):
        open_patches([patch_file])


def test_flipped_bits_in_a_density_are_noticed(patch_file):
    with h5py.File(patch_file) as file:
        offset = file["density"].id.get_chunk_info(5).byte_offset
    content = bytearray(patch_file.read_bytes())
    content[offset + 1000] ^= 0x40
    patch_file.write_bytes(content)

    with pytest.raises(PatchDataError, match="not a whole patch file"):
        open_patches([patch_file])


def test_a_missing_dataset_is_named(patch_file):
    with h5py.File(patch_file, "r+") as file:
        del file["kind"]

    with pytest.raises(PatchDataError, match=r"not a whole patch file: .*kind"):
        open_patches([patch_file])


@pytest.mark.parametrize("schema", ["bilayer/patches/2", "bilayer/snapshot/1", None])
def test_another_schema_is_refused(patch_file, schema):
    with h5py.File(patch_file, "r+") as file:
        del file.attrs["schema"]
        if schema:
            file.attrs["schema"] = schema

    with pytest.raises(PatchDataError, match=r"schema of .* must be 'bilayer/patches/1', got"):
        open_patches([patch_file])


def test_channels_in_another_order_are_refused(patch_file):
    with h5py.File(patch_file, "r+") as file:
        file.attrs["species"] = [CHANNELS[1], CHANNELS[0], *CHANNELS[2:]]

    with pytest.raises(PatchDataError, match="must hold the channels"):
        open_patches([patch_file])


def test_patches_of_another_size_are_refused(patch_file):
    with h5py.File(patch_file, "r+") as file:
        density = file["density"][()]
        del file["density"]
        file["density"] = density[:, :, :36]

    with pytest.raises(PatchDataError, match=r"density of .* must be \(9, 14, 37, 37\)"):
        open_patches([patch_file])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
def test_a_density_that_is_not_finite_is_placed(patch_file, value):
    with h5py.File(patch_file, "r+") as file:
        file["density"][4, 6, 30, 2] = value

    with pytest.raises(PatchDataError, match=r"patch 4 has .* of inner PAP6 at node \(30, 2\)"):
        open_patches([patch_file])


def test_data_of_one_class_are_refused_where_classes_matter(tmp_path):
    write_patch_file(tmp_path / "0.h5", ras=0, controls=4)

    with pytest.raises(PatchDataError, match=r"at least 2 kinds.* 4 patches are all of kind \[0\]"):
        open_patches([tmp_path])
    assert len(open_patches([tmp_path], kinds=1)) == 4


def test_the_same_patch_twice_is_refused(patch_file):
    shutil.copy(patch_file, patch_file.with_name("copy.h5"))

    with pytest.raises(PatchDataError, match="is both in"):
        open_patches([patch_file.parent])


def test_more_patches_than_memory_holds_are_refused_before_reading(run_folder, monkeypatch):
    class Little:
        available = 100_000

    monkeypatch.setattr(patch_files.psutil, "virtual_memory", lambda: Little)

    with pytest.raises(PatchDataError, match=r"need 0\.0 GB.*name a cache"):
        open_patches([run_folder])


def test_nothing_after_the_first_time_is_an_error(run_folder):
    with pytest.raises(PatchDataError, match=r"no patch from 99.0 µs on"):
        open_patches([run_folder], first_us=99.0)


@pytest.mark.parametrize(("key", "value"), [("first_us", -1.0), ("every", 0)])
def test_senseless_thinning_is_refused(run_folder, key, value):
    with pytest.raises(PatchDataError, match=key):
        open_patches([run_folder], **{key: value})
