"""Reading vectors and identifiers from npy, HDF5 and CSV files, as strictly as the sampler does."""

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


class TableError(ValueError):
    """A file that does not hold a table of vectors."""


def read_vectors(
    path: Path, dataset: str | None = None, id_column: str | None = None
) -> tuple[Any, NDArray[np.float32]]:
    """Identifiers (row numbers if the file has none) and float32 vectors (n, d).

    .npy: one 2-D array. HDF5: `dataset`, or the only 2-D one; identifiers from `id_column`, another
    dataset. CSV: numeric columns, a header if its first line is not numeric; identifiers from the
    column named `id_column`. float64 is rounded to float32. Raises TableError.
    """
    if not path.is_file():
        raise TableError(f"{path} is not a file")
    if path.suffix == ".npy":
        ids, table = None, _read_npy(path)
    elif h5py.is_hdf5(path):
        ids, table = _read_hdf5(path, dataset, id_column)
    elif path.suffix in (".csv", ".tsv", ".txt"):
        ids, table = _read_csv(path, id_column)
    else:
        raise TableError(f"{path} must be .npy, HDF5, .csv, .tsv or .txt")
    if table.ndim != 2 or 0 in table.shape or table.dtype.kind not in "fiu":
        raise TableError(f"{path} must hold numbers of shape (n, d), it has shape {table.shape}")
    with np.errstate(over="ignore"):
        vectors = table.astype(np.float32)
    return (np.arange(len(vectors), dtype=np.uint64) if ids is None else ids), vectors


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise TableError(f"{path} is not a plain .npy array: {error}") from None
    return array


def _read_hdf5(path: Path, dataset: str | None, id_column: str | None) -> tuple[Any, NDArray[Any]]:
    with h5py.File(path, "r") as file:
        tables: list[str] = []
        file.visititems(
            lambda name, node: tables.append(name) if getattr(node, "ndim", 0) == 2 else None
        )
        if dataset is None and len(tables) != 1:
            raise TableError(
                f"{path}: name one of its 2-D datasets {', '.join(tables) or '(none)'}"
            )
        name = dataset or tables[0]
        for wanted in filter(None, (name, id_column)):
            if not isinstance(file.get(wanted), h5py.Dataset):
                raise TableError(f"{path} has no dataset {wanted!r}")
        ids = None
        if id_column is not None:
            column = file[id_column]
            ids = column.asstr()[:].tolist() if column.dtype.kind == "O" else column[:]
        return ids, file[name][:]


def _read_csv(path: Path, id_column: str | None) -> tuple[Any, NDArray[Any]]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    if not rows:
        raise TableError(f"{path} is empty")
    header = None if all(_is_number(cell) for cell in rows[0]) else rows.pop(0)
    ids = None
    if id_column is not None:
        if header is None or id_column not in header:
            raise TableError(f"{path} has no column {id_column!r}")
        at = header.index(id_column)
        ids = [row.pop(at) if at < len(row) else "" for row in rows]
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, 2 if header else 1):
        if len(row) != width or not all(_is_number(cell) for cell in row):
            raise TableError(f"{path}, row {number} must hold {width} numbers, it holds {row}")
    return ids, np.array(rows, dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
