"""Approximate farthest-point selection on a FAISS index, with a certificate of what it gave up.

An inverted-file search may miss neighbours but every distance it returns is one to a selected
point, so the mean over its k is an upper bound of the importance. The `refine` candidates of
highest bound are evaluated exactly and the best of them is taken; the highest remaining bound minus
its importance is a certified gap: no candidate is more important than the pick plus the gap.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from selector.checks import checked_integer, checked_vectors
from selector.counter_random import WARM_UP, uniform
from selector.identifiers import IdentifierCodec, IdentifierError, Identifiers, kind_of

POINTS_PER_CELL = 39  # FAISS asks for that many training points per cell


class ApproximateSampler:
    """Candidates with approximate neighbour lists; the first `warm_up` selections are random."""

    def __init__(
        self,
        dimension: int,
        k: int = 10,
        warm_up: int = 10,
        seed: int = 0,
        *,
        cells: int = 100,
        probes: int = 10,
        refine: int = 16,
    ) -> None:
        self.dimension = checked_integer("dimension", dimension, 1)
        self.k = checked_integer("k", k, 1)
        self.warm_up = max(checked_integer("warm_up", warm_up, 0), self.k)
        self.seed = checked_integer("seed", seed, 0)
        self.cells = checked_integer("cells", cells, 1)
        self.probes = checked_integer("probes", probes, 1)
        self.refine = checked_integer("refine", refine, 1)
        self.codec = IdentifierCodec()
        self.last_gaps: NDArray[np.float64] = np.empty(0)  # of the last selection, per pick
        self.last_importances: NDArray[np.float64] = np.empty(0)
        self._seen: set[tuple[int, int]] = set()
        self._codes = np.empty((0, 2), np.uint64)
        self._vectors = np.empty((0, dimension), np.float32)
        self._lists = np.empty((0, k))  # (n, k) ascending, inf before the warm-up is over
        self._selected = np.empty((0, dimension), np.float32)

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self._codes)

    @property
    def selected_count(self) -> int:
        """Number of selected points."""
        return len(self._selected)

    def add(self, ids: Identifiers, vectors: NDArray[np.float32]) -> int:
        """Offer candidates; return how many were new. Raises VectorError or IdentifierError."""
        codes = self.codec.encode(ids)
        vectors = checked_vectors(vectors, ids, self.dimension)
        self.codec.adopt(kind_of(ids))
        fresh = []
        for i, code in enumerate(map(tuple, codes.tolist())):
            if code not in self._seen:
                self._seen.add(code)
                fresh.append(i)
        arrivals = vectors[fresh]
        self._codes = np.concatenate([self._codes, codes[fresh]])
        self._vectors = np.concatenate([self._vectors, arrivals])
        self._lists = np.concatenate([self._lists, self._search(arrivals)])
        return len(fresh)

    def select(self, n: int) -> list[Any]:
        """Up to n picks, greedily; `last_gaps` bounds how far each is from the true maximum."""
        n = min(checked_integer("n", n, 0), len(self))
        picks, gaps, importances = [], [], []
        for _ in range(n):
            at, importance, gap = self._best()
            picks.append(self._codes[at].copy())
            gaps.append(gap)
            importances.append(importance)
            self._take(at)
        self.last_gaps = np.array(gaps)
        self.last_importances = np.array(importances)
        return self.codec.decode(np.array(picks, np.uint64).reshape(-1, 2))

    def importance(self, ids: Identifiers) -> NDArray[np.float64]:
        """Exact importances of candidates. Raises IdentifierError if one is not a candidate."""
        at = {code: i for i, code in enumerate(map(tuple, self._codes.tolist()))}
        wanted = list(map(tuple, self.codec.encode(ids).tolist()))
        if any(code not in at for code in wanted):
            raise IdentifierError("importance is defined for candidates only")
        return np.array([self._exact(self._vectors[at[code]]) for code in wanted])

    def _best(self) -> tuple[int, float, float]:
        if self.selected_count < self.warm_up:
            draws = [uniform(self.seed, WARM_UP, *code) for code in self._codes.tolist()]
            return int(np.argmax(draws)), np.inf, 0.0
        bounds = self._lists.mean(axis=1)
        number = min(self.refine, len(bounds))
        top = np.argpartition(-bounds, number - 1)[:number]
        exact = np.array([self._exact(self._vectors[i]) for i in top])
        best = int(top[np.lexsort((top, -exact))[0]])
        importance = float(exact.max())
        others = np.delete(bounds, top)
        remaining = float(others.max()) if len(others) else -np.inf
        return best, importance, max(0.0, remaining - importance)

    def _take(self, at: int) -> None:
        self._selected = np.concatenate([self._selected, self._vectors[at : at + 1]])
        self._codes = np.delete(self._codes, at, axis=0)
        self._vectors = np.delete(self._vectors, at, axis=0)
        self._lists = np.delete(self._lists, at, axis=0)
        if self.selected_count == self.warm_up:
            self._lists = self._search(self._vectors)
        elif self.selected_count > self.warm_up and len(self):
            distances = _distances(self._vectors, self._selected[-1])
            nearer = distances < self._lists[:, -1]
            merged = np.column_stack([self._lists[nearer, :-1], distances[nearer]])
            self._lists[nearer] = np.sort(merged, axis=1)

    def _exact(self, vector: NDArray[np.float32]) -> float:
        number = min(self.k, self.selected_count)
        if number == 0:
            return float(np.inf)
        distances = np.sort(_distances(self._selected, vector))
        return float(distances[:number].mean())

    def _search(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        lists = np.full((len(vectors), self.k), np.inf)
        if self.selected_count < self.warm_up or len(vectors) == 0:
            return lists
        _, neighbours = self._index().search(vectors, self.k)
        for column in range(self.k):
            found = neighbours[:, column] >= 0
            points = self._selected[neighbours[found, column]]
            lists[found, column] = _distances(vectors[found], points)
        return np.sort(lists, axis=1)

    def _index(self) -> Any:
        flat: Any = faiss.IndexFlatL2(self.dimension)
        cells = min(self.cells, self.selected_count // POINTS_PER_CELL)
        index: Any = flat
        if cells > 1:
            index = faiss.IndexIVFFlat(flat, self.dimension, cells)
            index.nprobe = self.probes
            index.train(self._selected)
        index.add(self._selected)
        return index


def _distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    squares = (left.astype(np.float64) - right.astype(np.float64)) ** 2
    distances: NDArray[np.float64] = np.sqrt(squares.sum(axis=-1))
    return distances
