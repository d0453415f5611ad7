"""Cheap upper bounds of importances from the neighbours of a few selected points, the pivots."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.lanes import (
    LANES,
    add_squared_difference,
    aligned,
    load,
    lowest_bit,
    splat,
    splat_at,
    sum_of_roots,
)
from selector.nearest import find_nearest, smallest_products_of_four, within_products
from selector.selected_points import BLOCK, ROUNDING, TINY

PIVOTS = 256
FOUR = 4  # vectors that share the reading of the pivots


class Pivots(NamedTuple):
    """Some selected points with their own k nearest selected, for cheap upper bounds."""

    products: NDArray[np.float32]  # as Selected.products, relative to the first pivot
    origin: NDArray[np.float32]  # (dimension,) the first pivot
    around: NDArray[np.float32]  # [pivot][sixteen neighbours][axis][lane], their coordinates
    size: NDArray[np.int64]  # (3,) pivots, selected points when they were chosen, k


def empty_pivots(dimension: int, k: int) -> Pivots:
    """No pivots yet."""
    return Pivots(
        products=aligned(PIVOTS * (1 + dimension), np.float32),
        origin=np.zeros(dimension, np.float32),
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
    pivots.products[:] = 0
    for block in range(0, pivots.products.size, (1 + dimension) * BLOCK):
        pivots.products[block : block + BLOCK] = np.inf
    for i in range(number):
        vectors[i] = selected.vectors[i * count // number]
        base = i // BLOCK * (1 + dimension) * BLOCK + i % BLOCK
        squared = 0.0
        for axis in range(dimension):
            shifted = vectors[i, axis] - vectors[0, axis]
            squared += np.float64(shifted) * np.float64(shifted)
            pivots.products[base + (1 + axis) * BLOCK] = np.float32(-2) * shifted
        pivots.products[base] = squared
    pivots.origin[:] = vectors[0]
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
def near_pivot(
    products: Any, number: int, minima: Any, at: int, shifted: Any, shifted_at: int, dimension: int
) -> Any:
    """Index of a pivot that is nearest up to rounding; minima[at :] are those of its blocks."""
    best = 0
    for block in range(1, (number + BLOCK - 1) // BLOCK):
        best = block if minima[at + block] < minima[at + best] else best
    bits = within_products(products, best, shifted, shifted_at, dimension, minima[at + best])
    pivot = best * BLOCK + lowest_bit(bits) if bits else 0
    return pivot if pivot < number else 0


@njit(cache=True, error_model="numpy")
def bound_importances(pivots: Any, vectors: Any, bounds: Any) -> None:
    """Upper bounds of importances: the mean distance to the k neighbours of a near pivot.

    The mean over any k selected points bounds the mean over the k nearest, now and for ever; so
    any pivot will do, and the nearest is found as roughly as is cheap. The mean is summed in
    float32: d squares and 16 roots err by less than (d + 16) roundings, underflow by less than
    TINY in a square; overflow gives infinity, which is a bound.
    """
    number, dimension = vectors.shape
    k = pivots.size[2]
    flat = vectors.reshape(-1)
    products, around, origin, count = pivots.products, pivots.around, pivots.origin, pivots.size[0]
    parts = (k + LANES - 1) // LANES
    slack = splat(TINY)
    margin = (1.0 + (dimension + 16) * ROUNDING) / k
    blocks = (count + BLOCK - 1) // BLOCK
    minima = np.empty(FOUR * blocks, np.float32)
    shifted = np.zeros(FOUR * dimension, np.float32)
    for first in range(0, number, FOUR):
        few = min(FOUR, number - first)
        for i in range(few):
            for axis in range(dimension):
                x = flat[(first + i) * dimension + axis]
                shifted[i * dimension + axis] = x - origin[axis]
        smallest_products_of_four(
            products, 0, blocks, shifted, 0, dimension, minima, 0, blocks
        )  # fmt: skip
        for i in range(few):
            pivot = near_pivot(
                products, count, minima, i * blocks, shifted, i * dimension, dimension
            )
            at = (first + i) * dimension
            total = 0.0
            for part in range(parts):
                base = (pivot * parts + part) * dimension * LANES
                squares = splat(np.float32(0))
                for axis in range(dimension):
                    near = load(around, base + axis * LANES)
                    squares = add_squared_difference(squares, near, splat_at(flat, at + axis))
                total = sum_of_roots(total, squares, slack, k - part * LANES)
            bounds[first + i] = total * margin
