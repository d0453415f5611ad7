"""Applying selected points to k-lists leaf by leaf (QuickFPS for any k), filtered by boxes."""

from typing import Any

import numpy as np
from numba import njit

from selector.lanes import (
    add_squared_difference,
    at_most,
    load,
    lowest_bit,
    outside_squared,
    prefetch,
    splat,
    splat_at,
)
from selector.leaf_tops import set_top, top_place
from selector.nearest import distance, filter_threshold, within
from selector.pool import LEAF, LEAVES, gather
from selector.selected_points import BLOCK, ROUNDING, TINY

HITS = 192  # collected before their lists are read
ALONE = 16  # what lists may cost that are caught up one by one, before a whole leaf is
CHANGED = 2  # what one costs that is changed by it: its neighbours will be too


@njit(cache=True, error_model="numpy")
def within_each(
    lanes: Any, base: int, point: Any, point_at: int, dimension: int, limits: Any, limits_at: int
) -> Any:
    """Bit i is set where lane i of the 64 at `base` has float32 |x - point|² <= its own limit."""
    zero = splat(np.float32(0))
    s0, s1, s2, s3 = zero, zero, zero, zero
    for axis in range(dimension):
        at = base + axis * LEAF
        y = splat_at(point, point_at + axis)
        s0 = add_squared_difference(s0, load(lanes, at), y)
        s1 = add_squared_difference(s1, load(lanes, at + 16), y)
        s2 = add_squared_difference(s2, load(lanes, at + 32), y)
        s3 = add_squared_difference(s3, load(lanes, at + 48), y)
    low = at_most(s0, load(limits, limits_at))
    low |= at_most(s1, load(limits, limits_at + 16)) << np.uint64(16)
    high = at_most(s2, load(limits, limits_at + 32)) << np.uint64(32)
    high |= at_most(s3, load(limits, limits_at + 48)) << np.uint64(48)
    return low | high


@njit(cache=True, error_model="numpy")
def near_box(lanes: Any, base: int, boxes: Any, box: int, dimension: int, limit: Any) -> Any:
    """Bit i is set where selected point i of 16 at `base` has distance² <= limit to the box."""
    squared = splat(np.float32(0))
    for axis in range(dimension):
        squared = outside_squared(
            squared,
            load(lanes, base + axis * BLOCK),
            splat_at(boxes, box + axis),
            splat_at(boxes, box + dimension + axis),
        )
    return at_most(squared, splat(limit))


@njit(cache=True, error_model="numpy")
def insert_into_list(
    distances: Any, neighbours: Any, slot: int, k: int, value: float, index: int
) -> Any:
    """Insert a distance below the last into an ascending list; return the new importance."""
    last = slot * k + k - 1
    position = last
    while position > slot * k and distances[position - 1] > value:
        distances[position] = distances[position - 1]
        position -= 1
    distances[position] = value
    if position == slot * k:
        neighbours[slot] = index
    number = min(k, index + 1)
    total = 0.0
    for i in range(slot * k, slot * k + number):
        total += distances[i]
    return total / number


@njit(cache=True, error_model="numpy")
def take_hits(
    hits: Any, number: int, leaf: int, points: Any, coordinates: Any, kth_squared: Any,
    bounds: Any, slots: Any, distances: Any, neighbours: Any, seen: Any, dimension: int, k: int,
) -> Any:  # fmt: skip
    """Offer selected point index to the list of a lane, per hit index * 64 + lane; any taken?"""
    changed = False
    for hit in hits[:number]:
        index, lane = hit // LEAF, hit % LEAF
        place = leaf * LEAF + lane
        slot = slots[place]
        if index < seen[slot]:
            continue
        total = 0.0
        for axis in range(dimension):
            x = np.float64(coordinates[(leaf * dimension + axis) * LEAF + lane])
            difference = x - np.float64(points[index * dimension + axis])
            total += difference * difference
        value = np.sqrt(total)
        if value < distances[slot * k + k - 1]:
            bounds[place] = insert_into_list(distances, neighbours, slot, k, value, index)
            kth_squared[place] = filter_threshold(distances[slot * k + k - 1], dimension)
            changed = True
    return changed


@njit(cache=True, error_model="numpy")
def apply_pending(
    leaf: int, first: int, stop: int, lanes: Any, points: Any, coordinates: Any, boxes: Any,
    kth_squared: Any, bounds: Any, slots: Any, distances: Any, neighbours: Any, seen: Any,
    dimension: int, k: int, reach: Any,
) -> Any:  # fmt: skip
    """Offer selected points first..stop to the lists of one leaf; whether any was taken.

    Lists lie scattered in memory: they are fetched while more hits are looked for. All arrays flat.
    It takes arrays, not a Pool: passing one by value costs more than the work.
    """
    margin = 1.0 + (dimension + 8) * ROUNDING
    limit = reach * np.float32(margin * margin) + TINY
    changed = False
    start_of_leaf = leaf * dimension * LEAF
    hits = np.empty(HITS + LEAF, np.int64)
    number = 0
    for start in range(first // 16 * 16, stop, 16):
        base = start // BLOCK * dimension * BLOCK + start % BLOCK
        near = near_box(lanes, base, boxes, leaf * 2 * dimension, dimension, limit)
        while near:
            index = start + lowest_bit(near)
            near &= near - np.uint64(1)
            if index < first or index >= stop:
                continue
            takers = within_each(
                coordinates, start_of_leaf, points, index * dimension, dimension, kth_squared,
                leaf * LEAF,
            )  # fmt: skip
            while takers:
                lane = lowest_bit(takers)
                takers &= takers - np.uint64(1)
                slot = slots[leaf * LEAF + lane]
                prefetch(distances, slot * k)
                prefetch(distances, slot * k + k - 1)
                hits[number] = index * LEAF + lane
                number += 1
            if number >= HITS:
                changed |= take_hits(
                    hits, number, leaf, points, coordinates, kth_squared, bounds, slots,
                    distances, neighbours, seen, dimension, k,
                )  # fmt: skip
                number = 0
    if number:
        changed |= take_hits(
            hits, number, leaf, points, coordinates, kth_squared, bounds, slots, distances,
            neighbours, seen, dimension, k,
        )  # fmt: skip
    return changed


@njit(cache=True, error_model="numpy")
def catch_up(
    leaf: int, count: int, lanes: Any, points: Any, coordinates: Any, boxes: Any, kth_squared: Any,
    bounds: Any, slots: Any, distances: Any, neighbours: Any, seen: Any, rows: Any, codes: Any,
    leaves: Any, leaf_count: int, group_tops: Any, dimension: int, k: int,
) -> None:  # fmt: skip
    """Apply to a leaf every selected point it has not seen; lists and their bounds become exact."""
    first = leaves[leaf].applied
    leaves[leaf].applied = count
    leaves[leaf].alone = 0
    if first == count or leaves[leaf].reach < 0:
        return
    changed = apply_pending(
        leaf, first, count, lanes, points, coordinates, boxes, kth_squared, bounds, slots,
        distances, neighbours, seen, dimension, k, leaves[leaf].reach,
    )  # fmt: skip
    if changed:
        start = leaf * LEAF
        stop = start + leaves[leaf].count
        reach = np.float32(-1)
        for place in range(start, stop):
            reach = kth_squared[place] if kth_squared[place] > reach else reach
        leaves[leaf].reach = reach
        best = top_place(bounds, slots, rows, codes, leaf, stop - start)
        set_top(leaves, leaf_count, group_tops, leaf, bounds[best], best - start)


@njit(cache=True, error_model="numpy")
def catch_up_one(
    place: int, count: int, lanes: Any, points: Any, coordinates: Any, kth_squared: Any,
    bounds: Any, slots: Any, distances: Any, neighbours: Any, seen: Any, rows: Any, codes: Any,
    leaves: Any, leaf_count: int, group_tops: Any, vector: Any, k: int,
) -> None:  # fmt: skip
    """Apply to one list every selected point it has not seen; vector (dimension,) is scratch."""
    leaf, slot, dimension = place // LEAF, slots[place], vector.size
    first = max(leaves[leaf].applied, seen[slot])
    seen[slot] = count
    gather(coordinates, place, vector)
    changed = False
    for block in range(first // BLOCK, (count + BLOCK - 1) // BLOCK):
        near = within(
            lanes, block * dimension * BLOCK, BLOCK, vector, 0, dimension, kth_squared[place]
        )
        if block * BLOCK < first:
            near &= ~((np.uint64(1) << np.uint64(first - block * BLOCK)) - np.uint64(1))
        while near:
            index = block * BLOCK + lowest_bit(near)
            near &= near - np.uint64(1)
            value = distance(vector, 0, points, index * dimension, dimension)
            if value < distances[slot * k + k - 1]:
                bounds[place] = insert_into_list(distances, neighbours, slot, k, value, index)
                kth_squared[place] = filter_threshold(distances[slot * k + k - 1], dimension)
                changed = True
    leaves[leaf].alone += CHANGED if changed else 1
    if changed:
        best = top_place(bounds, slots, rows, codes, leaf, leaves[leaf].count)
        set_top(leaves, leaf_count, group_tops, leaf, bounds[best], best - leaf * LEAF)


@njit(cache=True, error_model="numpy")
def bring_up_to_date(pool: Any, selected: Any, leaf: int) -> None:
    """`catch_up` of one leaf of a pool."""
    catch_up(
        leaf, selected.size[0], selected.lanes, selected.vectors.reshape(-1), pool.coordinates,
        pool.boxes, pool.kth_squared, pool.bounds, pool.slots, pool.distances.reshape(-1),
        pool.neighbours, pool.seen, pool.rows, pool.codes, pool.leaves, pool.numbers[LEAVES],
        pool.group_tops, selected.vectors.shape[1], pool.distances.shape[1],
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def bring_all_up_to_date(pool: Any, selected: Any) -> None:
    """`catch_up` of every leaf."""
    lanes, points = selected.lanes, selected.vectors.reshape(-1)
    coordinates, boxes, kth_squared = pool.coordinates, pool.boxes, pool.kth_squared
    bounds, slots, rows, codes = pool.bounds, pool.slots, pool.rows, pool.codes
    distances, neighbours, seen = pool.distances.reshape(-1), pool.neighbours, pool.seen
    leaves, group_tops, leaf_count = pool.leaves, pool.group_tops, pool.numbers[LEAVES]
    for leaf in range(leaf_count):
        catch_up(
            leaf, selected.size[0], lanes, points, coordinates, boxes, kth_squared, bounds, slots,
            distances, neighbours, seen, rows, codes, leaves, leaf_count, group_tops,
            selected.vectors.shape[1], pool.distances.shape[1],
        )  # fmt: skip
