"""Building the leaves of many candidates at once: a k-d tree whose leaves are full."""

from typing import Any

import numpy as np
from numba import njit

from selector.leaf_tops import refresh_top
from selector.pool import BUILT, CANDIDATES, GROUP, LEAF, LEAVES, NODES, ROOT, open_leaf

SAMPLE = 32  # vectors that stand for all of a node


@njit(cache=True, error_model="numpy")
def widest_axis(vectors: Any, order: Any, start: int, stop: int) -> Any:
    """The axis along which a sample of vectors[order[start:stop]] extends furthest."""
    dimension = vectors.shape[1]
    step = max(1, (stop - start) // SAMPLE)
    best = 0
    greatest = np.float32(-1)
    for axis in range(dimension):
        low = np.float32(np.inf)
        high = np.float32(-np.inf)
        for i in range(start, stop, step):
            x = vectors[order[i], axis]
            low = x if x < low else low
            high = x if x > high else high
        if high - low > greatest:
            greatest = high - low
            best = axis
    return best


@njit(cache=True, error_model="numpy")
def sample_quantile(keys: Any, start: int, stop: int, middle: int, sample: Any) -> Any:
    """About the key that belongs at `middle`, from a small sorted sample of keys[start:stop]."""
    number = min(sample.size, max(3, (stop - start) // 16))
    step = max(1, (stop - start) // number)
    number = min(number, stop - start)
    for i in range(number):
        key = keys[start + i * step]
        j = i
        while j > 0 and sample[j - 1] > key:
            sample[j] = sample[j - 1]
            j -= 1
        sample[j] = key
    return sample[(middle - start) * number // (stop - start)]


@njit(cache=True, error_model="numpy")
def gather_left(
    keys: Any, order: Any, spare_keys: Any, spare_order: Any, start: int, stop: int, pivot: Any,
    equal: bool,
) -> Any:  # fmt: skip
    """Move keys below `pivot` (or equal, if so) to the front; where they end.

    Each key is written to both sides, which needs no branch and no swap.
    """
    left = start
    right = 0
    for i in range(start, stop):
        key, item = keys[i], order[i]
        keys[left], order[left] = key, item
        spare_keys[right], spare_order[right] = key, item
        below = (key <= pivot) if equal else (key < pivot)
        left += below
        right += not below
    for i in range(right):
        keys[left + i], order[left + i] = spare_keys[i], spare_order[i]
    return left


@njit(cache=True, error_model="numpy")
def partition(
    keys: Any, order: Any, spare_keys: Any, spare_order: Any, start: int, stop: int, middle: int
) -> None:
    """Selection: afterwards no key before `middle` exceeds any from `middle` on."""
    sample = np.empty(SAMPLE, np.float32)
    while stop - start > 1:
        pivot = sample_quantile(keys, start, stop, middle, sample)
        left = gather_left(keys, order, spare_keys, spare_order, start, stop, pivot, False)
        if middle < left:
            stop = left
        else:
            right = gather_left(keys, order, spare_keys, spare_order, left, stop, pivot, True)
            if middle < right:
                return
            start = right


@njit(cache=True, error_model="numpy")
def fill_leaf(
    coordinates: Any, boxes: Any, leaf: int, flat: Any, dimension: int, order: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    """Coordinates and box of a new leaf that takes the vectors order[start:stop]."""
    for axis in range(dimension):
        base = (leaf * dimension + axis) * LEAF
        low = np.float32(np.inf)
        high = np.float32(-np.inf)
        for i in range(stop - start):
            x = flat[order[start + i] * dimension + axis]
            coordinates[base + i] = x
            low = x if x < low else low
            high = x if x > high else high
        boxes[leaf * 2 * dimension + axis] = low
        boxes[leaf * 2 * dimension + dimension + axis] = high


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
    keys, spare_keys = np.empty(number, np.float32), np.empty(number, np.float32)
    spare_order = np.empty(number, np.int32)
    for group in range((pool.numbers[LEAVES] + GROUP - 1) // GROUP):
        pool.group_tops[group] = -np.inf
    pool.numbers[LEAVES] = 0
    pool.numbers[NODES] = 0
    pool.numbers[CANDIDATES] = number
    pool.numbers[BUILT] = (number + LEAF - 1) // LEAF
    stack = np.empty((64, 4), np.int64)  # start, stop, parent node, is below its parent
    stack[0] = (0, number, -1, 0)
    depth = 1
    while depth:
        depth -= 1
        start, stop, parent, is_below = stack[depth]
        if stop - start <= LEAF:
            leaf = open_leaf(pool, applied)
            fill_leaf(coordinates, boxes, leaf, flat, dimension, order, start, stop)
            reach = np.float32(-1)
            place = leaf * LEAF
            for i in range(start, stop):
                j = order[i]
                all_bounds[place], all_slots[place] = bounds[j], slots[j]
                kth_squared[place], all_rows[place] = kths[j], rows[j]
                places[rows[j]] = place
                reach = kths[j] if kths[j] > reach else reach
                place += 1
            leaf_table[leaf].count = stop - start
            leaf_table[leaf].reach = reach
            refresh_top(pool, leaf)
            child = ~leaf
        else:
            leaves = (stop - start + LEAF - 1) // LEAF
            middle = start + leaves // 2 * LEAF
            axis = widest_axis(vectors, order, start, stop)
            for i in range(start, stop):
                keys[i] = vectors[order[i], axis]
            partition(keys, order, spare_keys, spare_order, start, stop, middle)
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
