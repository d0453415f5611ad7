"""Reading a pool: importances, nearest selected points, candidates in arrival-independent order."""

from typing import Any

import numpy as np
from numba import njit

from selector.identifiers import find
from selector.k_lists import make_lists
from selector.leaf_tops import refresh_top
from selector.leaf_updates import bring_up_to_date
from selector.nearest import find_nearest
from selector.pool import LEAF, LEAVES, gather


@njit(cache=True, error_model="numpy")
def look_up(pool: Any, selected: Any, table: Any, codes: Any, entries: Any) -> None:
    """entries[i] = row + 1 of a candidate, -index - 1 of a selected point, 0 of neither."""
    for i in range(codes.shape[0]):
        at = find(table, pool.codes, selected.codes, codes[i, 0], codes[i, 1])
        entries[i] = table[at]


@njit(cache=True, error_model="numpy")
def exact_importances(pool: Any, selected: Any, rows: Any, importances: Any) -> None:
    """Importances of candidates, whose lists there is room for."""
    place = np.empty(1, np.int32)
    for i in range(rows.size):
        place[0] = pool.places[rows[i]]
        leaf = place[0] // LEAF
        bring_up_to_date(pool, selected, leaf)
        if pool.slots[place[0]] < 0:
            make_lists(pool, selected, place)
            refresh_top(pool, leaf)
        importances[i] = pool.bounds[place[0]]


@njit(cache=True, error_model="numpy")
def nearest_of_all(pool: Any, selected: Any, rows: Any, distances: Any, indices: Any) -> None:
    """Distance and index of the selected point nearest to every candidate, and its row."""
    at = 0
    dimension = selected.vectors.shape[1]
    vectors = np.empty((LEAF, dimension), np.float32)
    where = np.empty(LEAF, np.int64)
    nearest = np.empty((LEAF, 1))
    index = np.empty((LEAF, 1), np.int32)
    for leaf in range(pool.numbers[LEAVES]):
        bring_up_to_date(pool, selected, leaf)
        bare = 0
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            rows[at] = pool.rows[place]
            slot = pool.slots[place]
            if slot >= 0:
                distances[at] = pool.distances[slot, 0]
                indices[at] = pool.neighbours[slot]
            else:
                gather(pool.coordinates, place, vectors[bare])
                where[bare] = at
                bare += 1
            at += 1
        if bare:
            find_nearest(selected, vectors[:bare], nearest[:bare], index[:bare])
            for i in range(bare):
                distances[where[i]] = nearest[i, 0]
                indices[where[i]] = index[i, 0]


@njit(cache=True, error_model="numpy")
def read_candidates(pool: Any, vectors: Any, rows: Any, bounds: Any, slots: Any, kths: Any) -> None:
    """Copy every candidate out, in the order of the leaves."""
    at = 0
    for leaf in range(pool.numbers[LEAVES]):
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            gather(pool.coordinates, place, vectors[at])
            rows[at] = pool.rows[place]
            bounds[at] = pool.bounds[place]
            slots[at] = pool.slots[place]
            kths[at] = pool.kth_squared[place]
            at += 1
