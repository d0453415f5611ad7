import os
import shutil

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOHDF import vtkHDFReader

from continuum.paraview import sidecar_path, write_sidecar
from continuum.snapshots import SnapshotInfo, beads_of, snapshot_writer

SPECIES = ("inner PAP6", "outer CHOL")
ROWS, COLUMNS, SPACING_NM = 24, 20, 0.5
POSITION = np.array([[1, 2], [3, 4], [5, 6], [9.8, 5], [3.5, 4.25], [0.3, 5]])
SLOT = [0, 1, 2, 3, 5, 7]  # ligands of 1 and 3; the second bond crosses the border
STATE = np.array([0, 1, 0, 1, -1, 2, -1, 2], dtype=np.int8)


def write(path, compression):
    density = np.random.default_rng(0).random((2, ROWS, COLUMNS)).astype(np.float32)
    info = SnapshotInfo(
        snapshot_index=1,
        time_us=2.0,
        spacing_nm=SPACING_NM,
        parameter_version=0,
        seed=0,
        species=SPECIES,
        bulk_density=np.ones(2),
        state_names=("RASa", "mRASa", "mRAFa"),
        state_kinds=("RAS", "RAS", "RAF"),
    )
    position = np.full((8, 2), np.nan)
    position[SLOT] = POSITION
    with snapshot_writer(
        path, info, beads_of(position, STATE), (ROWS, COLUMNS), compression=compression
    ) as writer:
        for species in range(2):
            writer.write_rows(species, 0, density[species])
    return density


def opened(path):
    reader = vtkHDFReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutputDataObject(0)


@pytest.mark.parametrize("compression", [0, 1])
def test_vtk_reads_every_field_and_every_protein(tmp_path, compression, monkeypatch, capfd):
    folder = tmp_path / "run" / "snapshots"
    folder.mkdir(parents=True)
    density = write(folder / "0000000001.h5", compression)
    sidecar = write_sidecar(folder / "0000000001.h5")
    assert sidecar == sidecar_path(folder / "0000000001.h5") == folder / "0000000001.vtkhdf"
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "run", moved)
    monkeypatch.chdir("/")

    collection = opened(moved / "snapshots" / "0000000001.vtkhdf")

    assert collection.GetNumberOfPartitionedDataSets() == 2
    membrane, proteins = collection.GetPartition(0, 0), collection.GetPartition(1, 0)
    assert membrane.GetBounds() == (0, COLUMNS * SPACING_NM, 0, ROWS * SPACING_NM, 0, 0)
    cells = membrane.GetCellData()
    assert [cells.GetArrayName(i) for i in range(cells.GetNumberOfArrays())] == list(SPECIES)
    for index, name in enumerate(SPECIES):
        found = vtk_to_numpy(cells.GetArray(name)).reshape(ROWS, COLUMNS)
        np.testing.assert_array_equal(found, density[index])
    points = vtk_to_numpy(proteins.GetPoints().GetData())
    np.testing.assert_allclose(points[:, :2], POSITION, rtol=1e-6)
    assert vtk_to_numpy(proteins.GetPointData().GetArray("state")).tolist() == [0, 1, 0, 1, 2, 2]
    assert vtk_to_numpy(proteins.GetPointData().GetArray("kind")).tolist() == [0, 0, 0, 0, 1, 1]
    assert proteins.GetNumberOfVerts() == 6
    assert capfd.readouterr() == ("", "")


def test_a_bond_is_a_line_unless_it_crosses_the_border(tmp_path):
    write(tmp_path / "a.h5", 0)
    proteins = opened(write_sidecar(tmp_path / "a.h5")).GetPartition(1, 0)
    assert proteins.GetNumberOfLines() == 1
    assert vtk_to_numpy(proteins.GetLines().GetConnectivityArray()).tolist() == [1, 4]


def test_the_sidecar_holds_no_copy_of_the_fields(tmp_path):
    write(tmp_path / "a.h5", 0)
    (tmp_path / "a.h5").rename(tmp_path / "b.h5")
    sidecar = write_sidecar(tmp_path / "b.h5")
    (tmp_path / "b.h5").unlink()
    cells = opened(sidecar).GetPartition(0, 0).GetCellData()
    assert not vtk_to_numpy(cells.GetArray(0)).any()
    assert os.listdir(tmp_path) == ["b.vtkhdf"]
