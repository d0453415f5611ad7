"""Drift: how far the patches of a campaign have left those the metric was trained on (fig. 12).

Two-sample statistics compare PAP6 and protein counts of two sets of patches; the detector compares
embeddings: the distance of a patch to its nearest reference patch, against what is usual among the
reference patches themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.neighbors import NearestNeighbors

Array = NDArray[Any]

NEIGHBOURS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Difference of one scalar's distribution between two sets of patches."""

    mean_before: float
    mean_after: float
    largest_before: float
    largest_after: float
    wasserstein: float  # in the units of the scalar
    ks_statistic: float
    ks_p_value: float


def shift(before: Array, after: Array) -> Shift:
    """The two-sample Kolmogorov-Smirnov statistic and Wasserstein distance of two samples (n,).

    Patches of neighbouring snapshots are correlated, so the p value is too small by their effective
    number; the statistic itself is not affected. Raises ValueError for an empty sample.
    """
    if len(before) == 0 or len(after) == 0:
        raise ValueError(f"two samples are required, got {len(before)} and {len(after)} values")
    test = ks_2samp(before, after)
    return Shift(
        mean_before=float(np.mean(before)),
        mean_after=float(np.mean(after)),
        largest_before=float(np.max(before)),
        largest_after=float(np.max(after)),
        wasserstein=float(wasserstein_distance(before, after)),
        ks_statistic=float(test.statistic),
        ks_p_value=float(test.pvalue),
    )


class DriftDetector:
    """Says which embeddings lie outside the data an encoder was trained on."""

    def __init__(self, reference: NDArray[np.float32], *, quantile: float = 0.99) -> None:
        """`reference` (n, d): embeddings of training patches, n > NEIGHBOURS.

        The threshold is the `quantile` of each reference patch's distance to its NEIGHBOURS-th
        nearest other, so a share of 1 - quantile of new patches of the same kind is flagged.
        """
        if reference.ndim != 2 or len(reference) <= NEIGHBOURS:
            raise ValueError(
                f"the reference must be more than {NEIGHBOURS} embeddings, got {reference.shape}"
            )
        self._index = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reference)
        distance, _ = self._index.kneighbors()
        self.quantile = quantile
        self.threshold = float(np.quantile(distance[:, -1], quantile))

    def outside(self, z: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of z (m, d) lie further from the reference than is usual within it."""
        distance, _ = self._index.kneighbors(z)
        return np.asarray(distance[:, -1] > self.threshold)

    def alarm(self, share_outside: float, patches: float, *, tolerance: float = 3.0) -> bool:
        """Whether a share outside is more than chance: above the expected share by `tolerance`
        standard errors of `patches` independent patches, and above twice it."""
        expected = 1 - self.quantile
        error = np.sqrt(expected * (1 - expected) / max(patches, 1.0))
        return bool(share_outside > max(expected + tolerance * error, 2 * expected))
