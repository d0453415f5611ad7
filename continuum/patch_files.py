"""One HDF5 file of patches for each snapshot (DESIGN 3.2), readable with plain h5py.

Datasets carry the names of the fields of `PatchBatch`; its scalars, `schema`, `species` (the order
of the channels) and `state_names` are attributes. Each patch is one chunk with a checksum.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from continuum.atomic_file import atomic_hdf5, reading, stored_hdf5
from continuum.patch_batch import NODE_SPACING_NM, PatchBatch

_ARRAYS = (
    "patch_id",
    "density",
    "centre_nm",
    "central_state",
    "n_ras",
    "n_raf",
    "kind",
    "bead_offset",
    "bead_position_nm",
    "bead_state",
)


def write_patches(
    path: Path | str,
    batch: PatchBatch,
    species: Sequence[str],
    state_names: Sequence[str] = (),
    *,
    compression: int = 0,
) -> None:
    """Write a batch, whole or not at all.

    `species` names the channels, such as "inner POPC"; `state_names` the protein states, in the
    order of their numbers. `compression` is a gzip level, 0 for none. Raises ValueError if the
    names do not fit the batch, OSError if there is no room.
    """
    if len(species) != batch.density.shape[1]:
        raise ValueError(
            f"patches of {batch.density.shape[1]} species need as many names, got {len(species)}"
        )
    with atomic_hdf5(Path(path), "patches") as file:
        file.attrs["species"] = list(species)
        file.attrs["state_names"] = np.array(list(state_names), dtype=h5py.string_dtype())
        file.attrs["node_spacing_nm"] = NODE_SPACING_NM
        file.attrs["time_us"] = batch.time_us
        file.attrs["snapshot_index"] = batch.snapshot_index
        file.attrs["parameter_version"] = batch.parameter_version
        for name in _ARRAYS:
            if name != "density":
                file[name] = getattr(batch, name)
        _write_density(file, batch.density, compression)


def read_patches(path: Path | str, species: Sequence[str] | None = None) -> PatchBatch:
    """The batch in a patch file.

    With `species`, the channels must have these names in this order. Raises FileNotFoundError, or
    ValueError that names the file if it is truncated, damaged, foreign, of another schema, or its
    channels differ.
    """
    path = Path(path)
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        found = [str(name) for name in file.attrs["species"]]
        if species is not None and found != list(species):
            raise ValueError(f"{path} must hold the channels {list(species)}, it holds {found}")
        arrays = {name: file[name][()] for name in _ARRAYS}
        time_us = float(file.attrs["time_us"])
        snapshot_index = int(file.attrs["snapshot_index"])
        parameter_version = int(file.attrs["parameter_version"])
    try:
        batch = PatchBatch(
            **arrays,
            time_us=time_us,
            snapshot_index=snapshot_index,
            parameter_version=parameter_version,
        )
    except ValueError as error:
        raise ValueError(f"{path} is not a whole patches file: {error}") from error
    if len(found) != batch.density.shape[1]:
        raise ValueError(f"{path} names {len(found)} channels and holds {batch.density.shape[1]}")
    return batch


def _write_density(file: h5py.File, density: NDArray[np.float32], compression: int) -> None:
    if len(density) == 0:
        file["density"] = density
        return
    packed = {"compression": "gzip", "compression_opts": compression, "shuffle": True}
    file.create_dataset(
        "density",
        data=density,
        chunks=(1, *density.shape[1:]),
        fletcher32=True,
        **(packed if compression else {}),
    )
