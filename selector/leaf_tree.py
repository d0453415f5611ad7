"""Putting candidates into the leaves of the k-d tree one by one, and taking them out again."""

from typing import Any

import numpy as np
from numba import njit

from selector.leaf_tops import outranks, refresh_top, set_top
from selector.pool import (
    CANDIDATES,
    FREE_ROWS,
    FREE_SLOTS,
    LEAF,
    LEAVES,
    NO_LIST,
    NODES,
    ROOT,
    gather,
    open_leaf,
)


@njit(cache=True, error_model="numpy")
def put(
    coordinates: Any, boxes: Any, bounds: Any, slots: Any, kth_squared: Any, rows: Any,
    places: Any, leaves: Any, leaf: int, flat: Any, at: int, dimension: int, row: int,
    bound: float, slot: int, kth: Any,
) -> Any:  # fmt: skip
    """Append candidate flat[at : at + dimension] to a leaf with room; its place.

    The top is the caller's to refresh. It takes a Pool's arrays, see `apply_pending`.
    """
    lane = leaves[leaf].count
    leaves[leaf].count = lane + 1
    place = leaf * LEAF + lane
    base = leaf * dimension * LEAF + lane
    box = leaf * 2 * dimension
    for axis in range(dimension):
        x = flat[at + axis]
        coordinates[base + axis * LEAF] = x
        boxes[box + axis] = min(boxes[box + axis], x)
        boxes[box + dimension + axis] = max(boxes[box + dimension + axis], x)
    bounds[place] = bound
    slots[place] = slot
    kth_squared[place] = kth
    rows[place] = row
    places[row] = place
    if kth > leaves[leaf].reach:
        leaves[leaf].reach = kth
    return place


@njit(cache=True, error_model="numpy")
def middle_value(values: Any, at: int) -> Any:
    """(a value that about half of the 64 at `at` are below, whether all are equal)."""
    low = values[at]
    high = values[at]
    for lane in range(1, LEAF):
        low = min(low, values[at + lane])
        high = max(high, values[at + lane])
    if low == high:
        return low, True
    best = high
    fewest = LEAF
    for _ in range(12):
        middle = low + np.float32(0.5) * (high - low)
        below = 0
        for lane in range(LEAF):
            below += values[at + lane] < middle
        if 0 < below < LEAF and abs(2 * below - LEAF) < fewest:
            fewest = abs(2 * below - LEAF)
            best = middle
        if below < LEAF // 2:
            low = middle
        else:
            high = middle
    return best, False


@njit(cache=True, error_model="numpy")
def split(pool: Any, leaf: int, parent: int, dimension: int) -> None:
    """Halve a full leaf near the median of its widest axis; identical points halve by lane."""
    box = leaf * 2 * dimension
    axis = 0
    for other in range(1, dimension):
        width = pool.boxes[box + dimension + other] - pool.boxes[box + other]
        if width > pool.boxes[box + dimension + axis] - pool.boxes[box + axis]:
            axis = other
    value, identical = middle_value(pool.coordinates, (leaf * dimension + axis) * LEAF)

    vectors = np.empty((LEAF, dimension), np.float32)
    for lane in range(LEAF):
        gather(pool.coordinates, leaf * LEAF + lane, vectors[lane])
    first = leaf * LEAF
    bounds = pool.bounds[first : first + LEAF].copy()
    slots = pool.slots[first : first + LEAF].copy()
    kths = pool.kth_squared[first : first + LEAF].copy()
    rows = pool.rows[first : first + LEAF].copy()

    applied, top = pool.leaves[leaf].applied, pool.leaves[leaf].top
    right = open_leaf(pool, applied)
    total = pool.numbers[LEAVES]
    pool.numbers[LEAVES] = leaf
    open_leaf(pool, applied)
    pool.numbers[LEAVES] = total
    # By its old top the group learns that it loses it, where the right leaf is of another group.
    pool.leaves[leaf].top = top
    for lane in range(LEAF):
        below = lane % 2 == 0 if identical else vectors[lane, axis] < value
        target = leaf if below else right
        put(
            pool.coordinates, pool.boxes, pool.bounds, pool.slots, pool.kth_squared, pool.rows,
            pool.places, pool.leaves, target, vectors.reshape(-1), lane * dimension, dimension,
            rows[lane], bounds[lane], slots[lane], kths[lane],
        )  # fmt: skip
    refresh_top(pool, leaf)
    refresh_top(pool, right)

    node = pool.numbers[NODES]
    pool.numbers[NODES] = node + 1
    pool.nodes[node].axis = axis
    pool.nodes[node].value = value
    pool.nodes[node].below = ~leaf
    pool.nodes[node].above = ~right
    if parent < 0:
        pool.numbers[ROOT] = node
    elif pool.nodes[parent].below == ~leaf:
        pool.nodes[parent].below = node
    else:
        pool.nodes[parent].above = node


@njit(cache=True, error_model="numpy")
def find_leaf(nodes: Any, root: int, flat: Any, at: int) -> Any:
    """(leaf, its parent node) that the coordinates flat[at:] lead to."""
    parent = -1
    child = root
    while child >= 0:
        parent = child
        below = flat[at + nodes[child].axis] < nodes[child].value
        child = nodes[child].below if below else nodes[child].above
    return ~child, parent


@njit(cache=True, error_model="numpy")
def insert_all(pool: Any, vectors: Any, new_rows: Any, new_bounds: Any) -> None:
    """Put candidates without lists where their coordinates lead; rows of -1 are skipped."""
    coordinates, boxes, bounds = pool.coordinates, pool.boxes, pool.bounds
    slots, kth_squared, rows = pool.slots, pool.kth_squared, pool.rows
    places, leaves, nodes, numbers = pool.places, pool.leaves, pool.nodes, pool.numbers
    codes, group_tops = pool.codes, pool.group_tops
    dimension = vectors.shape[1]
    flat = vectors.reshape(-1)
    for i in range(new_rows.size):
        if new_rows[i] < 0:
            continue
        leaf, parent = find_leaf(nodes, numbers[ROOT], flat, i * dimension)
        while leaves[leaf].count == LEAF:
            split(pool, leaf, parent, dimension)
            leaf, parent = find_leaf(nodes, numbers[ROOT], flat, i * dimension)
        bound = new_bounds[i]
        place = put(
            coordinates, boxes, bounds, slots, kth_squared, rows, places, leaves, leaf, flat,
            i * dimension, dimension, new_rows[i], bound, NO_LIST, np.float32(-1),
        )  # fmt: skip
        numbers[CANDIDATES] += 1
        if bound >= leaves[leaf].top:
            best = leaf * LEAF + leaves[leaf].top_at
            higher = leaves[leaf].count == 1 or bound > leaves[leaf].top
            if higher or outranks(slots, rows, codes, place, best):
                set_top(leaves, numbers[LEAVES], group_tops, leaf, bound, place % LEAF)


@njit(cache=True, error_model="numpy")
def remove_at(
    coordinates: Any, bounds: Any, slots: Any, kth_squared: Any, rows: Any, places: Any,
    leaves: Any, free_slots: Any, free_rows: Any, numbers: Any, dimension: int, row: int,
) -> None:  # fmt: skip
    """Take a candidate out; its row and slot are free again, its leaf's top is the caller's."""
    place = places[row]
    leaf = place // LEAF
    last = leaf * LEAF + leaves[leaf].count - 1
    base = leaf * dimension * LEAF
    if slots[place] >= 0:
        free_slots[numbers[FREE_SLOTS]] = slots[place]
        numbers[FREE_SLOTS] += 1
    if place != last:
        for axis in range(dimension):
            at = base + axis * LEAF
            coordinates[at + place % LEAF] = coordinates[at + last % LEAF]
        bounds[place] = bounds[last]
        slots[place] = slots[last]
        kth_squared[place] = kth_squared[last]
        rows[place] = rows[last]
        places[rows[place]] = place
    kth_squared[last] = np.float32(-1)
    bounds[last] = -np.inf
    leaves[leaf].count -= 1
    numbers[CANDIDATES] -= 1
    free_rows[numbers[FREE_ROWS]] = row
    numbers[FREE_ROWS] += 1


@njit(cache=True, error_model="numpy")
def remove(pool: Any, row: int) -> None:
    """`remove_at` of a pool."""
    remove_at(
        pool.coordinates, pool.bounds, pool.slots, pool.kth_squared, pool.rows, pool.places,
        pool.leaves, pool.free_slots, pool.free_rows, pool.numbers,
        pool.boxes.size // (2 * pool.leaves.size), row,
    )  # fmt: skip
