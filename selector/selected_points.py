"""The selected points: exact vectors for decisions, float32 lanes for filters."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 64  # selected points per block of the lane layout
ROUNDING = 2.0**-23
TINY = np.float32(1e-36)  # above every distance² that float32 rounds to a subnormal


class Selected(NamedTuple):
    """The selected points, oldest first; written only by `append_selected`."""

    lanes: NDArray[
        np.float32
    ]  # (capacity / 64 * dimension * 64,), [block][axis][lane], inf = unused
    vectors: NDArray[np.float32]  # (capacity, dimension)
    codes: NDArray[np.uint64]  # (capacity, 2)
    evicted_near: NDArray[np.int64]  # (capacity,) evicted points whose nearest selected it was
    size: NDArray[np.int64]  # (1,)


def empty_selected(dimension: int, capacity: int) -> Selected:
    """Room for `capacity` points, none there."""
    blocks = -(-capacity // BLOCK)
    return Selected(
        lanes=np.full(blocks * dimension * BLOCK, np.inf, np.float32),
        vectors=np.zeros((blocks * BLOCK, dimension), np.float32),
        codes=np.zeros((blocks * BLOCK, 2), np.uint64),
        evicted_near=np.zeros(blocks * BLOCK, np.int64),
        size=np.zeros(1, np.int64),
    )


def grown_selected(selected: Selected, capacity: int) -> Selected:
    """The same points with room for `capacity`."""
    count = int(selected.size[0])
    grown = empty_selected(selected.vectors.shape[1], capacity)
    grown.lanes[: selected.lanes.size] = selected.lanes
    grown.vectors[:count] = selected.vectors[:count]
    grown.codes[:count] = selected.codes[:count]
    grown.evicted_near[:count] = selected.evicted_near[:count]
    grown.size[0] = count
    return grown


@njit(cache=True, error_model="numpy")
def append_selected(selected: Any, vector: Any, code: Any) -> None:
    """Add one point at the end; the caller has made room."""
    at = selected.size[0]
    dimension = vector.size
    base = at // BLOCK * dimension * BLOCK + at % BLOCK
    for axis in range(dimension):
        selected.lanes[base + axis * BLOCK] = vector[axis]
        selected.vectors[at, axis] = vector[axis]
    selected.codes[at, 0] = code[0]
    selected.codes[at, 1] = code[1]
    selected.evicted_near[at] = 0
    selected.size[0] = at + 1
