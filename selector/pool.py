"""The arrays of the candidates: leaves of 64 lanes in a k-d tree, with k-lists for some of them.

A leaf lags behind: `applied` says how many selected points all its k-lists have seen, the rest are
the suffix of the selected points; a list made in between has `seen` more of them. A candidate
without a list carries only an upper bound of its importance. Kernels take a `Pool` and never
allocate in it: the owner grows its arrays before.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selector.lanes import aligned

LEAF = 64  # also the width of a float32 filter mask
BATCH = 256  # lists made in one pass over the selected points
GROUP = 64  # leaves whose greatest top is kept as one number
NO_LIST = -1

LEAF_FIELDS = np.dtype(
    [
        ("top", np.float64),  # greatest importance bound in the leaf, -inf when empty
        ("applied", np.int32),  # selected points all its lists have seen
        ("alone", np.int32),  # lists brought up to date one by one since
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
(
    LEAVES, NODES, ROOT, CANDIDATES, FREE_SLOTS, NEXT_SLOT, FREE_ROWS, NEXT_ROW, KEYED, BUILT,
    NUMBERS,
) = range(11)  # fmt: skip


class Pool(NamedTuple):
    """Candidates by leaf and lane; rows are their stable numbers. Written by the kernels here."""

    coordinates: NDArray[np.float32]  # (leaves * dimension * 64,), [leaf][axis][lane]
    bounds: NDArray[np.float64]  # (leaves * 64,) importance or an upper bound of it, -inf unused
    kth_squared: NDArray[np.float32]  # (leaves * 64,) filter threshold, -1 without a list
    slots: NDArray[np.int32]  # (leaves * 64,) index of the k-list, -1 without
    rows: NDArray[np.int32]  # (leaves * 64,)
    boxes: NDArray[np.float32]  # (leaves * 2 * dimension,) least, then greatest coordinates
    leaves: NDArray[np.void]  # (leaves,) LEAF_FIELDS
    nodes: NDArray[np.void]  # (leaves,) NODE_FIELDS; a child c < 0 is leaf ~c
    group_tops: NDArray[np.float64]  # (leaves / 64,)
    distances: NDArray[np.float64]  # (slots, k) ascending
    neighbours: NDArray[np.int32]  # (slots,) index of the nearest selected point
    seen: NDArray[np.int32]  # (slots,) selected points that a list knew when it was made
    free_slots: NDArray[np.int32]  # (slots,) a stack
    places: NDArray[np.int32]  # (rows,) leaf * 64 + lane
    codes: NDArray[np.uint64]  # (rows, 2) identifiers; their order breaks ties
    free_rows: NDArray[np.int32]  # (rows,) a stack
    numbers: NDArray[np.int64]  # (NUMBERS,)


def empty_pool(dimension: int, k: int, leaves: int, slots: int, rows: int) -> Pool:
    """A pool with one empty leaf and the given room."""
    groups = -(-leaves // GROUP)
    leaves = groups * GROUP
    pool = Pool(
        coordinates=aligned(leaves * dimension * LEAF, np.float32),
        bounds=aligned(leaves * LEAF, np.float64),
        kth_squared=aligned(leaves * LEAF, np.float32),
        slots=np.empty(leaves * LEAF, np.int32),
        rows=np.empty(leaves * LEAF, np.int32),
        boxes=np.empty(leaves * 2 * dimension, np.float32),
        leaves=np.zeros(leaves, LEAF_FIELDS),
        nodes=np.zeros(leaves, NODE_FIELDS),
        group_tops=np.full(groups, -np.inf),
        distances=np.empty((slots, k)),
        neighbours=np.empty(slots, np.int32),
        seen=np.empty(slots, np.int32),
        free_slots=np.empty(slots, np.int32),
        places=np.empty(rows, np.int32),
        codes=np.empty((rows, 2), np.uint64),
        free_rows=np.empty(rows, np.int32),
        numbers=np.zeros(NUMBERS, np.int64),
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
    lengths |= dict.fromkeys(("distances", "neighbours", "seen", "free_slots"), slots)
    lengths |= dict.fromkeys(("places", "codes", "free_rows"), rows)
    grown = {}
    for name, length in lengths.items():
        array = getattr(pool, name)
        if length > len(array):
            larger = aligned((length, *array.shape[1:]), array.dtype)
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
    pool.leaves[leaf].alone = 0
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
        pool.bounds[leaf * LEAF + lane] = -np.inf
    return leaf


@njit(cache=True, error_model="numpy")
def gather(coordinates: Any, place: int, vector: Any) -> None:
    """Copy the coordinates of one candidate."""
    base = place // LEAF * vector.size * LEAF + place % LEAF
    for axis in range(vector.size):
        vector[axis] = coordinates[base + axis * LEAF]


@njit(cache=True, error_model="numpy")
def slots_left(pool: Any) -> Any:
    """How many more lists there is room for."""
    return pool.distances.shape[0] - pool.numbers[NEXT_SLOT] + pool.numbers[FREE_SLOTS]
