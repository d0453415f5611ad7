"""Taking candidates out: eviction of the least important, invalidation, and undoing a selection."""

from typing import Any

import numpy as np
from numba import njit

from selector.counter_random import WARM_UP, uniform
from selector.identifiers import departed_position, find, fingerprint, forget
from selector.leaves import (
    FREE_SLOTS,
    KEYED,
    LEAF,
    LEAVES,
    NO_LIST,
    bring_up_to_date,
    gather,
    is_before,
    make_all_lists,
    refresh_top,
    remove,
)
from selector.nearest import distance, find_nearest


@njit(cache=True, error_model="numpy")
def take_out(pool: Any, selected: Any, table: Any, departed: Any, row: int, evicted: bool) -> None:
    """Remove one candidate and remember its identifier; an evicted one counts for its neighbour.

    The leaf's top is the caller's to refresh.
    """
    place = pool.places[row]
    if evicted and selected.size[0] > 0:
        if pool.slots[place] >= 0:
            bring_up_to_date(pool, selected, place // LEAF)
            nearest = pool.neighbours[pool.slots[place]]
        else:
            vector = np.empty((1, selected.vectors.shape[1]), np.float32)
            index = np.empty((1, 1), np.int32)
            gather(pool, place, vector[0])
            find_nearest(selected, vector, np.empty((1, 1)), index)
            nearest = index[0, 0]
        selected.evicted_near[nearest] += 1
    high, low = pool.codes[row, 0], pool.codes[row, 1]
    forget(table, pool.codes, selected.codes, find(table, pool.codes, selected.codes, high, low))
    mark = fingerprint(high, low)
    departed[departed_position(departed, mark)] = mark
    remove(pool, row)


@njit(cache=True, error_model="numpy")
def take_out_all(
    pool: Any, selected: Any, table: Any, departed: Any, rows: Any, evicted: bool
) -> None:
    """`take_out` for several rows, then the tops of the leaves they were in."""
    for row in rows:
        pool.leaves[pool.places[row] // LEAF].dirty = 1
        take_out(pool, selected, table, departed, row, evicted)
    for leaf in range(pool.numbers[LEAVES]):
        if pool.leaves[leaf].dirty:
            pool.leaves[leaf].dirty = 0
            refresh_top(pool, leaf)


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
def outlasts(values: Any, pool: Any, left: int, right: int) -> Any:
    """Whether place `left` is to be kept in preference to place `right`."""
    if values[left] != values[right]:
        return values[left] > values[right]
    return is_before(pool.codes, pool.rows[left], pool.rows[right])


@njit(cache=True, error_model="numpy")
def sink(heap: Any, size: int, at: int, values: Any, pool: Any) -> None:
    """Restore the heap order (the one to keep most on top) below position `at`."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and outlasts(values, pool, heap[child + 1], heap[child]):
            child += 1
        if not outlasts(values, pool, heap[child], heap[at]):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@njit(cache=True, error_model="numpy")
def find_lowest(pool: Any, values: Any, number: int) -> Any:
    """Rows of the `number` candidates of lowest value; of equals the later identifiers."""
    heap = np.empty(number, np.int32)
    size = 0
    for leaf in range(pool.numbers[LEAVES]):
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            if size < number:
                heap[size] = place
                size += 1
                if size == number:
                    for at in range(number // 2 - 1, -1, -1):
                        sink(heap, number, at, values, pool)
            elif values[place] <= values[heap[0]] and outlasts(values, pool, heap[0], place):
                heap[0] = place
                sink(heap, number, 0, values, pool)
    rows = np.empty(size, np.int32)
    for i in range(size):
        rows[i] = pool.rows[heap[i]]
    return rows

    """Number of lists that selected point `index` is in, or ties with the last of."""


@njit(cache=True, error_model="numpy")
def make_every_list(pool: Any, selected: Any) -> None:
    """Make every importance exact; there is room for every list."""
    for leaf in range(pool.numbers[LEAVES]):
        make_all_lists(pool, selected, leaf)


@njit(cache=True, error_model="numpy")
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
    rows = find_lowest(pool, values, number)
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
                gather(pool, place, vector)
                value = distance(vector, 0, points, index * dimension, dimension)
                if value > pool.distances[slot, k - 1]:
                    if pool.neighbours[slot] > index:
                        pool.neighbours[slot] -= 1
                    continue
                pool.free_slots[pool.numbers[FREE_SLOTS]] = slot
                pool.numbers[FREE_SLOTS] += 1
                pool.slots[place] = NO_LIST
                pool.kth_squared[place] = np.float32(-1)
            pool.bounds[place] = np.inf
        refresh_top(pool, leaf)
    pool.numbers[KEYED] = -1
