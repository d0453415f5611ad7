"""How embedding distances relate to another distance, over all pairs of points in one pass.

One pass gives overlap (Bhatia 2022, 3.1.2), the median absolute residual error (3.1.3), the joint
histogram of figure 3 and Pearson's R. Memory does not grow with the number of pairs. The median
comes from counts of float32 values with their last ten bits cut off, so it is the true one to a
relative error of 2⁻¹⁴ (6e-5); all else is exact to round-off.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.metric import counting_on_cpu, counting_on_gpu
from ml.metric.counting_on_cpu import CUT_BITS

MEDIAN_RELATIVE_ERROR = 2.0**-14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairRelation:
    """What was counted over the pairs; `reference` is the other distance (dΥ, dμ, ...)."""

    pairs: int
    within_threshold: int  # pairs with dz <= threshold
    median_residual: float  # of |dz - factor * reference|, units of dz
    pearson_r: float  # NaN where either distance is constant
    slope: float  # least squares of dz = slope * reference
    mean_distance: float
    mean_reference: float
    histogram: NDArray[np.int64]  # (bins, bins): [reference, dz]
    distance_edges: NDArray[np.float64]  # (bins + 1,)
    reference_edges: NDArray[np.float64]  # (bins + 1,)
    distance_sum: NDArray[np.float64]  # (bins,) sum of dz over the pairs of a reference bin
    distance_square_sum: NDArray[np.float64]  # (bins,)


class PairCounts:
    """Adds up blocks of pairs; each pair of points must be added once."""

    def __init__(
        self,
        *,
        factor: float,
        threshold: float,
        distance_bound: float,
        reference_bound: float,
        bins: int = 400,
        device: str | torch.device = "cpu",
    ) -> None:
        """factor: slope of the residual; bounds: upper ends of the histogram's axes."""
        self._bounds = max(distance_bound, 1e-30), max(reference_bound, 1e-30)
        self._scalars = (factor, threshold, bins / self._bounds[0], bins / self._bounds[1])
        shapes: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (
            ((1 << (31 - CUT_BITS),), torch.int64),
            ((bins, bins), torch.int64),
            ((2, bins), torch.float64),
            ((5,), torch.float64),
            ((2,), torch.int64),
        )
        self._tallies = [torch.zeros(size, dtype=kind, device=device) for size, kind in shapes]

    def add(self, distance: Tensor, reference: Tensor) -> None:
        """dz and the reference distance, float32 (B, M): pairs [b, c] count where c > b."""
        if distance.device.type == "cpu":
            factor, threshold, per_distance, per_reference = map(np.float32, self._scalars)
            residuals, joint, by_bin, sums, counts = (tally.numpy() for tally in self._tallies)
            counting_on_cpu.count_pairs(
                distance.numpy(),
                reference.numpy(),
                factor,
                threshold,
                per_distance,
                per_reference,
                residuals,
                joint,
                by_bin,
                sums,
                counts,
            )
        else:
            counting_on_gpu.count_pairs(distance, reference, *self._scalars, *self._tallies)

    def result(self) -> PairRelation:
        """ValueError before any pair was added."""
        residuals, joint, by_bin, sums, counts = (tally.cpu().numpy() for tally in self._tallies)
        n = int(counts[0])
        if not n:
            raise ValueError("no pair was added")
        z, r, zz, rr, zr = (float(value) / n for value in sums)
        spread = max(zz - z * z, 0.0) * max(rr - r * r, 0.0)
        edges = np.linspace(0, 1, len(joint) + 1)
        return PairRelation(
            pairs=n,
            within_threshold=int(counts[1]),
            median_residual=_median(residuals),
            pearson_r=(zr - z * r) / spread**0.5 if spread > 0 else float("nan"),
            slope=zr / rr if rr > 0 else float("nan"),
            mean_distance=z,
            mean_reference=r,
            histogram=joint,
            distance_edges=edges * self._bounds[0],
            reference_edges=edges * self._bounds[1],
            distance_sum=by_bin[0],
            distance_square_sum=by_bin[1],
        )


def _median(counts: NDArray[np.int64]) -> float:
    """Median of the counted values, each read as the middle of its bin (0 in the first)."""
    cumulative = counts.cumsum()
    total = int(cumulative[-1])
    middle = [
        int(np.searchsorted(cumulative, rank, side="right"))
        for rank in ((total - 1) // 2, total // 2)
    ]
    bits = np.array(
        [0 if b == 0 else (b << CUT_BITS) + (1 << (CUT_BITS - 1)) for b in middle], dtype=np.int32
    )
    return float(bits.view(np.float32).astype(np.float64).mean())
