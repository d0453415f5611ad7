import h5py
import numpy as np
import pytest

from continuum.patch_batch import PatchBatch
from continuum.patch_files import read_patches, write_patches

SPECIES = ("inner PAP6", "inner CHOL", "outer CHOL")
DATASETS = {
    "patch_id": np.uint64,
    "density": np.float32,
    "centre_nm": np.float64,
    "central_state": np.int8,
    "n_ras": np.uint8,
    "n_raf": np.uint8,
    "kind": np.uint8,
    "bead_offset": np.int64,
    "bead_position_nm": np.float64,
    "bead_state": np.int8,
}


def batch_of(count=4, seed=0):
    rng = np.random.default_rng(seed)
    offset = np.concatenate([[0], np.cumsum(rng.integers(0, 4, count))]).astype(np.int64)
    beads = offset[-1]
    return PatchBatch(
        patch_id=np.uint64(123 << 20) + np.arange(count, dtype=np.uint64) * np.uint64(3),
        density=rng.random((count, len(SPECIES), 37, 37)).astype(np.float32),
        centre_nm=rng.random((count, 2)) * 100,
        central_state=rng.integers(-1, 9, count).astype(np.int8),
        n_ras=rng.integers(0, 9, count).astype(np.uint8),
        n_raf=rng.integers(0, 9, count).astype(np.uint8),
        kind=rng.integers(0, 4, count).astype(np.uint8),
        bead_offset=offset,
        bead_position_nm=rng.random((beads, 2)),
        bead_state=rng.integers(0, 9, beads).astype(np.int8),
        time_us=12.3,
        snapshot_index=123,
        parameter_version=7,
    )


def assert_same(found, expected):
    for name in PatchBatch.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("compression", [0, 1])
def test_what_is_read_is_what_was_written(tmp_path, count, compression):
    batch = batch_of(count)
    write_patches(tmp_path / "a.h5", batch, SPECIES, compression=compression)
    assert_same(read_patches(tmp_path / "a.h5", SPECIES), batch)
    assert_same(read_patches(str(tmp_path / "a.h5")), batch)


def test_the_file_is_the_documented_one_for_plain_h5py(tmp_path):
    batch = batch_of()
    write_patches(tmp_path / "a.h5", batch, SPECIES, ["RASa", "RASb"])
    with h5py.File(tmp_path / "a.h5") as file:
        assert {name: file[name].dtype.type for name in file} == DATASETS
        assert file["density"].chunks == (1, 3, 37, 37)
        assert file.attrs["schema"] == "bilayer/patches/1"
        assert file.attrs["time_us"] == 12.3
        assert file.attrs["snapshot_index"] == 123
        assert file.attrs["parameter_version"] == 7
        assert file.attrs["node_spacing_nm"] == 30 / 36
        assert list(file.attrs["species"]) == list(SPECIES)
        assert list(file.attrs["state_names"]) == ["RASa", "RASb"]


def test_other_channels_are_refused(tmp_path):
    write_patches(tmp_path / "a.h5", batch_of(), SPECIES)
    with pytest.raises(ValueError, match=r"a\.h5 must hold the channels .*it holds .*PAP6"):
        read_patches(tmp_path / "a.h5", SPECIES[::-1])
    with pytest.raises(ValueError, match="3 species need as many names, got 2"):
        write_patches(tmp_path / "b.h5", batch_of(), SPECIES[:2])


def test_a_file_cut_short_anywhere_is_one_error_that_names_it(tmp_path):
    path = tmp_path / "a.h5"
    write_patches(path, batch_of(), SPECIES)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.h5 is not a whole patches file"):
            read_patches(path)


def test_a_damaged_byte_is_found_or_harmless(tmp_path):
    path = tmp_path / "a.h5"
    batch = batch_of()
    write_patches(path, batch, SPECIES)
    whole = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        first_chunk = file["density"].id.get_chunk_info(1).byte_offset
    damaged = bytearray(whole)
    damaged[first_chunk + 1000] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole patches file"):
        read_patches(path)


def test_missing_and_inconsistent_datasets_are_named(tmp_path):
    path = tmp_path / "a.h5"
    write_patches(path, batch_of(), SPECIES)
    with h5py.File(path, "r+") as file:
        file["kind"][...] = 0
        del file["n_ras"]
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole patches file.*n_ras"):
        read_patches(path)
    with h5py.File(path, "r+") as file:
        file["n_ras"] = np.zeros(3, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"a\.h5 .*n_ras must be uint8 of shape \(4,\)"):
        read_patches(path)
