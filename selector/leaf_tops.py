"""The greatest importance bound of each leaf, kept as bounds change; equals go by identifier."""

from typing import Any

import numpy as np
from numba import njit

from selector.double_lanes import equal_of_64, largest_of_64
from selector.lanes import lowest_bit
from selector.pool import GROUP, LEAF, LEAVES


@njit(cache=True, error_model="numpy")
def is_before(codes: Any, left: int, right: int) -> Any:
    """Whether the identifier of row `left` sorts before that of row `right`."""
    if codes[left, 0] != codes[right, 0]:
        return codes[left, 0] < codes[right, 0]
    return codes[left, 1] < codes[right, 1]


@njit(cache=True, error_model="numpy")
def outranks(slots: Any, rows: Any, codes: Any, here: int, there: int) -> Any:
    """Order of places of equal bound: first those without a list, then by identifier."""
    bare_here = slots[here] < 0
    bare_there = slots[there] < 0
    if bare_here != bare_there:
        return bare_here
    return is_before(codes, rows[here], rows[there])


@njit(cache=True, error_model="numpy")
def set_top(
    leaves: Any, leaf_count: int, group_tops: Any, leaf: int, top: float, top_at: int
) -> None:
    """Record a leaf's greatest bound and keep the greatest of its group."""
    old = leaves[leaf].top
    leaves[leaf].top = top
    leaves[leaf].top_at = top_at
    group = leaf // GROUP
    if top >= group_tops[group]:
        group_tops[group] = top
    elif old == group_tops[group]:
        greatest = -np.inf
        for other in range(group * GROUP, min((group + 1) * GROUP, leaf_count)):
            greatest = leaves[other].top if leaves[other].top > greatest else greatest
        group_tops[group] = greatest


@njit(cache=True, error_model="numpy")
def greatest_of(values: Any, start: int, stop: int) -> Any:
    """max(values[start:stop]) of at least one value, in four chains for speed."""
    m0, m1, m2, m3 = values[start], values[start], values[start], values[start]
    at = start
    while at + 4 <= stop:
        m0 = values[at] if values[at] > m0 else m0
        m1 = values[at + 1] if values[at + 1] > m1 else m1
        m2 = values[at + 2] if values[at + 2] > m2 else m2
        m3 = values[at + 3] if values[at + 3] > m3 else m3
        at += 4
    while at < stop:
        m0 = values[at] if values[at] > m0 else m0
        at += 1
    return max(max(m0, m1), max(m2, m3))


@njit(cache=True, error_model="numpy")
def top_place(bounds: Any, slots: Any, rows: Any, codes: Any, leaf: int, count: int) -> Any:
    """Place of the greatest bound of a leaf with `count` candidates, -1 if there is none."""
    if count == 0:
        return -1
    start = leaf * LEAF
    equals = equal_of_64(bounds, start, largest_of_64(bounds, start))
    best = start + lowest_bit(equals)
    equals &= equals - np.uint64(1)
    while equals:
        place = start + lowest_bit(equals)
        equals &= equals - np.uint64(1)
        if outranks(slots, rows, codes, place, best):
            best = place
    return best


@njit(cache=True, error_model="numpy")
def refresh_top(pool: Any, leaf: int) -> None:
    """Find the leaf's greatest bound again."""
    count = pool.leaves[leaf].count
    best = top_place(pool.bounds, pool.slots, pool.rows, pool.codes, leaf, count)
    top = pool.bounds[best] if best >= 0 else -np.inf
    lane = max(best - leaf * LEAF, 0)
    set_top(pool.leaves, pool.numbers[LEAVES], pool.group_tops, leaf, top, lane)


@njit(cache=True, error_model="numpy")
def refresh_dirty_tops(pool: Any) -> None:
    """Find the tops of the changed leaves again."""
    bounds, slots, rows, codes = pool.bounds, pool.slots, pool.rows, pool.codes
    leaves, group_tops, leaf_count = pool.leaves, pool.group_tops, pool.numbers[LEAVES]
    for leaf in range(leaf_count):
        if leaves[leaf].dirty:
            leaves[leaf].dirty = 0
            best = top_place(bounds, slots, rows, codes, leaf, leaves[leaf].count)
            top = bounds[best] if best >= 0 else -np.inf
            set_top(leaves, leaf_count, group_tops, leaf, top, max(best - leaf * LEAF, 0))
