"""Files that are either whole or absent: temporary name, fsync, rename, fsync of the folder.

A full disk is one `OSError` that names the file, and what stood under that name stays intact.
HDF5 files carry a root attribute `schema`, by which a reader refuses what it does not know.
"""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

FORMATS = {
    "snapshot": "bilayer/snapshot/1",
    "patches": "bilayer/patches/1",
    "checkpoint": "bilayer/checkpoint/1",
    "parameters": "bilayer/parameters/1",
}

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What h5py raises on a file that is damaged or lacks what was asked of it.
_UNREADABLE = (OSError, RuntimeError, KeyError, TypeError, IndexError, UnicodeDecodeError)


@contextmanager
def atomic_path(path: Path, *, durable_name: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which becomes `path` if the block succeeds.

    The block must have closed what it wrote there. On any error the temporary file is removed and
    `path` keeps its previous content. Without `durable_name` the new name is durable only after a
    `sync` of the folder. Raises OSError that names `path` when there is no room.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(
            error.errno, f"no room to write {path} ({os.strerror(error.errno)}); nothing changed"
        ) from error
    except BaseException:
        _discard(temporary)
        raise
    if durable_name:
        sync(path.parent)


def write_atomically(path: Path, content: str | bytes, *, durable_name: bool = True) -> None:
    """Write a whole text (UTF-8) or binary file, or nothing."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path, durable_name=durable_name) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_hdf5(path: Path, kind: str) -> Iterator[h5py.File]:
    """Yield an HDF5 file open for writing, of a `kind` in `FORMATS`, which is whole or absent.

    Metadata blocks carry checksums (file format of HDF5 1.10).
    """
    with atomic_path(path) as temporary, _PatientFile(temporary) as patient:
        try:
            with h5py.File(patient, "w", libver=("v110", "v110")) as file:
                file.attrs["schema"] = FORMATS[kind]
                yield file
        finally:
            patient.raise_failure()


@contextmanager
def stored_hdf5(path: Path, *kinds: str) -> Iterator[h5py.File]:
    """Yield an HDF5 file of one of `kinds`, open for reading.

    Raises FileNotFoundError, or ValueError that names the file if it is truncated, damaged or of
    another kind or schema. What the block reads belongs under `reading`.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    with reading(path, *kinds):
        file = h5py.File(path, "r")
    with file:
        with reading(path, *kinds):
            schema = schema_of(file)
        if schema not in {FORMATS[kind] for kind in kinds}:
            found = f"its schema is {schema!r}" if schema else "it has no schema attribute"
            raise ValueError(f"{path} is not a {_wanted(kinds)} of this version: {found}")
        yield file


@contextmanager
def reading(path: Path, *kinds: str) -> Iterator[None]:
    """Turn what h5py raises on a damaged or incomplete file into a ValueError that names it."""
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a whole {_wanted(kinds)}: {reason}") from error


def schema_of(file: h5py.File) -> str:
    """The `schema` attribute of an open file, "" if it has none."""
    schema = file.attrs.get("schema", "")
    return schema if isinstance(schema, str) else repr(schema)


class _PatientFile(io.RawIOBase):
    """A file that keeps its first failed write to itself until asked.

    HDF5 cannot be closed after a failed write: it retries, and then ends the process.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self._failure: OSError | None = None

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self._file.close()
        super().close()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(buffer) or 0

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        written = 0
        try:
            while self._failure is None and written < len(view):
                written += self._file.write(view[written:]) or 0
        except OSError as error:
            self._failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self._failure is None:
                return self._file.truncate(size)
        except OSError as error:
            self._failure = error
        return size or 0

    def flush(self) -> None:
        """Nothing is buffered; durability is the fsync of `atomic_path`."""


def _wanted(kinds: tuple[str, ...]) -> str:
    return " or ".join(f"{kind} file" for kind in kinds)


def sync(path: Path) -> None:
    """Make what a file or a folder holds durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(temporary: Path) -> None:
    with suppress(FileNotFoundError):
        temporary.unlink()
