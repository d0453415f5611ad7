"""Binned sampling: draws that interpolate between the data's density and a flat one.

Each pick is, with probability `novelty`, a random member of a random occupied bin (flat over bins),
and otherwise a random candidate (the data). dynim's chunks have the same aim, but there the novelty
factor has no effect on the picks of a realistic pool. Both draws and all updates cost O(1).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selector.checks import checked_integer, checked_vectors
from selector.counter_random import BIN_CHOICE, MEMBER_CHOICE, draw, uniform
from selector.identifiers import IdentifierCodec, IdentifierError, Identifiers, kind_of

Code = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Equal bins on [low, high]; a bounded axis counts what lies outside in its end bins."""

    low: float
    high: float
    bins: int
    kind: Literal["bounded", "periodic"] = "bounded"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and self.low < self.high < np.inf):
            raise ValueError(f"an axis must have low < high, given {self.low} and {self.high}")
        checked_integer("bins", self.bins, 1)
        if self.kind not in ("bounded", "periodic"):
            raise ValueError(f"an axis must be 'bounded' or 'periodic', given {self.kind!r}")

    def bin_of(self, values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Bin of each value: [low, low + width) is 0; `high` is in the last bin if bounded."""
        scaled = (values.astype(np.float64) - self.low) / (self.high - self.low) * self.bins
        bins = np.floor(scaled).astype(np.int64)
        return bins % self.bins if self.kind == "periodic" else np.clip(bins, 0, self.bins - 1)


class BinnedSampler:
    """Candidates in the cells of a grid over some coordinates, such as tilt, rotation, depth."""

    def __init__(self, axes: list[Axis], novelty: float, seed: int = 0) -> None:
        if not axes:
            raise ValueError("a binned sampler must have at least one axis, given none")
        if not 0 <= novelty <= 1:
            raise ValueError(f"novelty must be in [0, 1], given {novelty}")
        self.axes = axes
        self.novelty = novelty
        self.seed = checked_integer("seed", seed, 0)
        self.codec = IdentifierCodec()
        self.picked = 0
        self._seen: set[Code] = set()
        self._all: list[Code] = []
        self._place: dict[Code, tuple[int, int, int]] = {}  # index in _all, bin, index in it
        self._members: dict[int, list[Code]] = {}
        self._occupied: list[int] = []
        self._occupied_at: dict[int, int] = {}

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self._all)

    def add(self, ids: Identifiers, vectors: NDArray[np.float32]) -> int:
        """Offer candidates with float32 (n, axes) coordinates; return how many were new."""
        codes = self.codec.encode(ids)
        vectors = checked_vectors(vectors, ids, len(self.axes))
        self.codec.adopt(kind_of(ids))
        bins = np.zeros(len(codes), np.int64)
        for axis, values in zip(self.axes, vectors.T, strict=True):
            bins = bins * axis.bins + axis.bin_of(values)
        before = len(self._seen)
        for code, cell in zip(map(tuple, codes.tolist()), bins.tolist(), strict=True):
            if code not in self._seen:
                self._seen.add(code)
                self._insert(code, cell)
        return len(self._seen) - before

    def select(self, n: int) -> list[Any]:
        """Draw n candidates without replacement, or all there are."""
        n = min(checked_integer("n", n, 0), len(self))
        codes = []
        for _ in range(n):
            flat = uniform(self.seed, BIN_CHOICE, self.picked, 0) < self.novelty
            members = self._all
            if flat:
                cell = self._occupied[self._below(len(self._occupied), BIN_CHOICE)]
                members = self._members[cell]
            code = members[self._below(len(members), MEMBER_CHOICE)]
            self._remove(code)
            codes.append(code)
            self.picked += 1
        return self.codec.decode(np.array(codes, np.uint64).reshape(-1, 2))

    def importance(self, ids: Identifiers) -> NDArray[np.float64]:
        """The probability of each candidate to be the next pick. Raises IdentifierError."""
        values = []
        for code in map(tuple, self.codec.encode(ids).tolist()):
            if code not in self._place:
                raise IdentifierError("importance is defined for candidates only")
            members = len(self._members[self._place[code][1]])
            flat = 1 / (members * len(self._occupied))
            values.append(self.novelty * flat + (1 - self.novelty) / len(self))
        return np.array(values)

    def _below(self, size: int, purpose: int) -> int:
        return int(draw(self.seed, purpose, self.picked, 1)) * size >> 64

    def _insert(self, code: Code, cell: int) -> None:
        members = self._members.setdefault(cell, [])
        if not members:
            self._occupied_at[cell] = len(self._occupied)
            self._occupied.append(cell)
        self._place[code] = (len(self._all), cell, len(members))
        self._all.append(code)
        members.append(code)

    def _remove(self, code: Code) -> None:
        at, cell, member_at = self._place.pop(code)
        members = self._members[cell]
        last = self._all.pop()
        if last != code:
            self._all[at] = last
            self._place[last] = (at, *self._place[last][1:])
        last = members.pop()
        if last != code:
            members[member_at] = last
            self._place[last] = (self._place[last][0], cell, member_at)
        if not members:
            hole = self._occupied_at.pop(cell)
            moved = self._occupied.pop()
            if moved != cell:
                self._occupied[hole] = moved
                self._occupied_at[moved] = hole
