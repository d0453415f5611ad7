import h5py
import numpy as np
import pytest

from continuum.atomic_file import atomic_hdf5
from continuum.checkpoints import checkpoint_path, checkpoint_writer
from continuum.inspection import describe_file
from continuum.patch_batch import PatchBatch
from continuum.patch_files import write_patches
from continuum.snapshots import SnapshotInfo, beads_of, snapshot_writer


def test_a_snapshot_is_described_by_species_and_state(tmp_path):
    info = SnapshotInfo(
        snapshot_index=7,
        time_us=3.5,
        spacing_nm=0.5,
        parameter_version=2,
        seed=11,
        species=("inner A", "outer B"),
        bulk_density=np.array([0.5, 2.0]),
        state_names=("free", "bound"),
        state_kinds=("P", "L"),
    )
    state = np.array([0, 0, -1, 1], dtype=np.int8)
    beads = beads_of(np.ones((4, 2)), state)
    with snapshot_writer(tmp_path / "a.h5", info, beads, (8, 8)) as writer:
        writer.write_rows(0, 0, np.linspace(0.25, 0.75, 64, dtype=np.float32).reshape(8, 8))
        writer.write_rows(1, 0, np.full((8, 8), 2, dtype=np.float32))
    text = describe_file(tmp_path / "a.h5")
    for wanted in (
        "a.h5: snapshot, schema bilayer/snapshot/1",
        "snapshot 7 at 3.5 µs, seed 11",
        "parameter version 2",
        "8 x 8 cells of 0.5 nm: 4 x 4 nm",
        "inner A    0.25000    0.50000    0.75000  (bulk 0.50000)",
        "3 beads, 1 bonds",
        "    2 free",
        "    1 bound",
    ):
        assert wanted in text


def test_patches_are_described_by_kind(tmp_path):
    batch = PatchBatch(
        patch_id=np.array([0, 1], dtype=np.uint64),
        density=np.ones((2, 1, 37, 37), dtype=np.float32),
        centre_nm=np.zeros((2, 2)),
        central_state=np.array([0, -1], dtype=np.int8),
        n_ras=np.array([1, 0], dtype=np.uint8),
        n_raf=np.array([0, 0], dtype=np.uint8),
        kind=np.array([1, 0], dtype=np.uint8),
        bead_offset=np.array([0, 1, 1]),
        bead_position_nm=np.zeros((1, 2)),
        bead_state=np.zeros(1, dtype=np.int8),
        time_us=0.0,
        snapshot_index=0,
        parameter_version=0,
    )
    write_patches(tmp_path / "a.h5", batch, ["inner A"], ["free"])
    text = describe_file(tmp_path / "a.h5")
    for wanted in (
        "2 patches of 1 x 37 x 37",
        "1 with no protein",
        "1 with one primary\n",
        "at most 1 primaries and 0 ligands",
        "inner A    1.00000    1.00000    1.00000",
    ):
        assert wanted in text


def test_checkpoints_and_parameters_are_described_array_by_array(tmp_path):
    with checkpoint_writer(tmp_path, 4, "abc", {"step": 12}) as writer:
        writer.write("density", np.arange(6, dtype=np.int32).reshape(2, 3))
        writer.write("position", np.full((2, 2), np.nan))
    text = describe_file(checkpoint_path(tmp_path, 4))
    for wanted in (
        "checkpoint of snapshot 4",
        "configuration abc",
        "step = 12",
        "density: int32 2 x 3, 0 to 5, mean 2.5",
        "position: float64 2 x 2, no finite value",
    ):
        assert wanted in text
    with atomic_hdf5(tmp_path / "v.h5", "parameters") as file:
        file.attrs["version"] = 3
        file.create_dataset("states", data=["RASa", "RASb"], dtype=h5py.string_dtype())
        file["u_kt"] = np.array([[0.0, 2.0]])
    text = describe_file(tmp_path / "v.h5")
    for wanted in ("version = 3", "states: RASa, RASb", "u_kt: float64 1 x 2, 0 to 2, mean 1"):
        assert wanted in text


def test_foreign_and_damaged_files_are_one_error_that_names_them(tmp_path):
    path = tmp_path / "a.h5"
    path.write_text("no HDF5")
    with pytest.raises(ValueError, match=r"a\.h5 is not a whole snapshot file or"):
        describe_file(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"a\.h5 is not a snapshot file or .* no schema"):
        describe_file(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        describe_file(tmp_path / "absent.h5")
