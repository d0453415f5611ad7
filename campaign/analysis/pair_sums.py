"""Sums over pairs of patches, bin by bin of another distance, from which `ml`'s relations follow.

Pairs are added block by block and never kept, so memory does not grow with their number; nothing is
sampled. Bins are of equal width; the first edge counts, and the last.
"""

from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from campaign.analysis.bootstrap import central_interval, resampled_weights
from ml.metric.checks import Relation, relation_of_sums

Array = NDArray[np.float64]

FEWEST_BLOCKS = 8


class PairSums:
    """dz against x, for x from `first` to `last`."""

    def __init__(self, first: float, last: float, bins: int) -> None:
        self._edges = np.linspace(first, last, bins + 1)
        self._by_bin = np.zeros((3, bins))  # pairs, dz, dz²
        self._sums = np.zeros(6)  # pairs, x, z, x², z², x z
        self.seen = 0  # also pairs beyond the edges

    def add_block(self, x: NDArray[np.float32], dz: NDArray[np.float32]) -> None:
        """Pairs [b, c] with c > b of two (B, M) blocks."""
        self.seen += _add_block(x, dz, self._edges, self._by_bin, self._sums)

    def add_snapshot(self, centre_nm: Array, z: NDArray[np.float32], side_nm: float) -> None:
        """All pairs of one snapshot: x is the distance of the centres (N, 2) by minimum image."""
        self.seen += _add_snapshot(centre_nm, z, side_nm, self._edges, self._by_bin, self._sums)

    def relation(self) -> Relation:
        """Of all pairs added."""
        n, x, z, xx, zz, xz = self._sums
        spread = (n * xx - x * x) * (n * zz - z * z)
        r = (n * xz - x * z) / np.sqrt(spread) if n > 1 and spread > 0 else float("nan")
        return self._relation(self._by_bin, float(r))

    @staticmethod
    def interval_of_means(
        blocks: Sequence["PairSums"], *, resamples: int = 400, seed: int = 0
    ) -> tuple[float, float] | None:
        """95 % interval of `pearson_means` of the sum of `blocks`, of the same bins, drawn anew.

        None with fewer than FEWEST_BLOCKS of them.
        """
        if len(blocks) < FEWEST_BLOCKS:
            return None
        by_block = np.array([block._by_bin for block in blocks])
        found = [
            blocks[0]._relation(np.tensordot(weight, by_block, 1), float("nan")).pearson_means
            for weight in resampled_weights(len(blocks), resamples, seed)
        ]
        low, high = central_interval(np.array(found))
        return float(low), float(high)

    def __iadd__(self, other: "PairSums") -> "PairSums":
        """Add all pairs of another one of the same bins."""
        self._by_bin += other._by_bin
        self._sums += other._sums
        self.seen += other.seen
        return self

    def _relation(self, by_bin: Array, r: float) -> Relation:
        pairs, total, squares = by_bin
        return relation_of_sums(self._edges, pairs.astype(np.int64), total, squares, r)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _add_block(x: Any, dz: Any, edges: Any, by_bin: Any, sums: Any) -> int:
    seen = 0
    for b in range(x.shape[0]):
        for c in range(b + 1, x.shape[1]):
            _count(np.float64(x[b, c]), np.float64(dz[b, c]), edges, by_bin, sums)
        seen += max(x.shape[1] - b - 1, 0)
    return seen


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _add_snapshot(centre: Any, z: Any, side: float, edges: Any, by_bin: Any, sums: Any) -> int:
    count = len(z)
    for i in range(count):
        for j in range(i + 1, count):
            gap_x, gap_y = centre[i, 0] - centre[j, 0], centre[i, 1] - centre[j, 1]
            gap_x -= side * np.round(gap_x / side)
            gap_y -= side * np.round(gap_y / side)
            x = np.hypot(gap_x, gap_y)
            if x > edges[-1]:
                continue
            total = 0.0
            for c in range(z.shape[1]):
                step = np.float64(z[i, c]) - np.float64(z[j, c])
                total += step * step
            _count(x, np.sqrt(total), edges, by_bin, sums)
    return count * (count - 1) // 2


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _count(x: float, z: float, edges: Any, by_bin: Any, sums: Any) -> None:
    bins = len(edges) - 1
    if not edges[0] <= x <= edges[bins]:
        return
    row = min(int((x - edges[0]) / (edges[bins] - edges[0]) * bins), bins - 1)
    by_bin[0, row] += 1
    by_bin[1, row] += z
    by_bin[2, row] += z * z
    sums[0] += 1
    sums[1] += x
    sums[2] += z
    sums[3] += x * x
    sums[4] += z * z
    sums[5] += x * z
