"""Cheap upper bounds of importances from the neighbours of a few selected points, the pivots."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.lanes import (
    LANES,
    add_squared_difference,
    aligned,
    at_most,
    load,
    lowest_bit,
    minimum,
    smallest,
    splat,
    splat_at,
    sum_of_roots,
)
from selector.nearest import find_nearest
from selector.selected_points import BLOCK, ROUNDING, TINY

PIVOTS = 256


class Pivots(NamedTuple):
    """Some selected points with their own k nearest selected, for cheap upper bounds."""

    lanes: NDArray[np.float32]  # as Selected.lanes
    around: NDArray[np.float32]  # [pivot][sixteen neighbours][axis][lane], their coordinates
    size: NDArray[np.int64]  # (3,) pivots, selected points when they were chosen, k


def empty_pivots(dimension: int, k: int) -> Pivots:
    """No pivots yet."""
    return Pivots(
        lanes=aligned(PIVOTS * dimension, np.float32),
        around=aligned(PIVOTS * -(-k // LANES) * LANES * dimension, np.float32),
        size=np.array([0, 0, k]),
    )


@njit(cache=True, error_model="numpy")
def choose_pivots(selected: Any, pivots: Any) -> None:
    """Take evenly spaced selected points, at most 256, and find the neighbours of each."""
    count = selected.size[0]
    number = min(count, PIVOTS)
    dimension = selected.vectors.shape[1]
    k = pivots.size[2]
    vectors = np.empty((number, dimension), np.float32)
    pivots.lanes[:] = np.inf
    for i in range(number):
        vectors[i] = selected.vectors[i * count // number]
        base = i // BLOCK * dimension * BLOCK + i % BLOCK
        for axis in range(dimension):
            pivots.lanes[base + axis * BLOCK] = vectors[i, axis]
    neighbours = np.empty((number, k), np.int32)
    find_nearest(selected, vectors, np.empty((number, k)), neighbours)
    pivots.around[:] = 0
    parts = (k + LANES - 1) // LANES
    for i in range(number):
        for j in range(k):
            base = (i * parts + j // LANES) * dimension * LANES + j % LANES
            for axis in range(dimension):
                pivots.around[base + axis * LANES] = selected.vectors[neighbours[i, j], axis]
    pivots.size[0] = number
    pivots.size[1] = count


@njit(cache=True, error_model="numpy")
def nearest_pivot(lanes: Any, number: int, flat: Any, at: int, dimension: int) -> Any:
    """Index of a pivot nearest to flat[at : at + dimension] in float32."""
    zero = splat(np.float32(0))
    best = 0
    least = np.float32(np.inf)
    for block in range((number + BLOCK - 1) // BLOCK):
        s0, s1, s2, s3 = zero, zero, zero, zero
        for axis in range(dimension):
            p = (block * dimension + axis) * BLOCK
            x = splat_at(flat, at + axis)
            s0 = add_squared_difference(s0, load(lanes, p), x)
            s1 = add_squared_difference(s1, load(lanes, p + 16), x)
            s2 = add_squared_difference(s2, load(lanes, p + 32), x)
            s3 = add_squared_difference(s3, load(lanes, p + 48), x)
        here = smallest(minimum(minimum(s0, s1), minimum(s2, s3)))
        if here < least:
            least = here
            limit = splat(here)
            low = at_most(s0, limit) | (at_most(s1, limit) << np.uint64(16))
            high = (at_most(s2, limit) << np.uint64(32)) | (at_most(s3, limit) << np.uint64(48))
            best = block * BLOCK + lowest_bit(low | high)
    return best


@njit(cache=True, error_model="numpy")
def bound_importances(pivots: Any, vectors: Any, bounds: Any) -> None:
    """Upper bounds of importances: the mean distance to the k neighbours of a near pivot.

    The mean over any k selected points bounds the mean over the k nearest, now and for ever. It is
    summed in float32: d squares and 16 roots err by less than (d + 16) roundings, underflow by
    less than TINY in a square; overflow gives infinity, which is a bound.
    """
    number, dimension = vectors.shape
    k = pivots.size[2]
    flat = vectors.reshape(-1)
    lanes, around = pivots.lanes, pivots.around
    parts = (k + LANES - 1) // LANES
    slack = splat(TINY)
    margin = (1.0 + (dimension + 16) * ROUNDING) / k
    for v in range(number):
        at = v * dimension
        pivot = nearest_pivot(lanes, pivots.size[0], flat, at, dimension)
        total = 0.0
        for part in range(parts):
            base = (pivot * parts + part) * dimension * LANES
            squares = splat(np.float32(0))
            for axis in range(dimension):
                near = load(around, base + axis * LANES)
                squares = add_squared_difference(squares, near, splat_at(flat, at + axis))
            total = sum_of_roots(total, squares, slack, k - part * LANES)
        bounds[v] = total * margin
