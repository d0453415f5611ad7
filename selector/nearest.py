"""The k nearest selected points of a vector: exact in float64, filtered in float32 lanes.

Importance of a candidate (Bhatia et al. 2022, section 3.3; DynIm) = mean Euclidean distance to its
k nearest selected points. Distances are sums of squares in axis order, lists are summed from the
smallest distance up; every operation is monotone under rounding, so importances never rise bit for
bit as points are selected, once there are k of them.
"""

from typing import Any

import numpy as np
from numba import njit

from selector.double_lanes import add_gaps_squared, no_distance, store_roots
from selector.k_smallest import keep_nearest, limit_of_k
from selector.lanes import (
    add_product,
    add_squared_difference,
    at_most,
    load,
    lowest_bit,
    minimum,
    smallest,
    splat,
    splat_at,
    store_smallest_of_four,
)
from selector.selected_points import BLOCK, ROUNDING, TINY

EIGHT = 8  # distances computed at a time
TILE = 8  # blocks that stay in the nearest cache while all vectors pass over them
LARGEST_SPAN = 1e18  # its square is far from overflow in float32
SMALLEST_SQUARE = 1e-30  # far from underflow


@njit(cache=True, error_model="numpy")
def distance(left: Any, left_at: int, right: Any, right_at: int, dimension: int) -> Any:
    """Distance of two float32 vectors inside flat arrays, summed in float64 in axis order."""
    total = 0.0
    for axis in range(dimension):
        difference = np.float64(left[left_at + axis]) - np.float64(right[right_at + axis])
        total += difference * difference
    return np.sqrt(total)


@njit(cache=True, error_model="numpy")
def mean_of_nearest(distances: Any, selected_count: int) -> Any:
    """Mean of an ascending list of the nearest distances; infinite while nothing is selected."""
    count = min(distances.size, selected_count)
    if count == 0:
        return np.inf
    total = 0.0
    for i in range(count):
        total += distances[i]
    return total / count


@njit(cache=True, error_model="numpy")
def filter_threshold(kth_distance: float, dimension: int) -> Any:
    """A float32 squared distance that no point nearer than `kth_distance` can exceed."""
    margin = 1.0 + (dimension + 8) * ROUNDING
    return np.float32(kth_distance * kth_distance * margin) + TINY


@njit(cache=True, error_model="numpy")
def smallest_of_one(
    lanes: Any, blocks: int, flat: Any, at: int, dimension: int, minima: Any, into: int
) -> None:
    """minima[into + b] = least float32 |x - s|² over block b, x = flat[at : at + dimension]."""
    zero = splat(np.float32(0))
    for block in range(blocks):
        p0, p1, p2, p3 = zero, zero, zero, zero
        for axis in range(dimension):
            s = (block * dimension + axis) * BLOCK
            x = splat_at(flat, at + axis)
            p0 = add_squared_difference(p0, load(lanes, s), x)
            p1 = add_squared_difference(p1, load(lanes, s + 16), x)
            p2 = add_squared_difference(p2, load(lanes, s + 32), x)
            p3 = add_squared_difference(p3, load(lanes, s + 48), x)
        minima[into + block] = smallest(minimum(minimum(p0, p1), minimum(p2, p3)))


@njit(cache=True, error_model="numpy")
def smallest_products_of_four(
    products: Any, first: int, stop: int, flat: Any, at: int, dimension: int, minima: Any,
    into: int, width: int,
) -> None:  # fmt: skip
    """minima[into + i * width + b] = least float32 |s'|² - 2 x'·s' over blocks b, four x' at `at`.

    That is |x' - s'|² - |x'|² in half the operations, but with an absolute error.
    """
    for block in range(first, stop):
        s = block * (1 + dimension) * BLOCK
        p0, p1 = load(products, s), load(products, s + 16)
        p2, p3 = load(products, s + 32), load(products, s + 48)
        q0, q1, q2, q3 = p0, p1, p2, p3
        r0, r1, r2, r3 = p0, p1, p2, p3
        u0, u1, u2, u3 = p0, p1, p2, p3
        for axis in range(dimension):
            s += BLOCK
            s0, s1 = load(products, s), load(products, s + 16)
            s2, s3 = load(products, s + 32), load(products, s + 48)
            x = splat_at(flat, at + axis)
            p0 = add_product(p0, s0, x)
            p1 = add_product(p1, s1, x)
            p2 = add_product(p2, s2, x)
            p3 = add_product(p3, s3, x)
            x = splat_at(flat, at + dimension + axis)
            q0 = add_product(q0, s0, x)
            q1 = add_product(q1, s1, x)
            q2 = add_product(q2, s2, x)
            q3 = add_product(q3, s3, x)
            x = splat_at(flat, at + 2 * dimension + axis)
            r0 = add_product(r0, s0, x)
            r1 = add_product(r1, s1, x)
            r2 = add_product(r2, s2, x)
            r3 = add_product(r3, s3, x)
            x = splat_at(flat, at + 3 * dimension + axis)
            u0 = add_product(u0, s0, x)
            u1 = add_product(u1, s1, x)
            u2 = add_product(u2, s2, x)
            u3 = add_product(u3, s3, x)
        store_smallest_of_four(
            minima, into + block, width,
            minimum(minimum(p0, p1), minimum(p2, p3)), minimum(minimum(q0, q1), minimum(q2, q3)),
            minimum(minimum(r0, r1), minimum(r2, r3)), minimum(minimum(u0, u1), minimum(u2, u3)),
        )  # fmt: skip


@njit(cache=True, error_model="numpy")
def within_products(
    products: Any, block: int, vector: Any, vector_at: int, dimension: int, limit: Any
) -> Any:
    """Bit i is set where point i of a block has float32 |s'|² - 2 x'·s' <= limit."""
    s = block * (1 + dimension) * BLOCK
    s0, s1 = load(products, s), load(products, s + 16)
    s2, s3 = load(products, s + 32), load(products, s + 48)
    for axis in range(dimension):
        s += BLOCK
        x = splat_at(vector, vector_at + axis)
        s0 = add_product(s0, load(products, s), x)
        s1 = add_product(s1, load(products, s + 16), x)
        s2 = add_product(s2, load(products, s + 32), x)
        s3 = add_product(s3, load(products, s + 48), x)
    bound = splat(limit)
    low = at_most(s0, bound) | (at_most(s1, bound) << np.uint64(16))
    high = (at_most(s2, bound) << np.uint64(32)) | (at_most(s3, bound) << np.uint64(48))
    return low | high


@njit(cache=True, error_model="numpy")
def within(
    lanes: Any, base: int, stride: int, vector: Any, vector_at: int, dimension: int, limit: Any
) -> Any:
    """Bit i is set where point i of the 64 at `base` has float32 |vector - s|² <= limit."""
    zero = splat(np.float32(0))
    s0 = zero
    s1 = zero
    s2 = zero
    s3 = zero
    for axis in range(dimension):
        at = base + axis * stride
        x = splat_at(vector, vector_at + axis)
        s0 = add_squared_difference(s0, load(lanes, at), x)
        s1 = add_squared_difference(s1, load(lanes, at + 16), x)
        s2 = add_squared_difference(s2, load(lanes, at + 32), x)
        s3 = add_squared_difference(s3, load(lanes, at + 48), x)
    bound = splat(limit)
    low = at_most(s0, bound) | (at_most(s1, bound) << np.uint64(16))
    high = (at_most(s2, bound) << np.uint64(32)) | (at_most(s3, bound) << np.uint64(48))
    return low | high


@njit(cache=True, error_model="numpy")
def blocks_at_most(minima: Any, start: int, width: int, limit: Any, blocks: Any) -> Any:
    """Number of blocks b with minima[start + b] <= limit, b < width; they are in blocks[:n]."""
    number = 0
    bound = splat(limit)
    for first in range(0, width, 64):
        bits = at_most(load(minima, start + first), bound)
        for part in range(16, min(64, width - first), 16):
            bits |= at_most(load(minima, start + first + part), bound) << np.uint64(part)
        while bits:
            blocks[number] = first + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            number += 1
    return number


@njit(cache=True, error_model="numpy")
def hits_by_products(
    products: Any, extent: float, dimension: int, minima: Any, start: int, width: int, k: int,
    shifted: Any, at: int, blocks: Any, masks: Any, hits: Any,
) -> Any:  # fmt: skip
    """Number of selected points that may be among the k nearest of x', -1 if too ill-conditioned.

    blocks (width,) int64 and masks (width,) uint64 are scratch. shifted[at : at + d] holds x',
    minima[start :] its block minima of |s'|² - 2 x'·s', both sides relative to the first selected
    point. Rounding x', s', the norm and the sum errs by less than
    error = (d + 8) 2⁻²³ (|x'| + greatest |s'|)² [half of it by the standard bound], so k points are
    within limit + error, and each that is no further has a value of at most limit + 2 error.
    """
    squared = 0.0
    for axis in range(at, at + dimension):
        squared += np.float64(shifted[axis]) * np.float64(shifted[axis])
    span = np.sqrt(squared) + extent
    error = (dimension + 8) * ROUNDING * span * span
    if not span < LARGEST_SPAN:
        return -1
    limit = limit_of_k(minima, start, width, k, np.float32(-squared - error))
    if not error + SMALLEST_SQUARE < 0.1 * (limit + squared):
        return -1
    limit = np.float32(limit + 2.0 * error)
    promising = blocks_at_most(minima, start, width, limit, blocks)
    for i in range(promising):  # apart from the loop below, so that no misprediction holds it up
        masks[i] = within_products(products, blocks[i], shifted, at, dimension, limit)
    number = 0
    for i in range(promising):
        near = masks[i]
        while near:
            hits[number] = blocks[i] * BLOCK + lowest_bit(near)
            near &= near - np.uint64(1)
            number += 1
    return number


@njit(cache=True, error_model="numpy")
def hits_by_differences(
    selected: Any, blocks: int, pruned: bool, k: int, flat: Any, at: int, hits: Any
) -> Any:
    """As `hits_by_products` from |x - s|², whose float32 error is relative: it always works."""
    count = selected.size[0]
    dimension = selected.vectors.shape[1]
    lanes = selected.lanes
    width = (blocks + 15) // 16 * 16
    minima = np.full(width, np.float32(np.inf))
    limit = np.float32(np.inf)
    if pruned:
        smallest_of_one(lanes, blocks, flat, at, dimension, minima, 0)
        margin = np.float32(1.0 + 2.0 * (dimension + 8) * ROUNDING)
        limit = limit_of_k(minima, 0, width, k, np.float32(0)) * margin + TINY
    number = 0
    for block in range(blocks):
        if not pruned or minima[block] <= limit:
            near = within(lanes, block * dimension * BLOCK, BLOCK, flat, at, dimension, limit)
            while near:
                index = block * BLOCK + lowest_bit(near)
                near &= near - np.uint64(1)
                if index < count:
                    hits[number] = index
                    number += 1
    return number


@njit(cache=True, error_model="numpy")
def find_nearest(selected: Any, vectors: Any, distances: Any, indices: Any) -> None:
    """The k nearest selected points of each vector, ascending, padded with inf and -1.

    A value that k block minima do not exceed is at least the k-th smallest distance, so only
    blocks whose minimum does not exceed it can hold a neighbour. vectors (n, d) float32;
    distances (n, k) float64 and indices (n, k) int32 are overwritten.
    """
    count = selected.size[0]
    number, dimension = vectors.shape
    k = distances.shape[1]
    blocks = (count + BLOCK - 1) // BLOCK
    width = (blocks + 15) // 16 * 16
    pruned = blocks > k
    flat = vectors.reshape(-1)
    rows = selected.vectors.reshape(-1)
    flat_distances, flat_indices = distances.reshape(-1), indices.reshape(-1)
    hits = np.empty(blocks * BLOCK + EIGHT, np.int32)
    values = np.empty(max(blocks, 1) * BLOCK)
    near_blocks, masks = np.empty(width, np.int64), np.empty(width, np.uint64)
    fours = (number + 3) // 4
    shared = pruned and number > 1
    minima = np.full(4 * fours * width if shared else 0, np.float32(np.inf))
    shifted = np.zeros(4 * fours * dimension if shared else 0, np.float32)
    if shared:
        for start in range(0, number * dimension, dimension):
            for axis in range(dimension):
                shifted[start + axis] = flat[start + axis] - rows[axis]
        for first in range(0, blocks, TILE):
            for four in range(fours):
                smallest_products_of_four(
                    selected.products, first, min(first + TILE, blocks), shifted,
                    4 * four * dimension, dimension, minima, 4 * four * width, width,
                )  # fmt: skip
    for v in range(number):
        hit_count = -1
        if shared:
            hit_count = hits_by_products(
                selected.products, selected.extent[0], dimension, minima, v * width, width, k,
                shifted, v * dimension, near_blocks, masks, hits,
            )  # fmt: skip
        if hit_count < 0:
            hit_count = hits_by_differences(selected, blocks, pruned, k, flat, v * dimension, hits)
        measure_hits(flat, v * dimension, rows, dimension, hits, hit_count, values)
        keep_nearest(values, hits, hit_count, flat_distances, flat_indices, v * k, k)


@njit(cache=True, error_model="numpy")
def measure_hits(
    flat: Any, at: int, rows: Any, dimension: int, hits: Any, hit_count: int, values: Any
) -> None:
    """values[h] = `distance` of flat[at : at + d] to point hits[h], infinite behind the last.

    Up to a multiple of 16; hits has room for eight more, which are overwritten.
    """
    hits[hit_count : hit_count + EIGHT] = 0
    for first in range(0, (hit_count + 15) // 16 * 16, EIGHT):
        total = no_distance()
        here = min(first, hit_count)
        for axis in range(dimension):
            total = add_gaps_squared(total, rows, hits, here, dimension, axis, flat[at + axis])
        store_roots(values, first, total, hit_count - first)
