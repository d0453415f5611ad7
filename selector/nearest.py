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
    add_squared_difference,
    at_most,
    bit_count,
    load,
    lowest_bit,
    minimum,
    smallest,
    splat,
)
from selector.selected_points import BLOCK, ROUNDING, TINY


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
            x = splat(flat[at + axis])
            p0 = add_squared_difference(p0, load(lanes, s), x)
            p1 = add_squared_difference(p1, load(lanes, s + 16), x)
            p2 = add_squared_difference(p2, load(lanes, s + 32), x)
            p3 = add_squared_difference(p3, load(lanes, s + 48), x)
        minima[into + block] = smallest(minimum(minimum(p0, p1), minimum(p2, p3)))


@njit(cache=True, error_model="numpy")
def smallest_of_four(
    lanes: Any, blocks: int, flat: Any, at: int, dimension: int, minima: Any, into: int, width: int
) -> None:
    """As `smallest_of_one` for four consecutive vectors, which share the loads."""
    zero = splat(np.float32(0))
    for block in range(blocks):
        p0, p1, p2, p3 = zero, zero, zero, zero
        q0, q1, q2, q3 = zero, zero, zero, zero
        r0, r1, r2, r3 = zero, zero, zero, zero
        u0, u1, u2, u3 = zero, zero, zero, zero
        for axis in range(dimension):
            s = (block * dimension + axis) * BLOCK
            s0, s1 = load(lanes, s), load(lanes, s + 16)
            s2, s3 = load(lanes, s + 32), load(lanes, s + 48)
            x = splat(flat[at + axis])
            p0 = add_squared_difference(p0, s0, x)
            p1 = add_squared_difference(p1, s1, x)
            p2 = add_squared_difference(p2, s2, x)
            p3 = add_squared_difference(p3, s3, x)
            x = splat(flat[at + dimension + axis])
            q0 = add_squared_difference(q0, s0, x)
            q1 = add_squared_difference(q1, s1, x)
            q2 = add_squared_difference(q2, s2, x)
            q3 = add_squared_difference(q3, s3, x)
            x = splat(flat[at + 2 * dimension + axis])
            r0 = add_squared_difference(r0, s0, x)
            r1 = add_squared_difference(r1, s1, x)
            r2 = add_squared_difference(r2, s2, x)
            r3 = add_squared_difference(r3, s3, x)
            x = splat(flat[at + 3 * dimension + axis])
            u0 = add_squared_difference(u0, s0, x)
            u1 = add_squared_difference(u1, s1, x)
            u2 = add_squared_difference(u2, s2, x)
            u3 = add_squared_difference(u3, s3, x)
        minima[into + block] = smallest(minimum(minimum(p0, p1), minimum(p2, p3)))
        minima[into + width + block] = smallest(minimum(minimum(q0, q1), minimum(q2, q3)))
        minima[into + 2 * width + block] = smallest(minimum(minimum(r0, r1), minimum(r2, r3)))
        minima[into + 3 * width + block] = smallest(minimum(minimum(u0, u1), minimum(u2, u3)))


@njit(cache=True, error_model="numpy")
def smallest_per_block(
    lanes: Any, blocks: int, flat: Any, number: int, dimension: int, minima: Any, width: int
) -> None:
    """minima[v * width + b] = least float32 |vector v - s|² over block b of selected points."""
    v = 0
    while v + 4 <= number:
        smallest_of_four(lanes, blocks, flat, v * dimension, dimension, minima, v * width, width)
        v += 4
    while v < number:
        smallest_of_one(lanes, blocks, flat, v * dimension, dimension, minima, v * width)
        v += 1


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
        x = splat(vector[vector_at + axis])
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
def limit_of_k(values: Any, start: int, size: int, k: int) -> Any:
    """A value that at least k, and hardly more, of values[start : start + size] do not exceed.

    Bisection from the largest of the first k: a sort of a few dozen values costs five times more.
    """
    low = np.float32(0)
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
    minima = np.full((number, width), np.float32(np.inf))
    pruned = blocks > k
    flat_minima = minima.reshape(-1)
    if pruned:
        smallest_per_block(
            selected.lanes, blocks, vectors.reshape(-1), number, dimension, flat_minima, width
        )
    margin = np.float32(1.0 + 2.0 * (dimension + 8) * ROUNDING)
    flat = vectors.reshape(-1)
    rows = selected.vectors.reshape(-1)
    lanes = selected.lanes
    hits = np.empty(count, np.int32)
    values = np.empty(count)
    for v in range(number):
        limit = np.float32(np.inf)
        if pruned:
            limit = limit_of_k(flat_minima, v * width, width, k) * margin + TINY
        hit_count = 0
        for block in range(blocks):
            if not pruned or flat_minima[v * width + block] <= limit:
                base = block * dimension * BLOCK
                near = within(lanes, base, BLOCK, flat, v * dimension, dimension, limit)
                while near:
                    index = block * BLOCK + lowest_bit(near)
                    near &= near - np.uint64(1)
                    if index < count:
                        hits[hit_count] = index
                        hit_count += 1
        for h in range(hit_count):
            values[h] = distance(flat, v * dimension, rows, hits[h] * dimension, dimension)
        keep_nearest(values, hits, hit_count, distances[v], indices[v])


@njit(cache=True, error_model="numpy")
def keep_nearest(values: Any, hits: Any, hit_count: int, distances: Any, indices: Any) -> None:
    """The smallest of values[:hit_count] ascending, with their hits; equal ones in hit order."""
    k = distances.size
    distances[:] = np.inf
    indices[:] = -1
    for h in range(hit_count):
        if values[h] < distances[k - 1]:
            insert_distance(distances, indices, values[h], hits[h])
