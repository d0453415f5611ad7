"""The k nearest selected points of a vector: exact in float64, filtered in float32 lanes.

Importance of a candidate (Bhatia et al. 2022, section 3.3; DynIm) = mean Euclidean distance to its
k nearest selected points. Distances are sums of squares in axis order, lists are summed from the
smallest distance up; every operation is monotone under rounding, so importances never rise bit for
bit as points are selected, once there are k of them.
"""

from typing import Any

import numpy as np
from numba import njit

from selector.lanes import (
    add_product,
    add_squared_difference,
    at_most,
    bit_count,
    compared_16,
    load,
    lowest_bit,
    minimum,
    smallest,
    splat,
    splat_at,
    store_smallest_of_four,
)
from selector.selected_points import BLOCK, ROUNDING, TINY

RANKED = 64  # values that are sorted by counting
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
def insert_distance(distances: Any, indices: Any, value: float, index: int) -> None:
    """Insert into an ascending list that drops its last; equal distances keep arrival order."""
    position = distances.size - 1
    while position > 0 and distances[position - 1] > value:
        distances[position] = distances[position - 1]
        indices[position] = indices[position - 1]
        position -= 1
    distances[position] = value
    indices[position] = index


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
def count_at_most(values: Any, start: int, size: int, limit: Any) -> Any:
    """How many of values[start : start + size] are <= limit; size is a multiple of 16."""
    total = 0
    bound = splat(limit)
    for at in range(start, start + size, 16):
        total += bit_count(at_most(load(values, at), bound))
    return total


@njit(cache=True, error_model="numpy")
def limit_of_k(values: Any, start: int, size: int, k: int, low: Any) -> Any:
    """A value that at least k, and hardly more, of values[start : start + size] do not exceed.

    Bisection between `low`, which none is below, and the largest of the first k: a sort of a few
    dozen values costs five times more.
    """
    high = values[start]
    for i in range(1, k):
        high = max(high, values[start + i])
    if high == np.inf:
        return high
    for _ in range(10):
        middle = np.float32(0.5) * (low + high)
        count = count_at_most(values, start, size, middle)
        if count < k:
            low = middle
        else:
            high = middle
            if count <= k + 2:
                break
    return high


@njit(cache=True, error_model="numpy")
def hits_by_products(
    products: Any, extent: float, dimension: int, minima: Any, start: int, width: int, k: int,
    shifted: Any, at: int, hits: Any,
) -> Any:  # fmt: skip
    """Number of selected points that may be among the k nearest of x', -1 if too ill-conditioned.

    shifted[at : at + d] holds x', minima[start :] its block minima of |s'|² - 2 x'·s', both sides
    relative to the first selected point. Rounding x', s', the norm and the sum errs by less than
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
    number = 0
    bound = splat(limit)
    for group in range(0, width, 16):
        promising = at_most(load(minima, start + group), bound)
        while promising:
            block = group + lowest_bit(promising)
            promising &= promising - np.uint64(1)
            near = within_products(products, block, shifted, at, dimension, limit)
            while near:
                hits[number] = block * BLOCK + lowest_bit(near)
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
    hits = np.empty(blocks * BLOCK, np.int32)
    values = np.empty(max(blocks, 1) * BLOCK)
    fours = (number + 3) // 4
    shared = pruned and number > 1
    minima = np.full(4 * fours * width if shared else 0, np.float32(np.inf))
    shifted = np.zeros(4 * fours * dimension if shared else 0, np.float32)
    if shared:
        for i in range(number * dimension):
            shifted[i] = flat[i] - rows[i % dimension]
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
                selected.products,
                selected.extent[0],
                dimension,
                minima,
                v * width,
                width,
                k,
                shifted,
                v * dimension,
                hits,
            )
        if hit_count < 0:
            hit_count = hits_by_differences(selected, blocks, pruned, k, flat, v * dimension, hits)
        for h in range(hit_count):
            values[h] = distance(flat, v * dimension, rows, hits[h] * dimension, dimension)
        for h in range(hit_count, RANKED):
            values[h] = np.inf
        keep_nearest(values, hits, hit_count, flat_distances, flat_indices, v * k, k)


@njit(cache=True, error_model="numpy")
def keep_nearest(
    values: Any, hits: Any, hit_count: int, distances: Any, indices: Any, at: int, k: int
) -> None:
    """The k smallest of values[:hit_count] ascending, with their hits; equal ones in hit order.

    Up to 64 values, inf behind the last, are ranked by counting, which has no branches to
    mispredict; written to distances[at : at + k] and indices[at : at + k].
    """
    if hit_count > RANKED:
        distances[at : at + k] = np.inf
        indices[at : at + k] = -1
        for h in range(hit_count):
            if values[h] < distances[at + k - 1]:
                insert_distance(distances[at : at + k], indices[at : at + k], values[h], hits[h])
        return
    for i in range(min(hit_count, k), k):
        distances[at + i] = np.inf
        indices[at + i] = -1
    parts = (hit_count + 15) // 16
    for h in range(hit_count):
        value = values[h]
        rank = 0
        for part in range(parts):
            less, equal = compared_16(values, 16 * part, value)
            before = (np.uint64(1) << np.uint64(min(max(h - 16 * part, 0), 16))) - np.uint64(1)
            rank += bit_count(less | (equal & before))
        if rank < k:
            distances[at + rank] = value
            indices[at + rank] = hits[h]
