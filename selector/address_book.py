"""One integer array that stands for all arrays of a sampler, so that a kernel call costs little.

numba unboxes every array argument of a call and counts references to it in every kernel that it is
handed on to: 3 µs per array and call. A book holds addresses and shapes; `open_*` makes
arrays of them inside a kernel that own nothing. The store keeps the arrays alive, and writes a new
book whenever it replaces one of them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numba import from_dtype, njit, types
from numba.core import cgutils
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

from selector.lanes import intrinsic
from selector.pivots import Pivots
from selector.pool import LEAF_FIELDS, NODE_FIELDS, Pool
from selector.selected_points import Selected


def write_book(arrays: Iterable[NDArray[Any]]) -> NDArray[np.int64]:
    """Addresses, rows and columns (arrays, 3) of C-contiguous arrays, in the order of `open_*`."""
    book = np.ones((BOOK_SIZE, 3), np.int64)
    for i, array in enumerate(arrays):
        if not array.flags.carray:
            raise ValueError(f"array {i} of a book must be C-contiguous and writeable")
        book[i, 0] = array.ctypes.data
        book[i, 1 : 1 + array.ndim] = array.shape
    return book


pack: Callable[[Any, Any], Any] = cgutils.pack_array


def _view(dtype: Any, dimensions: int) -> Any:
    array_type = types.Array(from_dtype(np.dtype(dtype)), dimensions, "C")
    item = np.dtype(dtype).itemsize

    @intrinsic
    def view(
        typingctx: Any, address: Any, rows: Any, columns: Any
    ) -> tuple[Any, Callable[..., Any]]:
        """The array at an address; columns matter for two dimensions only."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            start, *shape = arguments
            itemsize = context.get_constant(types.intp, item)
            strides = [builder.mul(shape[1], itemsize), itemsize][2 - dimensions :]
            array = context.make_array(array_type)(context, builder)
            populate_array(  # type: ignore[no-untyped-call]
                array,
                data=builder.inttoptr(start, array.data.type),
                shape=pack(builder, shape[:dimensions]),
                strides=pack(builder, strides),
                itemsize=itemsize,
                meminfo=None,
            )
            return array._getvalue()

        return array_type(types.int64, types.int64, types.int64), generate

    return view


floats = _view(np.float32, 1)
float_rows = _view(np.float32, 2)
doubles = _view(np.float64, 1)
double_rows = _view(np.float64, 2)
ints = _view(np.int32, 1)
longs = _view(np.int64, 1)
words = _view(np.uint64, 1)
word_rows = _view(np.uint64, 2)
leaf_records = _view(LEAF_FIELDS, 1)
node_records = _view(NODE_FIELDS, 1)

SELECTED = len(Pool._fields)
PIVOTS_AT = SELECTED + len(Selected._fields)
TABLE = PIVOTS_AT + len(Pivots._fields)
BOOK_SIZE = TABLE + 2


@njit(cache=True, error_model="numpy")
def open_pool(book: Any) -> Any:
    """The Pool of a book."""
    return Pool(
        floats(book[0, 0], book[0, 1], book[0, 2]),
        doubles(book[1, 0], book[1, 1], book[1, 2]),
        floats(book[2, 0], book[2, 1], book[2, 2]),
        ints(book[3, 0], book[3, 1], book[3, 2]),
        ints(book[4, 0], book[4, 1], book[4, 2]),
        floats(book[5, 0], book[5, 1], book[5, 2]),
        leaf_records(book[6, 0], book[6, 1], book[6, 2]),
        node_records(book[7, 0], book[7, 1], book[7, 2]),
        doubles(book[8, 0], book[8, 1], book[8, 2]),
        double_rows(book[9, 0], book[9, 1], book[9, 2]),
        ints(book[10, 0], book[10, 1], book[10, 2]),
        ints(book[11, 0], book[11, 1], book[11, 2]),
        ints(book[12, 0], book[12, 1], book[12, 2]),
        ints(book[13, 0], book[13, 1], book[13, 2]),
        word_rows(book[14, 0], book[14, 1], book[14, 2]),
        ints(book[15, 0], book[15, 1], book[15, 2]),
        longs(book[16, 0], book[16, 1], book[16, 2]),
    )


@njit(cache=True, error_model="numpy")
def open_selected(book: Any) -> Any:
    """The Selected of a book."""
    at = SELECTED
    return Selected(
        floats(book[at, 0], book[at, 1], book[at, 2]),
        floats(book[at + 1, 0], book[at + 1, 1], book[at + 1, 2]),
        float_rows(book[at + 2, 0], book[at + 2, 1], book[at + 2, 2]),
        word_rows(book[at + 3, 0], book[at + 3, 1], book[at + 3, 2]),
        longs(book[at + 4, 0], book[at + 4, 1], book[at + 4, 2]),
        doubles(book[at + 5, 0], book[at + 5, 1], book[at + 5, 2]),
        longs(book[at + 6, 0], book[at + 6, 1], book[at + 6, 2]),
    )


@njit(cache=True, error_model="numpy")
def open_pivots(book: Any) -> Any:
    """The Pivots of a book."""
    at = PIVOTS_AT
    return Pivots(
        floats(book[at, 0], book[at, 1], book[at, 2]),
        floats(book[at + 1, 0], book[at + 1, 1], book[at + 1, 2]),
        floats(book[at + 2, 0], book[at + 2, 1], book[at + 2, 2]),
        longs(book[at + 3, 0], book[at + 3, 1], book[at + 3, 2]),
    )


@njit(cache=True, error_model="numpy")
def open_tables(book: Any) -> Any:
    """The tables of live and of departed identifiers of a book."""
    at = TABLE
    return (
        ints(book[at, 0], book[at, 1], book[at, 2]),
        words(book[at + 1, 0], book[at + 1, 1], book[at + 1, 2]),
    )
