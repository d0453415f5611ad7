"""Candidates in spatial leaves of 64 that receive selected points in bulk (QuickFPS for any k).

A leaf lags behind: `applied` says how many selected points its k-lists have seen, the rest are the
suffix of the selected points. A candidate without a list carries only an upper bound of its
importance; a list is made when the candidate first reaches the top. Kernels take a `Pool` and
never allocate in it: the owner grows its arrays before (`room`).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.lanes import add_squared_difference, at_most, load, lowest_bit, outside_squared, splat
from selector.nearest import (
    BLOCK,
    ROUNDING,
    TINY,
    filter_threshold,
    find_nearest,
    mean_of_nearest,
)

LEAF = 64  # also the width of a float32 filter mask
BATCH = 256  # lists made in one pass over the selected points
GROUP = 64  # leaves whose greatest top is kept as one number
NO_LIST = -1

LEAF_FIELDS = np.dtype(
    [
        ("top", np.float64),  # greatest importance bound in the leaf, -inf when empty
        ("applied", np.int64),  # selected points its lists have seen
        ("reach", np.float32),  # no list has a k-th distance² beyond this; -1 without lists
        ("count", np.int32),
        ("top_at", np.int32),  # lane of the top
        ("dirty", np.int32),  # its top is to be found again
    ]
)
NODE_FIELDS = np.dtype(
    [("value", np.float32), ("axis", np.int32), ("below", np.int32), ("above", np.int32)]
)
# Indices into Pool.numbers.
LEAVES, NODES, ROOT, CANDIDATES, FREE_SLOTS, NEXT_SLOT, FREE_ROWS, NEXT_ROW, KEYED = range(9)


class Pool(NamedTuple):
    """Candidates by leaf and lane; rows are their stable numbers. Written by the kernels here."""

    coordinates: NDArray[np.float32]  # (leaves * dimension * 64,), [leaf][axis][lane]
    bounds: NDArray[np.float64]  # (leaves * 64,) importance, or an upper bound of it
    kth_squared: NDArray[np.float32]  # (leaves * 64,) filter threshold, -1 without a list
    slots: NDArray[np.int32]  # (leaves * 64,) index of the k-list, -1 without
    rows: NDArray[np.int32]  # (leaves * 64,)
    boxes: NDArray[np.float32]  # (leaves * 2 * dimension,) least, then greatest coordinates
    leaves: NDArray[np.void]  # (leaves,) LEAF_FIELDS
    nodes: NDArray[np.void]  # (leaves,) NODE_FIELDS; a child c < 0 is leaf ~c
    group_tops: NDArray[np.float64]  # (leaves / 64,)
    distances: NDArray[np.float64]  # (slots, k) ascending
    neighbours: NDArray[np.int32]  # (slots,) index of the nearest selected point
    free_slots: NDArray[np.int32]  # (slots,) a stack
    places: NDArray[np.int32]  # (rows,) leaf * 64 + lane
    codes: NDArray[np.uint64]  # (rows, 2) identifiers; their order breaks ties
    free_rows: NDArray[np.int32]  # (rows,) a stack
    numbers: NDArray[np.int64]  # (9,)


def empty_pool(dimension: int, k: int, leaves: int, slots: int, rows: int) -> Pool:
    """A pool with one empty leaf and the given room."""
    groups = -(-leaves // GROUP)
    leaves = groups * GROUP
    pool = Pool(
        coordinates=np.empty(leaves * dimension * LEAF, np.float32),
        bounds=np.empty(leaves * LEAF),
        kth_squared=np.empty(leaves * LEAF, np.float32),
        slots=np.empty(leaves * LEAF, np.int32),
        rows=np.empty(leaves * LEAF, np.int32),
        boxes=np.empty(leaves * 2 * dimension, np.float32),
        leaves=np.zeros(leaves, LEAF_FIELDS),
        nodes=np.zeros(leaves, NODE_FIELDS),
        group_tops=np.full(groups, -np.inf),
        distances=np.empty((slots, k)),
        neighbours=np.empty(slots, np.int32),
        free_slots=np.empty(slots, np.int32),
        places=np.empty(rows, np.int32),
        codes=np.empty((rows, 2), np.uint64),
        free_rows=np.empty(rows, np.int32),
        numbers=np.zeros(9, np.int64),
    )
    pool.leaves["top"] = -np.inf
    pool.numbers[ROOT] = ~0
    open_leaf(pool, 0)
    return pool


def grown_pool(pool: Pool, leaves: int, slots: int, rows: int) -> Pool:
    """The same candidates with more room; arrays that are large enough are kept as they are."""
    dimension = pool.boxes.size // (2 * len(pool.leaves))
    leaves = -(-max(leaves, len(pool.leaves)) // GROUP) * GROUP
    per_leaf = {
        "coordinates": dimension * LEAF,
        "bounds": LEAF,
        "kth_squared": LEAF,
        "slots": LEAF,
        "rows": LEAF,
        "boxes": 2 * dimension,
        "leaves": 1,
        "nodes": 1,
    }
    lengths = {name: width * leaves for name, width in per_leaf.items()}
    lengths["group_tops"] = leaves // GROUP
    lengths |= dict.fromkeys(("distances", "neighbours", "free_slots"), slots)
    lengths |= dict.fromkeys(("places", "codes", "free_rows"), rows)
    grown = {}
    for name, length in lengths.items():
        array = getattr(pool, name)
        if length > len(array):
            larger = np.empty((length, *array.shape[1:]), array.dtype)
            larger[: len(array)] = array
            if name == "group_tops":
                larger[len(array) :] = -np.inf
            elif name == "leaves":
                larger[len(array) :] = np.zeros(1, LEAF_FIELDS)
                larger["top"][len(array) :] = -np.inf
            grown[name] = larger
    return pool._replace(**grown)


@njit(cache=True, error_model="numpy")
def open_leaf(pool: Any, applied: int) -> Any:
    """Start an empty leaf that has seen `applied` selected points; return its number."""
    leaf = pool.numbers[LEAVES]
    pool.numbers[LEAVES] = leaf + 1
    dimension = pool.boxes.size // (2 * pool.leaves.size)
    pool.leaves[leaf].top = -np.inf
    pool.leaves[leaf].applied = applied
    pool.leaves[leaf].reach = np.float32(-1)
    pool.leaves[leaf].count = 0
    pool.leaves[leaf].top_at = 0
    pool.leaves[leaf].dirty = 0
    box = leaf * 2 * dimension
    for axis in range(dimension):
        pool.boxes[box + axis] = np.float32(np.inf)
        pool.boxes[box + dimension + axis] = np.float32(-np.inf)
    for lane in range(LEAF):
        pool.kth_squared[leaf * LEAF + lane] = np.float32(-1)
    return leaf


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
def top_place(bounds: Any, slots: Any, rows: Any, codes: Any, start: int, stop: int) -> Any:
    """Place of the greatest bound in start..stop, -1 if that is empty."""
    if start == stop:
        return -1
    greatest = greatest_of(bounds, start, stop)
    best = -1
    for place in range(start, stop):
        if bounds[place] == greatest and (best < 0 or outranks(slots, rows, codes, place, best)):
            best = place
    return best


@njit(cache=True, error_model="numpy")
def refresh_top(pool: Any, leaf: int) -> None:
    """Find the leaf's greatest bound again."""
    start = leaf * LEAF
    stop = start + pool.leaves[leaf].count
    best = top_place(pool.bounds, pool.slots, pool.rows, pool.codes, start, stop)
    top = pool.bounds[best] if best >= 0 else -np.inf
    set_top(pool.leaves, pool.numbers[LEAVES], pool.group_tops, leaf, top, max(best - start, 0))


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
def gather(coordinates: Any, place: int, vector: Any) -> None:
    """Copy the coordinates of one candidate."""
    base = place // LEAF * vector.size * LEAF + place % LEAF
    for axis in range(vector.size):
        vector[axis] = coordinates[base + axis * LEAF]


@njit(cache=True, error_model="numpy")
def split(pool: Any, leaf: int, parent: int, dimension: int) -> None:
    """Halve a full leaf at the median of its widest axis; identical points halve by lane."""
    box = leaf * 2 * dimension
    axis = 0
    for other in range(1, dimension):
        width = pool.boxes[box + dimension + other] - pool.boxes[box + other]
        if width > pool.boxes[box + dimension + axis] - pool.boxes[box + axis]:
            axis = other
    base = leaf * dimension * LEAF
    ordered = np.sort(pool.coordinates[base + axis * LEAF : base + (axis + 1) * LEAF])
    middle = LEAF // 2
    while middle < LEAF - 1 and ordered[middle] == ordered[0]:
        middle += 1
    value = ordered[middle]
    identical = value == ordered[0]

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


@njit(cache=True, error_model="numpy")
def within_each(
    lanes: Any, base: int, point: Any, point_at: int, dimension: int, limits: Any, limits_at: int
) -> Any:
    """Bit i is set where lane i of the 64 at `base` has float32 |x - point|² <= its own limit."""
    zero = splat(np.float32(0))
    s0, s1, s2, s3 = zero, zero, zero, zero
    for axis in range(dimension):
        at = base + axis * LEAF
        y = splat(point[point_at + axis])
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
            splat(boxes[box + axis]),
            splat(boxes[box + dimension + axis]),
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
def apply_pending(
    leaf: int, first: int, stop: int, lanes: Any, points: Any, coordinates: Any, boxes: Any,
    kth_squared: Any, bounds: Any, slots: Any, distances: Any, neighbours: Any, dimension: int,
    k: int, reach: Any,
) -> Any:  # fmt: skip
    """Offer selected points first..stop to the lists of one leaf; whether any was taken.

    All arrays flat. It takes arrays, not a Pool: passing one by value costs more than the work.
    """
    margin = 1.0 + (dimension + 8) * ROUNDING
    limit = reach * np.float32(margin * margin) + TINY
    changed = False
    start_of_leaf = leaf * dimension * LEAF
    for start in range(first // 16 * 16, stop, 16):
        base = start // BLOCK * dimension * BLOCK + start % BLOCK
        near = near_box(lanes, base, boxes, leaf * 2 * dimension, dimension, limit)
        while near:
            index = start + lowest_bit(near)
            near &= near - np.uint64(1)
            if index < first or index >= stop:
                continue
            point = index * dimension
            hits = within_each(
                coordinates, start_of_leaf, points, point, dimension, kth_squared, leaf * LEAF
            )
            while hits:
                lane = lowest_bit(hits)
                hits &= hits - np.uint64(1)
                total = 0.0
                for axis in range(dimension):
                    x = np.float64(coordinates[start_of_leaf + axis * LEAF + lane])
                    difference = x - np.float64(points[point + axis])
                    total += difference * difference
                value = np.sqrt(total)
                place = leaf * LEAF + lane
                slot = slots[place]
                if value < distances[slot * k + k - 1]:
                    bounds[place] = insert_into_list(distances, neighbours, slot, k, value, index)
                    kth = distances[slot * k + k - 1]
                    kth_squared[place] = np.float32(kth * kth * margin) + TINY
                    changed = True
    return changed


@njit(cache=True, error_model="numpy")
def catch_up(
    leaf: int, count: int, lanes: Any, points: Any, coordinates: Any, boxes: Any, kth_squared: Any,
    bounds: Any, slots: Any, distances: Any, neighbours: Any, rows: Any, codes: Any, leaves: Any,
    leaf_count: int, group_tops: Any, dimension: int, k: int,
) -> None:  # fmt: skip
    """Apply to a leaf every selected point it has not seen; lists and their bounds become exact."""
    first = leaves[leaf].applied
    leaves[leaf].applied = count
    if first == count or leaves[leaf].reach < 0:
        return
    changed = apply_pending(
        leaf, first, count, lanes, points, coordinates, boxes, kth_squared, bounds, slots,
        distances, neighbours, dimension, k, leaves[leaf].reach,
    )  # fmt: skip
    if changed:
        start = leaf * LEAF
        stop = start + leaves[leaf].count
        reach = np.float32(-1)
        for place in range(start, stop):
            reach = kth_squared[place] if kth_squared[place] > reach else reach
        leaves[leaf].reach = reach
        best = top_place(bounds, slots, rows, codes, start, stop)
        set_top(leaves, leaf_count, group_tops, leaf, bounds[best], best - start)


@njit(cache=True, error_model="numpy")
def bring_up_to_date(pool: Any, selected: Any, leaf: int) -> None:
    """`catch_up` of one leaf of a pool."""
    catch_up(
        leaf, selected.size[0], selected.lanes, selected.vectors.reshape(-1), pool.coordinates,
        pool.boxes, pool.kth_squared, pool.bounds, pool.slots, pool.distances.reshape(-1),
        pool.neighbours, pool.rows, pool.codes, pool.leaves, pool.numbers[LEAVES],
        pool.group_tops, selected.vectors.shape[1], pool.distances.shape[1],
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def slots_left(pool: Any) -> Any:
    """How many more lists there is room for."""
    return pool.distances.shape[0] - pool.numbers[NEXT_SLOT] + pool.numbers[FREE_SLOTS]


@njit(cache=True, error_model="numpy")
def make_lists(pool: Any, selected: Any, places: Any) -> None:
    """Give these bare candidates of up-to-date leaves their lists and exact importances."""
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
        for j in range(k):
            pool.distances[slot, j] = distances[i, j]
        kth = filter_threshold(distances[i, k - 1], dimension)
        pool.kth_squared[place] = kth
        pool.leaves[leaf].reach = max(pool.leaves[leaf].reach, kth)
        pool.leaves[leaf].dirty = 1
        pool.bounds[place] = mean_of_nearest(distances[i], selected.size[0])


@njit(cache=True, error_model="numpy")
def refresh_dirty_tops(pool: Any) -> None:
    """Find the tops of the changed leaves again."""
    bounds, slots, rows, codes = pool.bounds, pool.slots, pool.rows, pool.codes
    leaves, group_tops, leaf_count = pool.leaves, pool.group_tops, pool.numbers[LEAVES]
    for leaf in range(leaf_count):
        if leaves[leaf].dirty:
            leaves[leaf].dirty = 0
            start = leaf * LEAF
            best = top_place(bounds, slots, rows, codes, start, start + leaves[leaf].count)
            top = bounds[best] if best >= 0 else -np.inf
            set_top(leaves, leaf_count, group_tops, leaf, top, max(best - start, 0))


@njit(cache=True, error_model="numpy")
def bring_all_up_to_date(pool: Any, selected: Any) -> None:
    """`catch_up` of every leaf."""
    lanes, points = selected.lanes, selected.vectors.reshape(-1)
    coordinates, boxes, kth_squared = pool.coordinates, pool.boxes, pool.kth_squared
    bounds, slots, rows, codes = pool.bounds, pool.slots, pool.rows, pool.codes
    distances, neighbours = pool.distances.reshape(-1), pool.neighbours
    leaves, group_tops, leaf_count = pool.leaves, pool.group_tops, pool.numbers[LEAVES]
    for leaf in range(leaf_count):
        catch_up(
            leaf, selected.size[0], lanes, points, coordinates, boxes, kth_squared, bounds, slots,
            distances, neighbours, rows, codes, leaves, leaf_count, group_tops,
            selected.vectors.shape[1], pool.distances.shape[1],
        )  # fmt: skip


@njit(cache=True, error_model="numpy")
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
