"""The k smallest of a few values, without the branches that a sort would mispredict."""

from typing import Any

import numpy as np
from numba import njit

from selector.double_lanes import compared_16
from selector.lanes import at_most, bit_count, load, splat

RANKED = 64  # values that are sorted by counting


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
def keep_nearest(
    values: Any, hits: Any, hit_count: int, distances: Any, indices: Any, at: int, k: int
) -> None:
    """The k smallest of values[:hit_count] ascending, with their hits; equal ones in hit order.

    Up to 64 values, inf behind the last up to a multiple of 16, are ranked by counting, which has
    no branches to mispredict; written to distances[at : at + k] and indices[at : at + k].
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
