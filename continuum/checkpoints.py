"""Checkpoints: named arrays and scalars for a bit-exact continuation, damage-proof.

Chunks of arrays, blocks of metadata and the scalars carry checksums (Fletcher-32 filter, HDF5 1.10
format, CRC-32), so a damaged checkpoint is noticed and the one before it is used.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from continuum.atomic_file import atomic_hdf5, reading, stored_hdf5

Scalar = int | float | str | bool

_NAME = re.compile(r"\d{10}\.h5")
_CHUNK_BYTES = 1 << 19


def checkpoint_path(folder: Path, index: int) -> Path:
    """Where the checkpoint of snapshot `index` lies."""
    return folder / f"{index:010d}.h5"


class CheckpointWriter:
    """Takes arrays in any pieces along their rows axis; made by `checkpoint_writer`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._missing: dict[str, int] = {}

    def declare(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> None:
        """Announce an array that `write_rows` will fill; its rows are its last axis but one."""
        shape = tuple(shape)
        chunks = _chunks(shape, np.dtype(dtype).itemsize)
        if chunks is None:
            raise ValueError(f"the array {name} to be written by rows must not be empty: {shape}")
        self._file.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True)
        self._missing[name] = int(np.prod(shape, dtype=np.int64))

    def write_rows(self, name: str, first_row: int, values: NDArray[Any]) -> None:
        """Rows [first_row, first_row + n) of a declared array, values (..., n, columns)."""
        rows = slice(first_row, first_row + values.shape[-2])
        self._file[name][..., rows, :] = values
        self._missing[name] -= values.size

    def write(self, name: str, values: NDArray[Any]) -> None:
        """A whole array of one dimension or more; single numbers belong to the attributes."""
        if values.ndim == 0:
            raise ValueError(f"{name} is a single number: it belongs to the attributes")
        chunks = _chunks(values.shape, values.itemsize)
        if chunks is None:
            self._file[name] = values
        else:
            self._file.create_dataset(name, data=values, chunks=chunks, fletcher32=True)

    def check_complete(self) -> None:
        for name, missing in self._missing.items():
            if missing:
                raise ValueError(
                    f"a checkpoint needs every row once, {name} is {missing} values from that"
                )


@contextmanager
def checkpoint_writer(
    folder: Path | str,
    index: int,
    configuration_hash: str,
    attributes: Mapping[str, Scalar],
    *,
    keep: int = 2,
) -> Iterator[CheckpointWriter]:
    """Yield a writer; the checkpoint appears, and all but the last `keep` go, on success.

    Raises ValueError if a declared array is not filled, OSError if there is no room; then the
    folder is as before.
    """
    if not keep >= 1:
        raise ValueError(f"at least one checkpoint must be kept, got keep = {keep}")
    folder = Path(folder)
    path = checkpoint_path(folder, index)
    with atomic_hdf5(path, "checkpoint") as file:
        file.attrs["configuration_hash"] = configuration_hash
        file.attrs["snapshot_index"] = index
        file.attrs["scalars_crc32"] = _scalars_crc32(index, configuration_hash, attributes)
        scalars = file.create_group("scalars")
        for name, value in attributes.items():
            scalars.attrs[name] = np.uint64(value) if _is_wide(value) else value
        writer = CheckpointWriter(file.create_group("arrays"))
        yield writer
        writer.check_complete()
    older = [other for other in checkpoint_files(folder) if other.name <= path.name]
    for old in older[:-keep]:
        old.unlink()


class Checkpoint:
    """An open checkpoint; made by `open_checkpoint`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path = path
        self._file = file
        with reading(path, "checkpoint"):
            self.index = int(file.attrs["snapshot_index"])
            self.configuration_hash = str(file.attrs["configuration_hash"])
            self.attributes: dict[str, Scalar] = {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in file["scalars"].attrs.items()
            }
            self.shapes: dict[str, tuple[int, ...]] = {
                name: tuple(file["arrays"][name].shape) for name in file["arrays"]
            }
            stored_crc32 = int(file.attrs["scalars_crc32"])
        if stored_crc32 != _scalars_crc32(self.index, self.configuration_hash, self.attributes):
            raise ValueError(f"{path} is not a whole checkpoint file: its scalars are damaged")

    def read(self, name: str) -> NDArray[Any]:
        """A whole array."""
        with reading(self._path, "checkpoint"):
            values: NDArray[Any] = self._file["arrays"][name][()]
        return values

    def read_rows(self, name: str, first_row: int, rows: int) -> NDArray[Any]:
        """Rows of an array along its last axis but one, all else whole."""
        with reading(self._path, "checkpoint"):
            dataset = self._file["arrays"][name]
            values: NDArray[Any] = dataset[..., first_row : first_row + rows, :]
        return values


@contextmanager
def open_checkpoint(
    path: Path | str, configuration_hash: str | None = None
) -> Iterator[Checkpoint]:
    """Yield a checkpoint open for reading; every read is checked against its checksums.

    Raises FileNotFoundError, or ValueError that names the file if it is damaged, foreign, or (with
    `configuration_hash`) belongs to another configuration.
    """
    path = Path(path)
    with stored_hdf5(path, "checkpoint") as file:
        checkpoint = Checkpoint(path, file)
        found = checkpoint.configuration_hash
        if configuration_hash is not None and found != configuration_hash:
            raise ValueError(
                f"{path} is a checkpoint of another configuration "
                f"({found}), this one is {configuration_hash}"
            )
        yield checkpoint


def checkpoint_files(folder: Path | str) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def verify_checkpoint(path: Path | str) -> None:
    """Read a checkpoint from end to end; ValueError that names it if anything is damaged."""
    with open_checkpoint(path) as checkpoint:
        for name, shape in checkpoint.shapes.items():
            if len(shape) < 2:
                checkpoint.read(name)
                continue
            step = max(1, (64 << 20) // max(1, 8 * int(np.prod(shape)) // max(1, shape[-2])))
            for first_row in range(0, shape[-2], step):
                checkpoint.read_rows(name, first_row, step)


def latest_checkpoint(folder: Path | str, configuration_hash: str | None = None) -> Path | None:
    """The newest checkpoint that is whole; None if there are no checkpoints at all.

    Raises ValueError if it belongs to another configuration, or if there are checkpoints and every
    one is damaged.
    """
    files = checkpoint_files(folder)
    damage = ""
    for path in reversed(files):
        try:
            verify_checkpoint(path)
        except ValueError as error:
            damage = damage or str(error)
            continue
        with open_checkpoint(path, configuration_hash):
            return path
    if files:
        raise ValueError(f"all {len(files)} checkpoints in {folder} are damaged: {damage}")
    return None


def discard_partial_files(folder: Path | str) -> None:
    """Remove what a killed writer left; only while nobody writes there."""
    for leftover in Path(folder).glob(".*.partial"):
        with suppress(FileNotFoundError):
            leftover.unlink()


def _scalars_crc32(index: int, configuration_hash: str, attributes: Mapping[str, Scalar]) -> int:
    content = [index, configuration_hash, sorted(attributes.items())]
    return zlib.crc32(json.dumps(content).encode())


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    if 0 in shape:
        return None
    if len(shape) == 1:
        return (min(shape[0], _CHUNK_BYTES // itemsize),)
    rows = min(shape[-2], max(1, _CHUNK_BYTES // (itemsize * shape[-1])))
    return (*[1] * (len(shape) - 2), rows, shape[-1])


def _is_wide(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 63
