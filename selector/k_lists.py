"""Giving candidates their k-lists, and with them exact importances."""

from typing import Any

import numpy as np
from numba import njit

from selector.leaf_tops import refresh_dirty_tops
from selector.leaf_updates import bring_all_up_to_date
from selector.nearest import filter_threshold, find_nearest, mean_of_nearest
from selector.pool import BATCH, FREE_SLOTS, LEAF, LEAVES, NEXT_SLOT, gather


@njit(cache=True, error_model="numpy")
def make_lists(pool: Any, selected: Any, places: Any) -> None:
    """Give these bare candidates their lists and exact importances; leaves may lag behind."""
    dimension = selected.vectors.shape[1]
    number = places.size
    k = pool.distances.shape[1]
    vectors = np.empty((number, dimension), np.float32)
    for i in range(number):
        gather(pool.coordinates, places[i], vectors[i])
    distances = np.empty((number, k))
    indices = np.empty((number, k), np.int32)
    find_nearest(selected, vectors, distances, indices)
    for i in range(number):
        if pool.numbers[FREE_SLOTS] > 0:
            pool.numbers[FREE_SLOTS] -= 1
            slot = pool.free_slots[pool.numbers[FREE_SLOTS]]
        else:
            slot = pool.numbers[NEXT_SLOT]
            pool.numbers[NEXT_SLOT] += 1
        place = places[i]
        leaf = place // LEAF
        pool.slots[place] = slot
        pool.neighbours[slot] = indices[i, 0]
        pool.seen[slot] = selected.size[0]
        for j in range(k):
            pool.distances[slot, j] = distances[i, j]
        kth = filter_threshold(distances[i, k - 1], dimension)
        pool.kth_squared[place] = kth
        pool.leaves[leaf].reach = max(pool.leaves[leaf].reach, kth)
        pool.leaves[leaf].dirty = 1
        pool.bounds[place] = mean_of_nearest(distances[i], selected.size[0])


@njit(inline="always")
def make_every_list(pool: Any, selected: Any) -> None:
    """Make every importance exact; there is room for every list."""
    bring_all_up_to_date(pool, selected)
    leaves, slots = pool.leaves, pool.slots
    places = np.empty(BATCH, np.int32)
    number = 0
    for leaf in range(pool.numbers[LEAVES]):
        for place in range(leaf * LEAF, leaf * LEAF + leaves[leaf].count):
            if slots[place] < 0:
                places[number] = place
                number += 1
                if number == BATCH:
                    make_lists(pool, selected, places)
                    number = 0
    if number:
        make_lists(pool, selected, places[:number])
    refresh_dirty_tops(pool)
