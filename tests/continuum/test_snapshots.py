import os
from itertools import pairwise

import h5py
import numpy as np
import pytest

from continuum.snapshots import (
    SnapshotInfo,
    beads_of,
    read_snapshot,
    round_mantissa,
    snapshot_writer,
)

SPECIES = ("inner PAP6", "inner CHOL", "outer CHOL")
ROWS, COLUMNS = 24, 20
POSITION = np.array([[1.0, 2], [3, 4], [5, 6], [np.nan, np.nan], [3.5, 4], [np.nan, np.nan]])
STATE = np.array([0, 1, 2, -1, 1, -1], dtype=np.int8)


def info_of(**changes):
    values = {
        "snapshot_index": 123,
        "time_us": 12.5,
        "spacing_nm": 0.5,
        "parameter_version": 7,
        "seed": 2**64 - 1,
        "species": SPECIES,
        "bulk_density": np.array([0.04, 0.46, 0.55]),
        "state_names": ("RASa", "mRASa", "mRAFa"),
        "state_kinds": ("RAS", "RAS", "RAF"),
    }
    return SnapshotInfo(**{**values, **changes})


def fields(seed=0):
    return np.random.default_rng(seed).random((3, ROWS, COLUMNS)).astype(np.float32)


def write(path, density, cuts=(0, 8, ROWS), order=(0, 1, 2), **options):
    beads = beads_of(POSITION, STATE)
    with snapshot_writer(path, info_of(), beads, (ROWS, COLUMNS), **options) as writer:
        for species in order:
            for first, last in pairwise(cuts):
                writer.write_rows(species, first, density[species, first:last])


def test_what_is_read_is_what_was_written(tmp_path):
    density = fields()
    write(tmp_path / "a.h5", density)
    snapshot = read_snapshot(tmp_path / "a.h5")
    np.testing.assert_array_equal(snapshot.density, density, strict=True)
    expected = info_of()
    for name in SnapshotInfo.__slots__:
        np.testing.assert_array_equal(getattr(snapshot.info, name), getattr(expected, name))
    assert snapshot.info.seed == 2**64 - 1
    assert snapshot.side_nm == (10.0, 12.0)
    np.testing.assert_array_equal(snapshot.field("outer CHOL"), density[2])


def test_present_beads_keep_their_slot_and_bonds_join_primary_and_ligand(tmp_path):
    write(tmp_path / "a.h5", fields())
    beads = read_snapshot(tmp_path / "a.h5").beads
    assert beads.bead_id.tolist() == [0, 1, 2, 4]
    assert beads.state.tolist() == [0, 1, 2, 1]
    assert beads.bonds.tolist() == [[1, 4]]
    np.testing.assert_array_equal(beads.position_nm, POSITION[[0, 1, 2, 4]])


def test_the_slabs_in_which_a_field_is_written_do_not_matter(tmp_path):
    for compression in (0, 1):
        write(tmp_path / "a.h5", fields(), compression=compression)
        cuts = (0, 4, 12, 16, ROWS)
        write(tmp_path / "b.h5", fields(), cuts, (2, 0, 1), compression=compression)
        one, two = read_snapshot(tmp_path / "a.h5"), read_snapshot(tmp_path / "b.h5")
        np.testing.assert_array_equal(one.density, two.density)


def test_only_the_species_asked_for_are_read_in_the_order_asked(tmp_path):
    write(tmp_path / "a.h5", fields())
    some = read_snapshot(tmp_path / "a.h5", ["outer CHOL", "inner PAP6"])
    np.testing.assert_array_equal(some.density, fields()[[2, 0]])
    none = read_snapshot(tmp_path / "a.h5", ())
    assert none.density.shape == (0, ROWS, COLUMNS)
    assert none.info.species == SPECIES
    with pytest.raises(ValueError, match=r"a\.h5 has no 'PIP2'; it has inner PAP6, "):
        read_snapshot(tmp_path / "a.h5", ["PIP2"])
    with pytest.raises(ValueError, match="no density of 'inner CHOL'"):
        some.field("inner CHOL")


def test_the_file_is_the_documented_one_for_plain_h5py(tmp_path):
    write(tmp_path / "a.h5", fields())
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"density", "bead_position_nm", "bead_state", "bead_id", "bonds"}
        assert file["density"].dtype == np.float32
        assert file["density"].shape == (3, ROWS, COLUMNS)
        for name in ("time_us", "spacing_nm", "parameter_version", "schema", "seed", "species"):
            assert name in file.attrs


def test_a_forgotten_row_leaves_no_file(tmp_path):
    with pytest.raises(
        ValueError, match="8 were not written, the first of them row 8 of species 1"
    ):
        with_gap(tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []


def with_gap(path):
    with snapshot_writer(path, info_of(), beads_of(POSITION, STATE), (ROWS, COLUMNS)) as writer:
        for species in (0, 2):
            writer.write_rows(species, 0, fields()[species])
        writer.write_rows(1, 0, fields()[1, :8])
        writer.write_rows(1, 16, fields()[1, 16:])


def test_truncated_damaged_and_foreign_files_are_one_error_that_names_them(tmp_path):
    path = tmp_path / "a.h5"
    write(path, fields())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole snapshot file"):
        read_snapshot(path)
    path.write_bytes(whole)
    with h5py.File(path) as file:
        offset = file["density"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(whole)
    damaged[offset] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole snapshot file"):
        read_snapshot(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "bilayer/snapshot/2"
    with pytest.raises(ValueError, match="bilayer/snapshot/2"):
        read_snapshot(path)


@pytest.mark.parametrize("bits", [1, 7, 13, 22])
def test_rounding_keeps_the_promised_relative_error_and_is_idempotent(bits):
    values = np.exp(np.random.default_rng(0).normal(0, 5, 10_000)).astype(np.float32)
    rounded = round_mantissa(values, bits)
    error = np.abs(rounded.astype(np.float64) / values - 1)
    assert error.max() <= 2.0 ** -(bits + 1)
    assert error.max() > 2.0 ** -(bits + 2)
    np.testing.assert_array_equal(round_mantissa(rounded, bits), rounded)
    assert not np.any(rounded.view(np.uint32) & np.uint32((1 << (23 - bits)) - 1))


def test_rounding_goes_to_the_nearest_and_ties_to_even():
    values = np.array([1.0, 1.0 + 2**-2, 1.0 + 3 * 2**-2, 0.0], dtype=np.float32)
    np.testing.assert_array_equal(round_mantissa(values, 1), [1.0, 1.0, 2.0, 0.0])


def test_full_precision_is_untouched_and_absurd_precision_refused(tmp_path):
    values = fields()
    np.testing.assert_array_equal(round_mantissa(values, 23), values)
    with pytest.raises(ValueError, match="1 to 23, got 24"):
        round_mantissa(values, 24)


def test_information_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="spacing_nm must be > 0, got nan"):
        info_of(spacing_nm=float("nan"))
    with pytest.raises(ValueError, match="3 species, got shape"):
        info_of(bulk_density=np.zeros(2))
    with pytest.raises(ValueError, match="3 states need as many kinds, got 1"):
        info_of(state_kinds=("RAS",))
