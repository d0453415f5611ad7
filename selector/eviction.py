"""Taking candidates out: eviction of the least important, invalidation, and undoing a selection."""

from typing import Any

import numpy as np
from numba import njit

from selector.counter_random import WARM_UP, uniform
from selector.identifiers import departed_position, find, fingerprint, forget
from selector.k_lists import make_every_list
from selector.leaf_tops import is_before, refresh_dirty_tops, refresh_top
from selector.leaf_tree import remove_at
from selector.leaf_updates import bring_up_to_date
from selector.nearest import distance, find_nearest
from selector.pool import FREE_SLOTS, KEYED, LEAF, LEAVES, NO_LIST, gather


@njit(inline="always")
def count_for_neighbours(pool: Any, selected: Any, rows: Any) -> None:
    """Count each of these candidates for its nearest selected point, before it is evicted."""
    vector = np.empty((1, selected.vectors.shape[1]), np.float32)
    index = np.empty((1, 1), np.int32)
    slots, leaves = pool.slots, pool.leaves
    for row in rows:
        place = pool.places[row]
        if slots[place] >= 0:
            if leaves[place // LEAF].applied != selected.size[0]:
                bring_up_to_date(pool, selected, place // LEAF)
            nearest = pool.neighbours[slots[place]]
        else:
            gather(pool.coordinates, place, vector[0])
            find_nearest(selected, vector, np.empty((1, 1)), index)
            nearest = index[0, 0]
        selected.evicted_near[nearest] += 1


@njit(inline="always")
def take_out_all(
    pool: Any, selected: Any, table: Any, departed: Any, rows: Any, evicted: bool
) -> None:
    """Remove candidates and remember their identifiers; evicted ones count for their neighbours."""
    if evicted and selected.size[0] > 0:
        count_for_neighbours(pool, selected, rows)
    coordinates, bounds, slots = pool.coordinates, pool.bounds, pool.slots
    kth_squared, all_rows, places = pool.kth_squared, pool.rows, pool.places
    leaves, free_slots, free_rows = pool.leaves, pool.free_slots, pool.free_rows
    numbers, codes, selected_codes = pool.numbers, pool.codes, selected.codes
    dimension = selected.vectors.shape[1]
    for row in rows:
        leaves[places[row] // LEAF].dirty = 1
        high, low = codes[row, 0], codes[row, 1]
        forget(table, codes, selected_codes, find(table, codes, selected_codes, high, low))
        mark = fingerprint(high, low)
        departed[departed_position(departed, mark)] = mark
        remove_at(
            coordinates, bounds, slots, kth_squared, all_rows, places, leaves, free_slots,
            free_rows, numbers, dimension, row,
        )  # fmt: skip
    refresh_dirty_tops(pool)


@njit(cache=True, error_model="numpy")
def warm_up_draws(pool: Any, seed: Any) -> Any:
    """The warm-up draw of every candidate, by place."""
    draws = np.empty(pool.bounds.size)
    for leaf in range(pool.numbers[LEAVES]):
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            row = pool.rows[place]
            draws[place] = uniform(seed, WARM_UP, pool.codes[row, 0], pool.codes[row, 1])
    return draws


@njit(cache=True, error_model="numpy")
def outlasts(values: Any, rows: Any, codes: Any, left: int, right: int) -> Any:
    """Whether place `left` is to be kept in preference to place `right`."""
    if values[left] != values[right]:
        return values[left] > values[right]
    return is_before(codes, rows[left], rows[right])


@njit(cache=True, error_model="numpy")
def sink(heap: Any, size: int, at: int, values: Any, rows: Any, codes: Any) -> None:
    """Restore the heap order (the one to keep most on top) below position `at`."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and outlasts(values, rows, codes, heap[child + 1], heap[child]):
            child += 1
        if not outlasts(values, rows, codes, heap[child], heap[at]):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@njit(cache=True, error_model="numpy")
def find_lowest(
    leaves: Any, leaf_count: int, rows: Any, codes: Any, values: Any, number: int
) -> Any:
    """Rows of the `number` candidates of lowest value; of equals the later identifiers."""
    heap = np.empty(number, np.int32)
    size = 0
    for leaf in range(leaf_count):
        for place in range(leaf * LEAF, leaf * LEAF + leaves[leaf].count):
            if size < number:
                heap[size] = place
                size += 1
                if size == number:
                    for at in range(number // 2 - 1, -1, -1):
                        sink(heap, number, at, values, rows, codes)
            elif values[place] <= values[heap[0]] and outlasts(values, rows, codes, heap[0], place):
                heap[0] = place
                sink(heap, number, 0, values, rows, codes)
    lowest = np.empty(size, np.int32)
    for i in range(size):
        lowest[i] = rows[heap[i]]
    return lowest


@njit(inline="always")
def evict_lowest(
    pool: Any, selected: Any, table: Any, departed: Any, number: int, warm_up: int, seed: Any,
    importances: Any, codes: Any,
) -> None:  # fmt: skip
    """Evict the least important candidates; there is room for every list.

    During the warm-up, whose ranking is the random draw, the lowest draws go. Filled in place
    order: importances (number,), codes (number, 2).
    """
    if selected.size[0] < warm_up:
        values = warm_up_draws(pool, seed)
    else:
        make_every_list(pool, selected)
        values = pool.bounds
    rows = find_lowest(pool.leaves, pool.numbers[LEAVES], pool.rows, pool.codes, values, number)
    for i in range(rows.size):
        importances[i] = values[pool.places[rows[i]]]
        codes[i, 0] = pool.codes[rows[i], 0]
        codes[i, 1] = pool.codes[rows[i], 1]
    take_out_all(pool, selected, table, departed, rows, True)


@njit(cache=True, error_model="numpy")
def withdraw(pool: Any, selected: Any, index: int) -> None:
    """Drop every list and bound that selected point `index` may have entered.

    Importances rise when a point is released, so the remaining bounds are to be keyed again.
    """
    dimension = selected.vectors.shape[1]
    k = pool.distances.shape[1]
    points = selected.vectors.reshape(-1)
    vector = np.empty(dimension, np.float32)
    for leaf in range(pool.numbers[LEAVES]):
        bring_up_to_date(pool, selected, leaf)
        pool.leaves[leaf].applied = selected.size[0] - 1
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            slot = pool.slots[place]
            if slot >= 0:
                gather(pool.coordinates, place, vector)
                value = distance(vector, 0, points, index * dimension, dimension)
                if value > pool.distances[slot, k - 1]:
                    if pool.neighbours[slot] > index:
                        pool.neighbours[slot] -= 1
                    pool.seen[slot] = 0  # of what is left its leaf has seen everything
                    continue
                pool.free_slots[pool.numbers[FREE_SLOTS]] = slot
                pool.numbers[FREE_SLOTS] += 1
                pool.slots[place] = NO_LIST
                pool.kth_squared[place] = np.float32(-1)
            pool.bounds[place] = np.inf
        refresh_top(pool, leaf)
    pool.numbers[KEYED] = -1
