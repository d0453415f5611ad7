"""Small HDF5 files made in memory, many of the same layout one after the other.

HDF5 clears half a megabyte of tables for each file it makes, which takes longer than everything
else about a small one. So a file of each layout is kept open, and its contents are replaced.
"""

import itertools
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5p, h5s, h5t
from numpy.typing import NDArray

_KEPT = 4  # layouts
_BLOCK_BYTES = 1 << 16  # by which the image of a file grows
_HEADER_STEP = 256  # headers are padded with zeros to a multiple of it
_TEXT = h5py.string_dtype()
_one_at_a_time = threading.Lock()
_number = itertools.count()  # no two files that are open have the same name


def hdf5_image(schema: str, header: bytes, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a file with attributes `schema` (text) and `header` (bytes), and datasets."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = tuple((name, array.shape, array.dtype.str) for name, array in whole.items())
    with _one_at_a_time:
        file = _file(schema, -(-len(header) // _HEADER_STEP) * _HEADER_STEP, layout)
        file.header.write(np.array(header, dtype=file.header.dtype))
        for name, array in whole.items():
            file.datasets[name].write(h5s.ALL, h5s.ALL, array)
        h5f.flush(file.id)
        image: bytes = file.id.get_file_image()
    return image


class _File:
    """An open file that exists in memory only."""

    def __init__(
        self, schema: str, header_bytes: int, layout: tuple[tuple[str, tuple[int, ...], str], ...]
    ) -> None:
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fapl_core(_BLOCK_BYTES, False)
        access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        self.id = h5f.create(b"image %d" % next(_number), h5f.ACC_TRUNC, fapl=access)
        scalar = h5s.create(h5s.SCALAR)
        text = h5a.create(self.id, b"schema", h5t.py_create(_TEXT, logical=True), scalar)
        text.write(np.array(schema, dtype=_TEXT))
        padded = h5t.py_create(np.dtype(f"S{header_bytes}"))
        self.header = h5a.create(self.id, b"header", padded, scalar)
        self.datasets = {
            name: h5d.create(
                self.id, name.encode(), h5t.py_create(np.dtype(kind)), h5s.create_simple(shape)
            )
            for name, shape, kind in layout
        }


@lru_cache(maxsize=_KEPT)
def _file(
    schema: str, header_bytes: int, layout: tuple[tuple[str, tuple[int, ...], str], ...]
) -> _File:
    return _File(schema, header_bytes, layout)
