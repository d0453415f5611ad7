"""The arrays behind one sampler: pool, selected points, identifier tables, and their growth."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selector.address_book import write_book
from selector.bulk_load import build
from selector.eviction import withdraw
from selector.greedy import DONE, NEEDS_SLOTS, admit, append_batch, bound_all
from selector.identifiers import depart, empty_departed, empty_table, fill_table
from selector.inspection import read_candidates
from selector.kernel_calls import (
    call_add,
    call_evict,
    call_importances,
    call_look_up,
    call_make_lists,
    call_select,
    call_take_out,
)
from selector.leaf_updates import bring_all_up_to_date
from selector.nearest import find_nearest
from selector.pivots import choose_pivots, empty_pivots
from selector.pool import (
    CANDIDATES,
    FREE_ROWS,
    FREE_SLOTS,
    LEAF,
    LEAVES,
    NEXT_ROW,
    NEXT_SLOT,
    empty_pool,
    grown_pool,
)
from selector.selected_points import empty_selected, grown_selected

GROWTH = 1.5
FEW = 256  # arrivals inserted one by one per kernel call
MANY = 2048  # arrivals for which, if the pool is no larger, all leaves are built anew
REJECTS = 64


class Selection(NamedTuple):
    """What one call selected, in order, and what it found too near and evicted."""

    importances: NDArray[np.float64]
    codes: NDArray[np.uint64]
    rejected: NDArray[np.uint64]


class CandidateStore:
    """Candidates and selected points of one metric; grows before kernels run, never in them."""

    def __init__(self, dimension: int, k: int) -> None:
        self.dimension = dimension
        self.k = k
        self.pool = empty_pool(dimension, k, leaves=64, slots=256, rows=1024)
        self.selected = empty_selected(dimension, 64)
        self.pivots = empty_pivots(dimension, k)
        self.table = empty_table(0)
        self.departed = empty_departed(0)
        self.departed_count = 0
        self._book = np.empty((0, 3), np.int64)
        self._in_book: tuple[Any, ...] = (None,) * 5

    @property
    def book(self) -> NDArray[np.int64]:
        """All arrays for a kernel call, see `address_book`; valid until the store changes one."""
        pool, selected, pivots, table, departed = self._in_book
        if (
            pool is not self.pool
            or selected is not self.selected
            or pivots is not self.pivots
            or table is not self.table
            or departed is not self.departed
        ):
            owners = self.pool, self.selected, self.pivots, self.table, self.departed
            self._book = write_book((*self.pool, *self.selected, *self.pivots, *owners[3:]))
            self._in_book = owners
        return self._book

    @property
    def candidate_count(self) -> int:
        return int(self.pool.numbers[CANDIDATES])

    @property
    def selected_count(self) -> int:
        return int(self.selected.size[0])

    def make_room(
        self, arrivals: int = 0, selections: int = 0, slots: int = 0, splits: int = 0
    ) -> None:
        """Make room for this many more candidates, selected points, k-lists and leaf splits."""
        pool, numbers = self.pool, self.pool.numbers
        leaves = int(numbers[LEAVES]) + splits
        rows = int(numbers[NEXT_ROW] - numbers[FREE_ROWS]) + arrivals
        slots = int(numbers[NEXT_SLOT] - numbers[FREE_SLOTS]) + slots
        have_slots, have_rows = len(pool.distances), len(pool.places)
        if leaves > len(pool.leaves) or slots > have_slots or rows > have_rows:
            self.pool = grown_pool(
                pool,
                leaves=_grown(leaves, len(pool.leaves)),
                slots=_grown(slots, have_slots),
                rows=_grown(rows, have_rows),
            )
        points = self.selected_count + selections
        if points > len(self.selected.codes):
            self.selected = grown_selected(self.selected, 2 * points)
        live = self.candidate_count + points + arrivals
        if live * 3 > len(self.table) * 2:
            self.rebuild_table(max(live, int(1.25 * (self.candidate_count + self.selected_count))))

    def make_room_for_departures(self, number: int) -> None:
        """Make room for this many more departed identifiers."""
        self.departed_count += number
        if self.departed_count > 0.85 * len(self.departed):
            prints = self.departed[self.departed != 0]
            self.departed = empty_departed(int(self.departed_count * GROWTH))
            depart(self.departed, prints)

    def enter_departed(self, prints: NDArray[np.uint64]) -> None:
        """Add fingerprints of departed identifiers, for which room was made."""
        depart(self.departed, prints)

    def rebuild_table(self, live: int) -> None:
        """Enter every live identifier in a table with room for `live`."""
        self.table = empty_table(live)
        _, rows, *_ = self.read()
        fill_table(self.table, rows, self.pool.codes, self.selected.codes, self.selected_count)

    def read(self) -> tuple[NDArray[Any], ...]:
        """Vectors, rows, bounds, slots and thresholds of every candidate, in leaf order."""
        number = self.candidate_count
        vectors = np.empty((number, self.dimension), np.float32)
        rows = np.empty(number, np.int32)
        bounds = np.empty(number)
        slots = np.empty(number, np.int32)
        kths = np.empty(number, np.float32)
        read_candidates(self.pool, vectors, rows, bounds, slots, kths)
        return vectors, rows, bounds, slots, kths

    def add(
        self, codes: NDArray[np.uint64], vectors: NDArray[np.float32], lists_follow: bool
    ) -> tuple[NDArray[np.int32], int]:
        """Rows of the new ones among arrivals, -1 of the others; how many are new.

        lists_follow: all are to get their lists at once.
        """
        number = len(codes)
        rows = np.empty(number, np.int32)
        if number >= MANY and number >= self.candidate_count:
            self.make_room(arrivals=number)
            return rows, self.add_many(codes, vectors, rows)
        new = 0
        for start in range(0, number, FEW):
            part = slice(start, start + FEW)
            arrivals = min(FEW, number - start)
            self.make_room(arrivals=arrivals, splits=arrivals, slots=arrivals)
            new += int(call_add(self.book, codes[part], vectors[part], rows[part], lists_follow))
        return rows, new

    def add_many(
        self,
        codes: NDArray[np.uint64],
        vectors: NDArray[np.float32],
        new_rows: NDArray[np.int32],
    ) -> int:
        """Admit a large batch and build all leaves anew; return how many were new.

        new_rows (n,) is overwritten: rows of the new ones, -1 of the others.
        """
        admitted = int(admit(self.pool, self.selected, self.table, self.departed, codes, new_rows))
        accepted = new_rows >= 0
        arrivals = vectors if admitted == len(codes) else vectors[accepted]
        bounds = np.empty(admitted)
        bound_all(self.pool, self.selected, self.pivots, arrivals, bounds, False)
        self._build(
            (
                arrivals,
                new_rows[accepted],
                bounds,
                np.full(admitted, -1, np.int32),
                np.full(admitted, -1, np.float32),
            )
        )
        return admitted

    def compact(self) -> None:
        """Build the leaves anew when too many have become thin."""
        needed = self.candidate_count / LEAF
        if self.pool.numbers[LEAVES] > 2.5 * needed + 8:
            self._build(None)

    def _build(self, arrivals: tuple[NDArray[Any], ...] | None) -> None:
        bring_all_up_to_date(self.pool, self.selected)
        everything = self.read() if arrivals is None or self.candidate_count else arrivals
        if arrivals is not None and self.candidate_count:
            everything = tuple(
                np.concatenate(pair) for pair in zip(everything, arrivals, strict=True)
            )
        vectors, rows, bounds, slots, kths = everything
        leaves = -(-len(rows) // LEAF) + 1
        if leaves > len(self.pool.leaves):
            self.pool = grown_pool(
                self.pool, leaves, len(self.pool.distances), len(self.pool.places)
            )
        build(self.pool, self.selected_count, vectors, rows, bounds, slots, kths)

    def evaluate(self) -> None:
        """Make every importance exact."""
        self.make_room(slots=self.candidate_count)
        call_make_lists(self.book)

    def importances(self, rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """Exact importances of candidates."""
        self.make_room(slots=len(rows))
        importances = np.empty(len(rows))
        call_importances(self.book, rows, importances)
        return importances

    def entries(self, codes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """row + 1 of a candidate, -index - 1 of a selected point, 0 of neither."""
        entries = np.empty(len(codes), np.int32)
        call_look_up(self.book, codes, entries)
        return entries

    def select(
        self, number: int, warm_up: int, seed: int, frozen: bool, separation: float
    ) -> Selection:
        """Move `number` candidates, if there are as many far enough, to the selected points."""
        self.make_room(selections=number, slots=64)
        done = np.zeros(2, np.int64)
        importances = np.empty(number)
        vectors = np.empty((number, self.dimension), np.float32)
        codes = np.empty((number, 2), np.uint64)
        rejected = np.empty((REJECTS if separation > 0 else 0, 2), np.uint64)
        all_rejected = []
        self.make_room_for_departures(len(rejected))
        while True:
            status = call_select(
                self.book, number, warm_up, seed, frozen, separation, done, importances, vectors,
                codes, rejected,
            )  # fmt: skip
            if status == NEEDS_SLOTS:
                self.make_room(slots=1024)
                continue
            if separation > 0:
                all_rejected.append(rejected[: done[1]].copy())
                self.departed_count -= len(rejected) - int(done[1])
                done[1] = 0
            if status == DONE:
                break
            self.make_room_for_departures(len(rejected))
        picks = int(done[0])
        if frozen:
            self.append(vectors[:picks], codes[:picks])
        gone = np.concatenate(all_rejected) if separation > 0 else rejected
        return Selection(importances[:picks], codes[:picks], gone)

    def evict(self, number: int, warm_up: int, seed: int) -> tuple[Any, Any]:
        """Evict the `number` least important; their codes and importances, least first."""
        self.make_room(slots=self.candidate_count)
        self.make_room_for_departures(number)
        importances = np.empty(number)
        codes = np.empty((number, 2), np.uint64)
        call_evict(self.book, number, warm_up, seed, importances, codes)
        order = np.lexsort((~codes[:, 1], ~codes[:, 0], importances))
        return codes[order], importances[order]

    def take_out(self, rows: NDArray[np.int32], evicted: bool) -> None:
        """Remove candidates for good."""
        self.make_room_for_departures(len(rows))
        call_take_out(self.book, rows, evicted)

    def append(self, vectors: NDArray[np.float32], codes: NDArray[np.uint64]) -> None:
        """Append selected points that room was made for."""
        append_batch(self.selected, vectors, codes)

    def unselect(self, index: int) -> None:
        """Remove one selected point; whatever it influenced is keyed again when needed."""
        withdraw(self.pool, self.selected, index)
        old = self.selected
        keep = np.delete(np.arange(self.selected_count), index)
        inherited = old.evicted_near[index]
        orphan = old.vectors[index : index + 1].copy()
        self.selected = empty_selected(self.dimension, len(old.codes))
        append_batch(self.selected, old.vectors[keep], old.codes[keep])
        self.selected.evicted_near[: len(keep)] = old.evicted_near[keep]
        if inherited and len(keep):
            heir = np.empty((1, 1), np.int32)
            find_nearest(self.selected, orphan, np.empty((1, 1)), heir)
            self.selected.evicted_near[heir[0, 0]] += inherited
        self.pivots = empty_pivots(self.dimension, self.k)
        if len(keep) >= self.k:
            choose_pivots(self.selected, self.pivots)
        self.rebuild_table(self.candidate_count + len(keep))


def _grown(needed: int, have: int) -> int:
    return have if needed <= have else max(needed, int(have * GROWTH))
