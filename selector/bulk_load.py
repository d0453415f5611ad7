"""Building the leaves of many candidates at once: a k-d tree whose leaves are full."""

from typing import Any

import numpy as np
from numba import njit

from selector.leaf_tops import refresh_top
from selector.leaf_tree import put
from selector.pool import CANDIDATES, GROUP, LEAF, LEAVES, NODES, ROOT, open_leaf


@njit(cache=True, error_model="numpy")
def widest_axis(vectors: Any, order: Any, start: int, stop: int) -> Any:
    """The axis along which vectors[order[start:stop]] extend furthest."""
    best = 0
    greatest = np.float32(-1)
    for axis in range(vectors.shape[1]):
        low = np.float32(np.inf)
        high = np.float32(-np.inf)
        for i in range(start, stop):
            x = vectors[order[i], axis]
            low = min(low, x)
            high = max(high, x)
        if high - low > greatest:
            greatest = high - low
            best = axis
    return best


@njit(cache=True, error_model="numpy")
def partition(vectors: Any, axis: int, order: Any, start: int, stop: int, middle: int) -> None:
    """Hoare's selection: afterwards no vector before `middle` exceeds any from `middle` on."""
    low = start
    high = stop - 1
    while low < high:
        pivot = vectors[order[(low + high) // 2], axis]
        left = low
        right = high
        while left <= right:
            while vectors[order[left], axis] < pivot:
                left += 1
            while vectors[order[right], axis] > pivot:
                right -= 1
            if left <= right:
                order[left], order[right] = order[right], order[left]
                left += 1
                right -= 1
        if middle <= right:
            high = right
        elif middle >= left:
            low = left
        else:
            return


@njit(cache=True, error_model="numpy")
def build(
    pool: Any, applied: int, vectors: Any, rows: Any, bounds: Any, slots: Any, kths: Any
) -> None:
    """Replace all leaves by full ones over these candidates, whose lists saw `applied` points."""
    number = rows.size
    dimension = vectors.shape[1]
    flat = vectors.reshape(-1)
    coordinates, boxes, all_bounds = pool.coordinates, pool.boxes, pool.bounds
    all_slots, kth_squared, all_rows = pool.slots, pool.kth_squared, pool.rows
    places, leaf_table = pool.places, pool.leaves
    order = np.arange(number).astype(np.int32)
    for group in range((pool.numbers[LEAVES] + GROUP - 1) // GROUP):
        pool.group_tops[group] = -np.inf
    pool.numbers[LEAVES] = 0
    pool.numbers[NODES] = 0
    pool.numbers[CANDIDATES] = number
    stack = np.empty((64, 4), np.int64)  # start, stop, parent node, is below its parent
    stack[0] = (0, number, -1, 0)
    depth = 1
    while depth:
        depth -= 1
        start, stop, parent, is_below = stack[depth]
        if stop - start <= LEAF:
            leaf = open_leaf(pool, applied)
            for i in range(start, stop):
                j = order[i]
                put(
                    coordinates, boxes, all_bounds, all_slots, kth_squared, all_rows, places,
                    leaf_table, leaf, flat, j * dimension, dimension, rows[j], bounds[j],
                    slots[j], kths[j],
                )  # fmt: skip
            refresh_top(pool, leaf)
            child = ~leaf
        else:
            leaves = (stop - start + LEAF - 1) // LEAF
            middle = start + leaves // 2 * LEAF
            axis = widest_axis(vectors, order, start, stop)
            partition(vectors, axis, order, start, stop, middle)
            child = pool.numbers[NODES]
            pool.numbers[NODES] = child + 1
            pool.nodes[child].axis = axis
            pool.nodes[child].value = vectors[order[middle], axis]
            stack[depth] = (start, middle, child, 1)
            stack[depth + 1] = (middle, stop, child, 0)
            depth += 2
        if parent < 0:
            pool.numbers[ROOT] = child
        elif is_below:
            pool.nodes[parent].below = child
        else:
            pool.nodes[parent].above = child
