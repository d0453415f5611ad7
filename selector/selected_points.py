"""The selected points: exact vectors for decisions, float32 lanes for filters."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.lanes import aligned

BLOCK = 64  # selected points per block of the lane layout
ROUNDING = 2.0**-23
TINY = np.float32(1e-36)  # above every distance² that float32 rounds to a subnormal


class Selected(NamedTuple):
    """The selected points, oldest first; written only by `append_selected`."""

    lanes: NDArray[np.float32]  # (blocks * dimension * 64,), [block][axis][lane], inf = unused
    products: NDArray[np.float32]  # (blocks * (1 + dimension) * 64,), |s'|² then -2 s' per axis
    vectors: NDArray[np.float32]  # (capacity, dimension)
    codes: NDArray[np.uint64]  # (capacity, 2)
    evicted_near: NDArray[np.int64]  # (capacity,) evicted points whose nearest selected it was
    extent: NDArray[np.float64]  # (1,) greatest |s'|; s' = s - first selected point
    size: NDArray[np.int64]  # (1,)


def empty_selected(dimension: int, capacity: int) -> Selected:
    """Room for `capacity` points, none there."""
    blocks = -(-capacity // BLOCK)
    products = aligned((blocks, 1 + dimension, BLOCK), np.float32)
    products[:, 0], products[:, 1:] = np.inf, 0
    lanes = aligned(blocks * dimension * BLOCK, np.float32)
    lanes[:] = np.inf
    return Selected(
        lanes=lanes,
        products=products.reshape(-1),
        vectors=np.zeros((blocks * BLOCK, dimension), np.float32),
        codes=np.zeros((blocks * BLOCK, 2), np.uint64),
        evicted_near=np.zeros(blocks * BLOCK, np.int64),
        extent=np.zeros(1),
        size=np.zeros(1, np.int64),
    )


def grown_selected(selected: Selected, capacity: int) -> Selected:
    """The same points with room for `capacity`."""
    grown = empty_selected(selected.vectors.shape[1], capacity)
    for name in Selected._fields:
        old = getattr(selected, name)
        getattr(grown, name)[: len(old)] = old
    return grown


@njit(cache=True, error_model="numpy")
def append_selected(selected: Any, vector: Any, code: Any) -> None:
    """Add one point at the end; the caller has made room."""
    at = selected.size[0]
    dimension = vector.size
    base = at // BLOCK * dimension * BLOCK + at % BLOCK
    norm_at = at // BLOCK * (1 + dimension) * BLOCK + at % BLOCK
    squared = 0.0
    for axis in range(dimension):
        selected.lanes[base + axis * BLOCK] = vector[axis]
        selected.vectors[at, axis] = vector[axis]
        shifted = vector[axis] - selected.vectors[0, axis]
        selected.products[norm_at + (1 + axis) * BLOCK] = np.float32(-2) * shifted
        squared += np.float64(shifted) * np.float64(shifted)
    selected.products[norm_at] = squared
    selected.extent[0] = max(selected.extent[0], np.sqrt(squared))
    selected.codes[at, 0] = code[0]
    selected.codes[at, 1] = code[1]
    selected.evicted_near[at] = 0
    selected.size[0] = at + 1
