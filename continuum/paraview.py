"""A VTKHDF sidecar that opens a snapshot in ParaView without copying its fields.

`snapshots/0000000123.vtkhdf` is a partitioned data set collection: the membrane as image data whose
cell arrays are virtual datasets into `0000000123.h5` in the same folder, and the proteins as points
joined by their bonds (VTKHDF 2.2).
"""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from continuum.atomic_file import atomic_path
from continuum.snapshots import Beads, SnapshotInfo, read_snapshot


def sidecar_path(snapshot_path: Path | str) -> Path:
    """Where the sidecar of a snapshot lies: beside it."""
    return Path(snapshot_path).with_suffix(".vtkhdf")


def write_sidecar(snapshot_path: Path | str) -> Path:
    """Write the sidecar of a snapshot file, and return its path.

    Raises ValueError that names the snapshot if it cannot be read, OSError if there is no room.
    """
    snapshot_path = Path(snapshot_path)
    snapshot = read_snapshot(snapshot_path, ())
    path = sidecar_path(snapshot_path)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        root = file.create_group("VTKHDF", track_order=True)
        root.attrs["Version"] = np.array([2, 2], dtype=np.int64)
        _set_type(root, "PartitionedDataSetCollection")
        membrane = root.create_group("membrane")
        rows, columns = snapshot.density.shape[1:]
        _describe_membrane(membrane, snapshot.info, rows, columns, snapshot_path.name)
        proteins = root.create_group("proteins")
        _describe_proteins(proteins, snapshot.info, snapshot.beads, columns, rows)
        assembly = root.create_group("Assembly", track_order=True)
        for index, (name, group) in enumerate((("membrane", membrane), ("proteins", proteins))):
            group.attrs["Index"] = index
            assembly[name] = h5py.SoftLink(f"/VTKHDF/{name}")
    return path


def _describe_membrane(
    group: h5py.Group, info: SnapshotInfo, rows: int, columns: int, source_name: str
) -> None:
    _set_type(group, "ImageData")
    group.attrs["Version"] = np.array([2, 2], dtype=np.int64)
    group.attrs["WholeExtent"] = np.array([0, columns, 0, rows, 0, 0], dtype=np.int64)
    group.attrs["Origin"] = np.zeros(3)
    group.attrs["Spacing"] = np.full(3, info.spacing_nm)
    group.attrs["Direction"] = np.eye(3).ravel()
    cells = group.create_group("CellData")
    fields = h5py.VirtualSource(
        source_name, "density", (len(info.species), rows, columns), dtype=np.float32
    )
    for index, name in enumerate(info.species):
        layout = h5py.VirtualLayout((rows, columns), np.float32)
        layout[:] = fields[index]
        cells.create_virtual_dataset(name, layout)


def _describe_proteins(
    group: h5py.Group, info: SnapshotInfo, beads: Beads, columns: int, rows: int
) -> None:
    _set_type(group, "PolyData")
    group.attrs["Version"] = np.array([2, 2], dtype=np.int64)
    points = np.zeros((len(beads.state), 3), dtype=np.float32)
    points[:, :2] = beads.position_nm
    group["Points"] = points
    group["NumberOfPoints"] = np.array([len(points)], dtype=np.int64)
    slot = {bead_id: index for index, bead_id in enumerate(beads.bead_id.tolist())}
    ends = np.array([(slot[a], slot[b]) for a, b in beads.bonds.tolist()], dtype=np.int64).reshape(
        -1, 2
    )
    extent_nm = np.array([columns, rows]) * info.spacing_nm
    apart_nm = np.abs(beads.position_nm[ends[:, 0]] - beads.position_nm[ends[:, 1]])
    inside = ends[(apart_nm < extent_nm / 2).all(axis=1)]
    _set_cells(group, "Vertices", np.arange(len(points)).reshape(-1, 1))
    _set_cells(group, "Lines", inside)
    _set_cells(group, "Polygons", np.zeros((0, 3), dtype=np.int64))
    _set_cells(group, "Strips", np.zeros((0, 3), dtype=np.int64))
    kinds = list(dict.fromkeys(info.state_kinds))
    kind_of_state = np.array([kinds.index(kind) for kind in info.state_kinds], dtype=np.int8)
    data = group.create_group("PointData")
    data["state"] = beads.state
    data["kind"] = kind_of_state[beads.state] if len(kind_of_state) else beads.state
    data["bead_id"] = beads.bead_id


def _set_cells(group: h5py.Group, name: str, corners: NDArray[np.int64]) -> None:
    cells = group.create_group(name)
    count, per_cell = corners.shape
    cells["NumberOfCells"] = np.array([count], dtype=np.int64)
    cells["NumberOfConnectivityIds"] = np.array([corners.size], dtype=np.int64)
    cells["Offsets"] = np.arange(count + 1, dtype=np.int64) * per_cell
    cells["Connectivity"] = corners.ravel().astype(np.int64)


def _set_type(group: h5py.Group, name: str) -> None:
    ascii_name = name.encode("ascii")
    group.attrs.create("Type", ascii_name, dtype=h5py.string_dtype("ascii", len(ascii_name)))
