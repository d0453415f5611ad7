"""Greedy choice over leaves: the candidate of greatest importance, again and again, exactly.

Importances never rise once k points are selected, so a stale importance is an upper bound and only
leaves whose bound reaches the top are brought up to date. With fewer than k selected that is false
(1-D, k = 2, selected {0}: taking 50 lifts -2.9 above 3), so everything is re-keyed up to and
including the step at which the k-th point arrives.
"""

from typing import Any

import numpy as np
from numba import njit

from selector.counter_random import WARM_UP, uniform
from selector.eviction import take_out_all
from selector.identifiers import departed_position, find, fingerprint
from selector.k_lists import make_lists
from selector.leaf_tops import greatest_of, is_before, refresh_top
from selector.leaf_tree import insert_all, remove
from selector.leaf_updates import ALONE, bring_up_to_date, catch_up, catch_up_one
from selector.nearest import distance, find_nearest, mean_of_nearest
from selector.pivots import bound_importances, choose_pivots
from selector.pool import FREE_ROWS, GROUP, KEYED, LEAF, LEAVES, NEXT_ROW, gather, slots_left
from selector.selected_points import append_selected

DONE, NEEDS_SLOTS, REJECTS_FULL = range(3)
NOBODY, STALE, BARE, BEST = range(4)


@njit(cache=True, error_model="numpy")
def first_not_finite(vectors: Any) -> Any:
    """Index of the first vector with a NaN or an infinity, -1 if there is none."""
    number, dimension = vectors.shape
    total = np.float32(0)
    for i in range(number):
        for axis in range(dimension):
            total += vectors[i, axis] * np.float32(0)
    if total == 0:
        return -1
    for i in range(number):
        for axis in range(dimension):
            if not np.isfinite(vectors[i, axis]):
                return i
    return -1


@njit(cache=True, error_model="numpy")
def refresh_pivots(selected: Any, pivots: Any, k: int) -> None:
    """Choose pivots again when a quarter more points are selected than last time."""
    count = selected.size[0]
    if count >= k and count > pivots.size[1] + pivots.size[1] // 4:
        choose_pivots(selected, pivots)


@njit(cache=True, error_model="numpy")
def admit(pool: Any, selected: Any, table: Any, departed: Any, codes: Any, rows: Any) -> Any:
    """Give each code never seen before a row (else -1); return how many were new."""
    known, selected_codes = pool.codes, selected.codes
    numbers, free_rows = pool.numbers, pool.free_rows
    new = 0
    for i in range(codes.shape[0]):
        high, low = codes[i, 0], codes[i, 1]
        rows[i] = -1
        mark = fingerprint(high, low)
        at = find(table, known, selected_codes, high, low)
        if table[at] != 0 or departed[departed_position(departed, mark)] == mark:
            continue
        if numbers[FREE_ROWS] > 0:
            numbers[FREE_ROWS] -= 1
            row = free_rows[numbers[FREE_ROWS]]
        else:
            row = numbers[NEXT_ROW]
            numbers[NEXT_ROW] += 1
        known[row, 0] = high
        known[row, 1] = low
        table[at] = row + 1
        rows[i] = row
        new += 1
    return new


@njit(cache=True, error_model="numpy")
def bound_all(
    pool: Any, selected: Any, pivots: Any, vectors: Any, bounds: Any, lists_follow: bool
) -> None:
    """Upper bounds of the importances of arrivals; infinite with fewer than k selected.

    Infinite too if lists are to follow at once, because the arrivals exceed the capacity.
    """
    if lists_follow:
        bounds[:] = np.inf
        return
    k = pool.distances.shape[1]
    if selected.size[0] < k:
        bounds[:] = np.inf
        pool.numbers[KEYED] = -1
        return
    refresh_pivots(selected, pivots, k)
    bound_importances(pivots, vectors, bounds)


@njit(inline="always")
def add_few(
    pool: Any, selected: Any, pivots: Any, table: Any, departed: Any, codes: Any, vectors: Any,
    rows: Any, lists_follow: bool,
) -> Any:  # fmt: skip
    """Admit and insert arrivals one by one; return how many were new. There is room for lists."""
    new = admit(pool, selected, table, departed, codes, rows)
    bounds = np.empty(vectors.shape[0])
    bound_all(pool, selected, pivots, vectors, bounds, lists_follow)
    groups = (pool.numbers[LEAVES] + GROUP - 1) // GROUP
    top = greatest_of(pool.group_tops, 0, groups)
    insert_all(pool, selected.size[0], vectors, rows, bounds)
    if not lists_follow and selected.size[0] >= pool.distances.shape[1]:
        make_foremost_lists(pool, selected, rows, bounds, top)
    return new


@njit(inline="always")
def make_foremost_lists(pool: Any, selected: Any, rows: Any, bounds: Any, top: float) -> None:
    """Lists for arrivals bounded above the `top` of all before: the next selection needs them.

    Made together they cost a third of what they would one by one.
    """
    places = np.empty(rows.size, np.int32)
    number = 0
    for i in range(rows.size):
        if rows[i] >= 0 and top < bounds[i] < np.inf:
            places[number] = pool.places[rows[i]]
            number += 1
    if number:
        make_lists(pool, selected, places[:number])
        for i in range(number):
            pool.leaves[places[i] // LEAF].dirty = 0
            refresh_top(pool, places[i] // LEAF)


@njit(inline="always")
def rekey(pool: Any, selected: Any, pivots: Any) -> None:
    """Bound every candidate anew; exactly while at most k points are selected."""
    count = selected.size[0]
    k = pool.distances.shape[1]
    dimension = selected.vectors.shape[1]
    refresh_pivots(selected, pivots, k)
    vectors = np.empty((LEAF, dimension), np.float32)
    places = np.empty(LEAF, np.int32)
    bounds = np.empty(LEAF)
    distances = np.empty((LEAF, k))
    indices = np.empty((LEAF, k), np.int32)
    for leaf in range(pool.numbers[LEAVES]):
        bring_up_to_date(pool, selected, leaf)
        number = 0
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            if pool.slots[place] < 0:
                gather(pool.coordinates, place, vectors[number])
                places[number] = place
                number += 1
        if count > k:
            bound_importances(pivots, vectors[:number], bounds)
        else:
            find_nearest(selected, vectors[:number], distances[:number], indices[:number])
            for i in range(number):
                bounds[i] = mean_of_nearest(distances[i], count)
        for i in range(number):
            pool.bounds[places[i]] = bounds[i]
        refresh_top(pool, leaf)
    pool.numbers[KEYED] = count


@njit(cache=True, error_model="numpy")
def look_at_top(
    leaves: Any, leaf_count: int, group_tops: Any, slots: Any, seen: Any, rows: Any, codes: Any,
    count: int,
) -> Any:  # fmt: skip
    """(what, place) of the greatest bound: what must be done about it, or that it is the best.

    Equal bounds are all looked at: each must be exact before the first identifier wins.
    """
    groups = (leaf_count + GROUP - 1) // GROUP
    greatest = greatest_of(group_tops, 0, groups)
    if greatest == -np.inf:
        return NOBODY, -1
    best = -1
    for group in range(groups):
        if group_tops[group] != greatest:
            continue
        for leaf in range(group * GROUP, min((group + 1) * GROUP, leaf_count)):
            if leaves[leaf].top != greatest:
                continue
            place = leaf * LEAF + leaves[leaf].top_at
            if slots[place] < 0:
                return BARE, place
            if leaves[leaf].applied != count and seen[slots[place]] != count:
                return STALE, place
            if best < 0 or is_before(codes, rows[place], rows[best]):
                best = place
    return BEST, best


@njit(inline="always")
def find_top(pool: Any, selected: Any) -> Any:
    """Place of the candidate of greatest importance, the first identifier of equals.

    -1 without candidates, -2 without room for one more list.
    """
    lanes, points = selected.lanes, selected.vectors.reshape(-1)
    coordinates, boxes, kth_squared = pool.coordinates, pool.boxes, pool.kth_squared
    bounds, slots, rows, codes = pool.bounds, pool.slots, pool.rows, pool.codes
    distances, neighbours, seen = pool.distances.reshape(-1), pool.neighbours, pool.seen
    leaves, group_tops = pool.leaves, pool.group_tops
    leaf_count = pool.numbers[LEAVES]
    dimension, k = selected.vectors.shape[1], pool.distances.shape[1]
    count = selected.size[0]
    places = np.empty(1, np.int32)
    vector = np.empty(dimension, np.float32)
    while True:
        what, place = look_at_top(leaves, leaf_count, group_tops, slots, seen, rows, codes, count)
        if what == STALE and leaves[place // LEAF].alone < ALONE:
            catch_up_one(
                place, count, lanes, points, coordinates, kth_squared, bounds, slots, distances,
                neighbours, seen, rows, codes, leaves, leaf_count, group_tops, vector, k,
            )  # fmt: skip
        elif what == STALE:
            catch_up(
                place // LEAF, count, lanes, points, coordinates, boxes, kth_squared, bounds,
                slots, distances, neighbours, seen, rows, codes, leaves, leaf_count, group_tops,
                dimension, k,
            )  # fmt: skip
        elif what == BARE:
            if slots_left(pool) < 1:
                return -2
            places[0] = place
            make_lists(pool, selected, places)
            refresh_top(pool, place // LEAF)
        else:
            return place


@njit(cache=True, error_model="numpy")
def find_warm_up(pool: Any, seed: Any) -> Any:
    """Place of the candidate with the greatest warm-up draw, -1 without candidates."""
    best = -1
    greatest = -1.0
    for leaf in range(pool.numbers[LEAVES]):
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            row = pool.rows[place]
            value = uniform(seed, WARM_UP, pool.codes[row, 0], pool.codes[row, 1])
            if value > greatest or (
                value == greatest and is_before(pool.codes, row, pool.rows[best])
            ):
                best = place
                greatest = value
    return best


@njit(cache=True, error_model="numpy")
def find_first(pool: Any) -> Any:
    """Place of the first identifier, -1 without candidates: with nothing selected all are equal."""
    best = -1
    for leaf in range(pool.numbers[LEAVES]):
        for place in range(leaf * LEAF, leaf * LEAF + pool.leaves[leaf].count):
            if best < 0 or is_before(pool.codes, pool.rows[place], pool.rows[best]):
                best = place
    return best


@njit(inline="always")
def find_best(pool: Any, selected: Any, pivots: Any, warm_up: int, seed: Any) -> Any:
    """Place of the next pick: by draw in the warm-up, else by importance; else as `find_top`."""
    count = selected.size[0]
    if count < warm_up:
        return find_warm_up(pool, seed)
    if count == 0:
        return find_first(pool)
    k = pool.distances.shape[1]
    keyed = pool.numbers[KEYED]
    if (keyed != count) if count <= k else (keyed < k):
        rekey(pool, selected, pivots)
    return find_top(pool, selected)


@njit(inline="always")
def importance_of_one(k: int, selected: Any, vector: Any) -> Any:
    """Exact importance and nearest distance of a vector (1, d)."""
    distances = np.empty((1, k))
    find_nearest(selected, vector, distances, np.empty((1, k), np.int32))
    return mean_of_nearest(distances[0], selected.size[0]), distances[0, 0]


@njit(cache=True, error_model="numpy")
def separation_from(vectors: Any, number: int, vector: Any) -> Any:
    """Distance from a vector (1, d) to the nearest of vectors[:number]."""
    dimension = vectors.shape[1]
    closest = np.inf
    for i in range(number):
        gap = distance(vector.reshape(-1), 0, vectors.reshape(-1), i * dimension, dimension)
        closest = min(closest, gap)
    return closest


@njit(inline="always")
def select_points(
    pool: Any, selected: Any, pivots: Any, table: Any, departed: Any, wanted: int, warm_up: int,
    seed: Any, frozen: bool, separation: float, done: Any, importances: Any, vectors: Any,
    codes: Any, rejected: Any,
) -> Any:  # fmt: skip
    """Move up to `wanted` candidates to the selected points; DONE, or why to call again.

    done (2,): picks so far, rejects so far (nearer than `separation` to a selected point, evicted).
    Filled: importances (n,), vectors (n, d), codes (n, 2), rejected codes (r, 2). A frozen batch is
    ranked once: its points are not appended, the caller does that with `append_batch`.
    """
    one = np.empty((1, vectors.shape[1]), np.float32)
    rows = np.empty(1, np.int32)
    while done[0] < wanted:
        count = selected.size[0]
        place = find_best(pool, selected, pivots, warm_up, seed)
        if place < 0:
            return DONE if place == -1 else NEEDS_SLOTS
        row = pool.rows[place]
        gather(pool.coordinates, place, one[0])
        if count < max(warm_up, 1):
            importance, closest = importance_of_one(pool.distances.shape[1], selected, one)
        else:
            importance, closest = pool.bounds[place], pool.distances[pool.slots[place], 0]
        if frozen and separation > 0:
            closest = min(closest, separation_from(vectors, done[0], one))
        if closest < separation:
            if done[1] == rejected.shape[0]:
                return REJECTS_FULL
            rejected[done[1]] = pool.codes[row]
            done[1] += 1
            rows[0] = row
            take_out_all(pool, selected, table, departed, rows, True)
            continue
        pick = done[0]
        done[0] = pick + 1
        importances[pick] = importance
        vectors[pick] = one[0]
        codes[pick] = pool.codes[row]
        index = count + pick if frozen else count
        at = find(table, pool.codes, selected.codes, codes[pick, 0], codes[pick, 1])
        table[at] = -index - 1
        remove(pool, row)
        refresh_top(pool, place // LEAF)
        if frozen:
            selected.codes[index] = codes[pick]
        else:
            append_selected(selected, one[0], codes[pick])
    return DONE


@njit(cache=True, error_model="numpy")
def append_batch(selected: Any, vectors: Any, codes: Any) -> None:
    """Append several selected points; the caller has made room."""
    for i in range(codes.shape[0]):
        append_selected(selected, vectors[i], codes[i])
