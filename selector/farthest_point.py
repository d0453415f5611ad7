"""Streaming farthest-point sampler (DynIm; Bhatia et al. 2022, section 3.3): exact and greedy.

The importance of a candidate is its mean Euclidean distance to its k nearest selected points. A
selection takes the candidate of greatest importance, updates the others, and repeats; equals are
decided by identifier, the first one winning. The first `warm_up` selections are random: importance
is undefined before the first point and misleading after few.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from selector.arrival_order import ArrivalOrder
from selector.candidate_store import MANY, CandidateStore
from selector.checks import VectorError, checked_integer, checked_vectors
from selector.identifiers import (
    Identifier,
    IdentifierCodec,
    IdentifierError,
    Identifiers,
    kind_of,
)
from selector.kernel_calls import (
    call_nearest,
)
from selector.snapshot import read_snapshot, write_snapshot

LOGGER = logging.getLogger(__name__)

EvictionPolicy = Literal["lowest", "oldest"]


class Departures(NamedTuple):
    """Candidates that the last call evicted, least important first."""

    codes: NDArray[np.uint64]  # (n, 2)
    importances: NDArray[np.float64]  # (n,) warm-up draws while those rank


NO_DEPARTURES = Departures(np.empty((0, 2), np.uint64), np.empty(0))


class FarthestPointSampler:
    """Candidates, selected points, and the greedy choice between them.

    capacity bounds the candidates: the least important (or the oldest, eviction="oldest") leave.
    A candidate nearer than minimum_separation to a selected point is evicted when its turn comes.
    An identifier is accepted once: candidates, selected and departed ones are ignored when added
    again, whatever their vector.
    """

    def __init__(
        self,
        dimension: int,
        k: int = 10,
        capacity: int = 35_000,
        warm_up: int = 10,
        seed: int = 0,
        *,
        eviction: EvictionPolicy = "lowest",
        minimum_separation: float = 0.0,
    ) -> None:
        self.dimension = checked_integer("dimension", dimension, 1)
        self.k = checked_integer("k", k, 1)
        self.capacity = checked_integer("capacity", capacity, 1)
        self.warm_up = checked_integer("warm_up", warm_up, 0)
        self.seed = checked_integer("seed", seed, 0)
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, given {seed}")
        if eviction not in get_args(EvictionPolicy):
            raise ValueError(f"eviction must be 'lowest' or 'oldest', given {eviction!r}")
        if not 0 <= minimum_separation < np.inf:
            raise ValueError(f"minimum_separation must be >= 0, given {minimum_separation}")
        self.eviction: EvictionPolicy = eviction
        self.minimum_separation = float(minimum_separation)
        self.codec = IdentifierCodec()
        self.store = CandidateStore(self.dimension, self.k)
        self.last_importances: NDArray[np.float64] = np.empty(0)  # of the last selection
        self.last_codes = NO_DEPARTURES.codes
        self.last_evicted = NO_DEPARTURES
        self._leased: set[Identifier] = set()
        self._order = ArrivalOrder()  # kept for eviction="oldest" only

    def __len__(self) -> int:
        """Number of candidates."""
        return self.store.candidate_count

    @property
    def selected_count(self) -> int:
        """Number of selected points, leased ones included."""
        return self.store.selected_count

    @property
    def departed_count(self) -> int:
        """Number of identifiers that were evicted or invalidated."""
        return int(np.count_nonzero(self.store.departed))

    @property
    def candidate_ids(self) -> list[Any]:
        """The candidates in the order of their identifiers."""
        return self.codec.decode(self.candidates()[0])

    @property
    def selected_ids(self) -> list[Any]:
        """The selected points in the order of their selection."""
        return self.codec.decode(self.store.selected.codes[: self.selected_count])

    @property
    def selected_vectors(self) -> NDArray[np.float32]:
        """(selected, dimension), in the order of selection."""
        return self.store.selected.vectors[: self.selected_count].copy()

    @property
    def leased_ids(self) -> list[Any]:
        """Selected points that are neither confirmed nor released, in order of selection."""
        if not self._leased:
            return []
        return [name for name in self.selected_ids if name in self._leased]

    def candidates(self) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Codes (n, 2) and vectors (n, dimension) of the candidates, in identifier order."""
        vectors, rows, *_ = self.store.read()
        codes = self.store.pool.codes[rows]
        order = np.lexsort((codes[:, 1], codes[:, 0]))
        return codes[order], vectors[order]

    def add(self, ids: Identifiers, vectors: NDArray[np.float32]) -> int:
        """Offer candidates; return how many identifiers were new.

        vectors: float32 (n, dimension), finite. Raises VectorError or IdentifierError with nothing
        changed.
        """
        return self.add_checked(*self.check(ids, vectors))

    def check(
        self, ids: Identifiers, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """The codes and contiguous vectors that `add_checked` takes. Raises as `add` does."""
        codes = self.codec.encode(ids)
        vectors = checked_vectors(vectors, ids, self.dimension)
        self.codec.adopt(kind_of(ids))
        return codes, vectors

    def add_checked(self, codes: NDArray[np.uint64], vectors: NDArray[np.float32]) -> int:
        """`add` for input that `check` has passed."""
        self.last_evicted = NO_DEPARTURES
        number = len(codes)
        chunk = max(MANY, self.capacity)
        if number <= chunk:
            return self._add(codes, vectors)
        evicted = []
        new = 0
        for start in range(0, number, chunk):
            self.last_evicted = NO_DEPARTURES
            new += self._add(codes[start : start + chunk], vectors[start : start + chunk])
            evicted.append(self.last_evicted)
        self.last_evicted = Departures(
            np.concatenate([part.codes for part in evicted]),
            np.concatenate([part.importances for part in evicted]),
        )
        return new

    def select(self, n: int, frozen: bool = False, lease: bool = False) -> list[Any]:
        """Select up to n candidates, greedily; return their identifiers in order of selection.

        frozen ranks once and takes the first n, as LLNL's dynim does, so that near-duplicates can
        be taken together. lease keeps the points open to `confirm` or `release`. With fewer than n
        candidates all are selected, and a warning is logged. Importances: `last_importances`.
        """
        n = checked_integer("n", n, 0)
        if n > len(self):
            LOGGER.warning("%d selections asked for, %d candidates to select from", n, len(self))
            n = len(self)
        picked = self.store.select(n, self.warm_up, self.seed, frozen, self.minimum_separation)
        self.last_importances, self.last_codes = picked.importances, picked.codes
        self.last_evicted = NO_DEPARTURES
        if self.minimum_separation > 0:
            gone = picked.rejected
            self.last_evicted = Departures(gone, np.full(len(gone), np.nan))
        ids = self.codec.decode(picked.codes)
        if lease:
            self._leased.update(ids)
        return ids

    def confirm(self, ids: Sequence[Identifier]) -> None:
        """Make leased selections final. Raises IdentifierError if one is not leased."""
        self._check_leased(ids)
        self._leased.difference_update(ids)

    def release(self, ids: Sequence[Identifier]) -> None:
        """Undo leased selections: they are candidates again, and importances rise accordingly.

        Raises IdentifierError if one is not leased, with nothing changed.
        """
        self._check_leased(ids)
        for name in dict.fromkeys(ids):
            codes = self._encode_one(name)
            index = -int(self.store.entries(codes)[0]) - 1
            vector = self.store.selected.vectors[index : index + 1].copy()
            self.store.unselect(index)
            self._leased.discard(name)
            self._add(codes, vector, evict=False)
        self.last_evicted = NO_DEPARTURES
        self._enforce_capacity()

    def invalidate(self, ids: Identifiers) -> None:
        """Remove candidates for good, for instance because their patch proved unusable.

        Raises IdentifierError if one is not a candidate, with nothing changed.
        """
        self.store.take_out(np.unique(self._candidate_rows(ids)), evicted=False)

    def mark_selected(self, ids: Identifiers, vectors: NDArray[np.float32] | None = None) -> None:
        """Count points as selected that were chosen elsewhere.

        Candidates need no vectors; others bring them, and may have departed. Raises
        IdentifierError for a point that is selected already, or unknown and without a vector.
        """
        codes = self.codec.encode(ids)
        if len(np.unique(codes, axis=0)) != len(codes):
            raise IdentifierError("ids to mark as selected must differ from each other")
        entries = self.store.entries(codes)
        if np.any(entries < 0):
            raise IdentifierError(f"{self._first(ids, entries < 0)!r} is selected already")
        if vectors is not None:
            points = checked_vectors(vectors, ids, self.dimension).copy()
        elif np.all(entries > 0):
            points = np.empty((len(codes), self.dimension), np.float32)
        else:
            unknown = self._first(ids, entries == 0)
            raise IdentifierError(f"{unknown!r} is not a candidate, so its vector is required")
        self.codec.adopt(kind_of(ids))
        everything, rows, *_ = self.store.read()
        order = np.argsort(rows)
        known = np.flatnonzero(entries > 0)
        at = order[np.searchsorted(rows[order], entries[known] - 1)]
        points[known] = everything[at]
        self.store.make_room(selections=len(codes))
        self.store.take_out((entries[known] - 1).astype(np.int32), evicted=False)
        self.store.append(points, codes)
        self.store.rebuild_table(len(self) + self.selected_count)

    def importance(self, ids: Identifiers) -> NDArray[np.float64]:
        """Exact importances of candidates, infinite while nothing is selected.

        Raises IdentifierError if one is not a candidate.
        """
        return self.store.importances(self._candidate_rows(ids))

    def evaluate(self) -> None:
        """Make every importance exact now, rather than when a candidate reaches the top."""
        self.store.evaluate()

    def weights(self) -> tuple[list[Any], NDArray[np.int64]]:
        """Selected identifiers, and 1 + the unselected points whose nearest selected point each is.

        Of equally near selected points the earlier one counts. An evicted point counts for the
        nearest at its eviction, an invalidated one for none.
        """
        counts = 1 + self.store.selected.evicted_near[: self.selected_count]
        if self.selected_count:
            _, indices = self.nearest_selected()
            counts = counts + np.bincount(indices, minlength=len(counts))
        return self.selected_ids, counts

    def nearest_selected(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Distance to, and index of, the selected point nearest to each candidate (leaf order)."""
        number = len(self)
        distances = np.empty(number)
        indices = np.empty(number, np.int32)
        rows = np.empty(number, np.int32)
        call_nearest(self.store.book, rows, distances, indices)
        return distances, indices

    def reencode(self, new_vectors: Mapping[Any, NDArray[np.float32]]) -> None:
        """Replace every vector, because the metric changed; order and leases of selections stay.

        new_vectors maps each candidate and each selected identifier to its float32 (dimension,).
        Raises IdentifierError for a missing one, VectorError for a bad one, nothing changed.
        """
        codes, _ = self.candidates()
        chosen = self.store.selected.codes[: self.selected_count].copy()
        vectors = []
        for part in (codes, chosen):
            names = self.codec.decode(part)
            missing = [name for name in names if name not in new_vectors]
            if missing:
                raise IdentifierError(f"no new vector for {missing[0]!r} ({len(missing)} missing)")
            rows = [np.asarray(new_vectors[name]) for name in names]
            if any(row.shape != (self.dimension,) for row in rows):
                raise VectorError(f"every new vector must have shape ({self.dimension},)")
            stacked = np.array(rows) if rows else np.empty((0, self.dimension), np.float32)
            vectors.append(checked_vectors(stacked, names, self.dimension))
        self.restore(codes, vectors[0], chosen, vectors[1])

    def restore(
        self,
        codes: NDArray[np.uint64],
        vectors: NDArray[np.float32],
        selected_codes: NDArray[np.uint64],
        selected_vectors: NDArray[np.float32],
    ) -> None:
        """Rebuild the store from its contents; departures and evicted counts stay as they are."""
        old = self.store
        arrived = self.arrivals(codes) if len(self) and self.eviction == "oldest" else None
        store = CandidateStore(self.dimension, self.k)
        store.make_room(arrivals=len(codes), selections=len(selected_codes))
        store.append(selected_vectors, selected_codes)
        kept = min(old.selected_count, len(selected_codes))
        store.selected.evicted_near[:kept] = old.selected.evicted_near[:kept]
        store.rebuild_table(len(codes) + len(selected_codes))
        store.add_many(codes, vectors, np.empty(len(codes), np.int32))
        store.departed, store.departed_count = old.departed, old.departed_count
        self.store = store
        if arrived is not None:
            self._order = ArrivalOrder()
            self._order.set(self._rows_of(codes), arrived)

    def arrivals(self, codes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Arrival numbers of candidates, kept only for eviction="oldest" (else empty)."""
        if self.eviction != "oldest" or len(codes) == 0:
            return np.empty(0, np.int64)
        return self._order.of(self._rows_of(codes))

    def set_leases_and_arrivals(
        self, leased: list[Any], codes: NDArray[np.uint64], arrivals: NDArray[np.int64]
    ) -> None:
        """Restore which selections are open, and when candidates arrived."""
        self._leased = set(leased)
        if len(arrivals):
            self._order.set(self._rows_of(codes), arrivals)

    def save(self, path: str | Path) -> None:
        """Write the whole state to one file, atomically."""
        write_snapshot(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a state that `save` wrote. Raises SnapshotError for a file that is not one."""
        sampler: Self = read_snapshot(cls, Path(path))
        return sampler

    def _add(
        self, codes: NDArray[np.uint64], vectors: NDArray[np.float32], evict: bool = True
    ) -> int:
        ranked = self.eviction == "lowest" and self.selected_count >= self.warm_up
        full = len(self) == self.capacity
        rows, new = self.store.add(codes, vectors, evict and ranked and full)
        if self.eviction == "oldest":
            self._order.note(rows[rows >= 0])
        if evict:
            self._enforce_capacity()
        return new

    def _enforce_capacity(self) -> None:
        number = len(self) - self.capacity
        if number > 0:
            if self.eviction == "lowest":
                evicted = self.store.evict(number, self.warm_up, self.seed)
            else:
                evicted = self._evict_oldest(number)
            self.last_evicted = Departures(*evicted)
            self.store.compact()

    def _evict_oldest(self, number: int) -> tuple[Any, Any]:
        _, rows, *_ = self.store.read()
        leaving = rows[np.argsort(self._order.of(rows))[:number]]
        codes = self.store.pool.codes[leaving]
        importances = self.store.importances(leaving)
        self.store.take_out(leaving, evicted=True)
        return codes, importances

    def _rows_of(self, codes: NDArray[np.uint64]) -> NDArray[np.int32]:
        return self.store.entries(codes) - 1

    def _candidate_rows(self, ids: Identifiers) -> NDArray[np.int32]:
        entries = self.store.entries(self.codec.encode(ids))
        if np.any(entries < 0):
            raise IdentifierError(f"{self._first(ids, entries < 0)!r} is selected already")
        if np.any(entries == 0):
            raise IdentifierError(f"unknown candidate {self._first(ids, entries == 0)!r}")
        return entries - np.int32(1)

    def _check_leased(self, ids: Sequence[Identifier]) -> None:
        for name in ids:
            if name not in self._leased:
                raise IdentifierError(f"{name!r} is not leased")

    def _encode_one(self, name: Any) -> NDArray[np.uint64]:
        return self.codec.encode([name])

    @staticmethod
    def _first(ids: Identifiers, mask: NDArray[np.bool_]) -> Any:
        return ids[int(np.argmax(mask))]
