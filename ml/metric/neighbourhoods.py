"""Precision, recall and accuracy of neighbourhoods in an embedding (Bhatia 2022, 3.1.1, fig. 11).

The paper: "for each validation data point, we compute precision and recall for increasing numbers
of neighbors, leading to the precision-recall curve". For point i of type y_i among N points, of
which P_i others share its type, its k nearest neighbours (itself left out) hold
TP_i(k) of its type, FP = k - TP, FN = P_i - TP, TN = N - 1 - k - FN, and

    precision_i(k) = TP/k,   recall_i(k) = TP/P_i,   accuracy_i(k) = (TP + TN)/(N - 1).

The paper does not say how points are put together. Its figure 11 draws one curve over the size of
the neighbourhood, so here the curves are means over points at equal k, and `auc` is the area under
mean precision against mean recall (trapezia, precision(1) carried on to recall 0). Types of unequal
size reach full recall at unequal k, so this area stays below 1 even for perfectly separated
types; `auc_of_points`, the mean over points of the area under each point's own curve, is then 1.
Both equal the prevalence of the types for an embedding that knows nothing of them.

Neighbours at equal distance count with their share: TP_i rises evenly across the tied ranks, the
expectation over a random order. Nothing else is approximated: every rank of every point counts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.metric import counting_on_cpu, counting_on_gpu

Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrecisionRecall:
    """Curves against the number of neighbours k = 1 .. N-1, over all points and by type."""

    precision: Curve  # (N-1,)
    recall: Curve  # (N-1,)
    accuracy: Curve  # (N-1,)
    types: NDArray[np.int64]  # (T,) types with at least two points
    precision_by_type: Curve  # (T, N-1)
    recall_by_type: Curve  # (T, N-1)
    accuracy_by_type: Curve  # (T, N-1)
    auc: float
    auc_of_points: float
    prevalence: float  # mean share of the other points that share a point's type

    @property
    def neighbours(self) -> NDArray[np.int64]:
        """k of each column."""
        return np.arange(1, len(self.precision) + 1)


class NeighbourhoodCounts:
    """Counts, rank by rank, how many neighbours share the type of their point."""

    def __init__(self, types: NDArray[np.integer[Any]], device: str | torch.device = "cpu") -> None:
        """types (N,). ValueError unless two types or more have two points or more each."""
        self._names, inverse, sizes = np.unique(types, return_inverse=True, return_counts=True)
        if (sizes >= 2).sum() < 2:
            raise ValueError(
                "precision and recall need at least two types of at least two patches each,"
                f" given {dict(zip(self._names.tolist(), sizes.tolist(), strict=True))}"
            )
        self._sizes = sizes
        self._type = torch.as_tensor(inverse.astype(np.int64)).to(device)
        self._partners = torch.as_tensor(np.maximum(sizes - 1, 1)).to(device)[self._type]
        shape = (len(sizes), len(types) - 1)
        self._same_at_rank = torch.zeros(shape, dtype=torch.float64, device=device)
        self._area = 0.0

    def add(self, rows: slice, distances: Tensor) -> None:
        """Count the neighbours of points `rows`, distances float32 (rows, N); each point once."""
        if distances.device.type == "cpu":
            areas = torch.from_numpy(
                counting_on_cpu.count_matches(
                    distances.numpy(),
                    self._type[rows].numpy(),
                    self._type.numpy(),
                    rows.start,
                    self._same_at_rank.numpy(),
                )
            )
        else:
            areas = counting_on_gpu.count_matches(
                distances, self._type[rows], self._type, rows.start, self._same_at_rank
            )
        self._area += float((areas / self._partners[rows]).sum())

    def result(self) -> PrecisionRecall:
        """The curves, once every point was added. Types with a single point are left out."""
        kept = self._sizes >= 2
        sizes = self._sizes[kept].astype(np.float64)[:, None]
        others = len(self._type) - 1
        k = np.arange(1, others + 1, dtype=np.float64)
        found = self._same_at_rank.cpu().numpy()[kept].cumsum(axis=1) / sizes  # mean TP of a type
        precision = found / k
        recall = found / (sizes - 1)
        accuracy = (2 * found + others - k - (sizes - 1)) / others
        share = (sizes / sizes.sum())[:, 0]
        mean_precision, mean_recall = share @ precision, share @ recall
        return PrecisionRecall(
            precision=mean_precision,
            recall=mean_recall,
            accuracy=share @ accuracy,
            types=self._names[kept].astype(np.int64),
            precision_by_type=precision,
            recall_by_type=recall,
            accuracy_by_type=accuracy,
            auc=area_under(mean_recall, mean_precision),
            auc_of_points=self._area / float(sizes.sum()),
            prevalence=float(share @ (sizes[:, 0] - 1)) / others,
        )


def area_under(recall: Curve, precision: Curve) -> float:
    """Area under a precision-recall curve by trapezia, the first precision carried to recall 0."""
    return float(np.trapezoid(np.append(precision[0], precision), np.append(0.0, recall)))
