"""Uniformly random selection behind the samplers' interface: the control of every comparison."""

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selector.checks import checked_integer, checked_vectors
from selector.counter_random import RANDOM_CHOICE, uniform
from selector.identifiers import IdentifierCodec, IdentifierError, Identifiers, kind_of

Code = tuple[int, int]


class RandomSampler:
    """Selects candidates in the order of a draw per identifier; beyond capacity the last leave.

    The draw depends on the seed and the identifier only, so neither the order nor the batches of
    arrival matter.
    """

    def __init__(self, dimension: int, capacity: int = 35_000, seed: int = 0) -> None:
        self.dimension = checked_integer("dimension", dimension, 1)
        self.capacity = checked_integer("capacity", capacity, 1)
        self.seed = checked_integer("seed", seed, 0)
        self.codec = IdentifierCodec()
        self._draws: dict[Code, float] = {}  # of the candidates
        self._seen: set[Code] = set()
        self._order: list[tuple[float, Code]] = []  # heap, greatest draw first

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self._draws)

    def add(self, ids: Identifiers, vectors: NDArray[np.float32]) -> int:
        """Offer candidates; return how many were new. Raises VectorError or IdentifierError."""
        codes = self.codec.encode(ids)
        checked_vectors(vectors, ids, self.dimension)
        self.codec.adopt(kind_of(ids))
        before = len(self._seen)
        for code in map(tuple, codes.tolist()):
            if code not in self._seen:
                self._seen.add(code)
                draw = uniform(self.seed, RANDOM_CHOICE, *code)
                self._draws[code] = draw
                heapq.heappush(self._order, (-draw, code))
        if len(self._order) > self.capacity:
            self._order = heapq.nsmallest(self.capacity, self._order)
            self._draws = {code: -key for key, code in self._order}
        return len(self._seen) - before

    def select(self, n: int) -> list[Any]:
        """The n candidates of greatest draw, or all there are."""
        n = min(checked_integer("n", n, 0), len(self))
        codes = [heapq.heappop(self._order)[1] for _ in range(n)]
        for code in codes:
            del self._draws[code]
        return self.codec.decode(np.array(codes, np.uint64).reshape(-1, 2))

    def importance(self, ids: Identifiers) -> NDArray[np.float64]:
        """The draws of candidates. Raises IdentifierError if one is not a candidate."""
        codes = map(tuple, self.codec.encode(ids).tolist())
        try:
            return np.array([self._draws[code] for code in codes])
        except KeyError:
            raise IdentifierError("importance is defined for candidates only") from None
