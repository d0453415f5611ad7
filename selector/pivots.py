"""Cheap upper bounds of importances from the neighbours of a few selected points, the pivots."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.lanes import (
    add_squared_difference,
    aligned,
    at_most,
    load,
    lowest_bit,
    minimum,
    smallest,
    splat,
    splat_at,
)
from selector.nearest import distance, find_nearest
from selector.selected_points import BLOCK

PIVOTS = 256
BOUND_SLACK = 1.0 + 1e-12  # a bound is summed in any order; this exceeds the difference


class Pivots(NamedTuple):
    """Some selected points with their own k nearest selected, for cheap upper bounds."""

    lanes: NDArray[np.float32]  # as Selected.lanes
    neighbours: NDArray[np.int32]  # (pivots, k) indices of selected points
    size: NDArray[np.int64]  # (2,) pivots, and selected points when they were chosen


def empty_pivots(dimension: int, k: int) -> Pivots:
    """No pivots yet."""
    return Pivots(
        lanes=aligned(PIVOTS * dimension, np.float32),
        neighbours=np.zeros((PIVOTS, k), np.int32),
        size=np.zeros(2, np.int64),
    )


@njit(cache=True, error_model="numpy")
def choose_pivots(selected: Any, pivots: Any) -> None:
    """Take evenly spaced selected points, at most 256, and find the neighbours of each."""
    count = selected.size[0]
    number = min(count, PIVOTS)
    dimension = selected.vectors.shape[1]
    k = pivots.neighbours.shape[1]
    vectors = np.empty((number, dimension), np.float32)
    pivots.lanes[:] = np.inf
    for i in range(number):
        vectors[i] = selected.vectors[i * count // number]
        base = i // BLOCK * dimension * BLOCK + i % BLOCK
        for axis in range(dimension):
            pivots.lanes[base + axis * BLOCK] = vectors[i, axis]
    find_nearest(selected, vectors, np.empty((number, k)), pivots.neighbours[:number])
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
def bound_importances(selected: Any, pivots: Any, vectors: Any, bounds: Any) -> None:
    """Upper bounds of importances: the mean distance to the k neighbours of a near pivot.

    The mean over any k selected points bounds the mean over the k nearest, now and for ever.
    """
    number, dimension = vectors.shape
    k = pivots.neighbours.shape[1]
    flat = vectors.reshape(-1)
    points = selected.vectors.reshape(-1)
    neighbours = pivots.neighbours.reshape(-1)
    lanes = pivots.lanes
    for v in range(number):
        pivot = nearest_pivot(lanes, pivots.size[0], flat, v * dimension, dimension)
        total = 0.0
        for i in range(pivot * k, (pivot + 1) * k):
            at = neighbours[i] * dimension
            total += distance(flat, v * dimension, points, at, dimension)
        bounds[v] = total / k * BOUND_SLACK
