"""Putting candidates into the leaves of the k-d tree one by one, and taking them out again."""

from typing import Any

import numpy as np
from numba import njit

from selector.leaf_tops import outranks, set_top, top_place
from selector.pool import (
    BUILT,
    CANDIDATES,
    FREE_ROWS,
    FREE_SLOTS,
    LEAF,
    LEAVES,
    NO_LIST,
    NODES,
    ROOT,
    open_leaf,
)

NEAR_HALF = LEAF // 8  # difference of the halves that a split does not try to lessen


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
        low = values[at + lane] if values[at + lane] < low else low
        high = values[at + lane] if values[at + lane] > high else high
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
        if fewest <= NEAR_HALF:
            break
        if below < LEAF // 2:
            low = middle
        else:
            high = middle
    return best, False


@njit(cache=True, error_model="numpy")
def deal_lanes(values: Any, at: int, value: Any, by_lane: bool, order: Any) -> Any:
    """order (64,) = lanes of values[at:] that are below `value`, then the others; how many are.

    by_lane takes even lanes for those below.
    """
    left = 0
    for lane in range(LEAF):
        order[left] = lane
        left += (lane % 2 == 0) if by_lane else (values[at + lane] < value)
    right = left
    for lane in range(LEAF):
        if right < LEAF:
            order[right] = lane
        right += (lane % 2 == 1) if by_lane else not (values[at + lane] < value)
    return left


@njit(cache=True, error_model="numpy")
def deal_field(field: Any, left_at: int, right_at: int, order: Any, left: int, old: Any) -> None:
    """Rearrange 64 values at left_at: those of order[:left] stay, the others go to right_at."""
    for lane in range(LEAF):
        old[lane] = field[left_at + lane]
    for lane in range(left):
        field[left_at + lane] = old[order[lane]]
    for lane in range(left, LEAF):
        field[right_at + lane - left] = old[order[lane]]


@njit(cache=True, error_model="numpy")
def deal_axes(
    coordinates: Any, boxes: Any, leaf: int, right: int, dimension: int, order: Any, left: int
) -> None:
    """`deal_field` of every coordinate, and the boxes of both leaves."""
    old = np.empty(LEAF, np.float32)
    for axis in range(dimension):
        left_at, right_at = (leaf * dimension + axis) * LEAF, (right * dimension + axis) * LEAF
        deal_field(coordinates, left_at, right_at, order, left, old)
        for side, at, count in ((leaf, left_at, left), (right, right_at, LEAF - left)):
            low, high = coordinates[at], coordinates[at]
            for lane in range(1, count):
                x = coordinates[at + lane]
                low = x if x < low else low
                high = x if x > high else high
            boxes[side * 2 * dimension + axis] = low
            boxes[side * 2 * dimension + dimension + axis] = high


@njit(inline="always")
def split(
    coordinates: Any, boxes: Any, bounds: Any, slots: Any, kth_squared: Any, rows: Any,
    places: Any, codes: Any, leaves: Any, nodes: Any, group_tops: Any, numbers: Any, leaf: int,
    parent: int, dimension: int,
) -> None:  # fmt: skip
    """Halve a full leaf near the median of its widest axis; identical points halve by lane."""
    box = leaf * 2 * dimension
    axis = 0
    for other in range(1, dimension):
        width = boxes[box + dimension + other] - boxes[box + other]
        if width > boxes[box + dimension + axis] - boxes[box + axis]:
            axis = other
    first = (leaf * dimension + axis) * LEAF
    value, identical = middle_value(coordinates, first)
    order = np.empty(LEAF, np.int64)
    left = deal_lanes(coordinates, first, value, identical, order)

    right = numbers[LEAVES]
    numbers[LEAVES] = right + 1
    leaves[right].applied, leaves[right].alone = leaves[leaf].applied, leaves[leaf].alone
    leaves[right].top = -np.inf
    leaves[right].dirty = 0
    here, there = leaf * LEAF, right * LEAF
    deal_axes(coordinates, boxes, leaf, right, dimension, order, left)
    deal_field(bounds, here, there, order, left, np.empty(LEAF))
    deal_field(kth_squared, here, there, order, left, np.empty(LEAF, np.float32))
    old = np.empty(LEAF, np.int32)
    deal_field(slots, here, there, order, left, old)
    deal_field(rows, here, there, order, left, old)
    for side, count in ((leaf, left), (right, LEAF - left)):
        at = side * LEAF
        reach = np.float32(-1)
        for place in range(at, at + count):
            places[rows[place]] = place
            reach = kth_squared[place] if kth_squared[place] > reach else reach
        for place in range(at + count, at + LEAF):
            bounds[place], kth_squared[place] = -np.inf, np.float32(-1)
        leaves[side].reach, leaves[side].count = reach, count
        best = top_place(bounds, slots, rows, codes, side, count)
        set_top(leaves, numbers[LEAVES], group_tops, side, bounds[best], best - at)

    node = numbers[NODES]
    numbers[NODES] = node + 1
    nodes[node].axis = axis
    nodes[node].value = value
    nodes[node].below = ~leaf
    nodes[node].above = ~right
    hang_leaf(nodes, numbers, parent, leaf, node)


@njit(inline="always")
def hang_leaf(nodes: Any, numbers: Any, parent: int, leaf: int, child: int) -> None:
    """Put `child` in the place of a leaf in the tree."""
    if parent < 0:
        numbers[ROOT] = child
    elif nodes[parent].below == ~leaf:
        nodes[parent].below = child
    else:
        nodes[parent].above = child


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


@njit(inline="always")
def insert_all(pool: Any, seen: int, vectors: Any, new_rows: Any, new_bounds: Any) -> None:
    """Put candidates without lists where their coordinates lead; rows of -1 are skipped.

    A leaf that was built full leaves the tree at the first arrival, for an empty one that has seen
    all `seen` selected points: halving it would cost ten times more, and touch 64 candidates.
    """
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
            if leaf < numbers[BUILT]:
                empty = open_leaf(pool, seen)
                hang_leaf(nodes, numbers, parent, leaf, ~empty)
                leaf = empty
                break
            split(
                coordinates, boxes, bounds, slots, kth_squared, rows, places, codes, leaves,
                nodes, group_tops, numbers, leaf, parent, dimension,
            )  # fmt: skip
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
