"""One HDF5 file of embeddings for each snapshot: `embeddings/0000000123.h5` (DESIGN 3.4)."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from continuum.atomic_file import atomic_path, reading

SCHEMA = "bilayer/embeddings/1"
_ARRAYS = ("patch_id", "kind", "vector", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """The vectors of a snapshot's patches, in the order of their ids; nobody writes into them."""

    patch_id: NDArray[np.uint64]  # (N,)
    kind: NDArray[np.uint8]  # (N,)    of DESIGN 3.2
    vector: NDArray[np.float32]  # (N, d)
    quarantined: NDArray[np.uint32]  # (Q,)    slots of patches that have no vector
    snapshot_index: int
    encoder_version: str


def embedding_path(run: Path, snapshot_index: int) -> Path:
    """Where the embeddings of a snapshot lie."""
    return run / "embeddings" / f"{snapshot_index:010d}.h5"


def embedding_crc32(embeddings: Embeddings) -> int:
    """CRC-32 of the content, however it is stored."""
    crc = zlib.crc32(f"{embeddings.snapshot_index} {embeddings.encoder_version}".encode())
    for name in _ARRAYS:
        array = np.ascontiguousarray(getattr(embeddings, name))
        crc = zlib.crc32(np.array(array.shape, np.int64).tobytes(), crc)
        crc = zlib.crc32(array.tobytes(), crc)
    return crc


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write a snapshot's embeddings, all or none. OSError where there is no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["snapshot_index"] = embeddings.snapshot_index
        file.attrs["encoder_version"] = embeddings.encoder_version
        for name in _ARRAYS:
            array = getattr(embeddings, name)
            file.create_dataset(name, data=array, fletcher32=array.size > 0 or None)


def read_embeddings(path: Path) -> Embeddings:
    """A snapshot's embeddings.

    Raises FileNotFoundError, or ValueError that names the file where it is truncated, damaged or
    of another schema.
    """
    with _stored(path) as file, reading(path, "embeddings"):
        return Embeddings(
            snapshot_index=int(file.attrs["snapshot_index"]),
            encoder_version=str(file.attrs["encoder_version"]),
            **{name: file[name][()] for name in _ARRAYS},
        )


@contextmanager
def _stored(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with reading(path, "embeddings"):
        file = h5py.File(path, "r")
    with file:
        schema = file.attrs.get("schema")
        if schema != SCHEMA:
            raise ValueError(f"{path} must be of schema {SCHEMA}, its schema is {schema!r}")
        yield file
