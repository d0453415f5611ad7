"""Euclidean distances between all pairs of points, block by block, on a CPU or a GPU."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIRECT_DIMENSIONS = 64
BLOCK_PAIRS = {"cpu": 1 << 20, "cuda": 1 << 24}


class PointCloud:
    """N points of one space, and the distances between blocks of them.

    Up to 64 dimensions a distance is the root of summed squared differences, right to float32
    round-off however close two points are. Beyond, it comes from a matrix product of centred
    points: |a|² + |b|² - 2ab, with an error of about 1e-6 of the cloud's squared radius in d².
    """

    def __init__(self, vectors: NDArray[np.floating], device: str | torch.device = "cpu") -> None:
        """vectors (N, d). ValueError unless N >= 2, d >= 1 and all are finite."""
        if vectors.ndim != 2 or len(vectors) < 2 or vectors.shape[1] < 1:
            raise ValueError(
                f"vectors must be (N, d) with N >= 2 and d >= 1, given shape {vectors.shape}"
            )
        points = torch.as_tensor(np.asarray(vectors, dtype=np.float32)).to(device)
        if not bool(torch.isfinite(points).all()):
            bad = int((~torch.isfinite(points)).any(dim=1).sum())
            raise ValueError(f"vectors must be finite, {bad} of {len(points)} are not")
        self._centred = points - points.mean(dim=0, dtype=torch.float64).float()
        self._squared_norm = (self._centred**2).sum(dim=1)

    def __len__(self) -> int:
        return len(self._centred)

    @property
    def device(self) -> torch.device:
        return self._centred.device

    @property
    def diameter_bound(self) -> float:
        """No two points are farther apart than this."""
        return 2 * math.sqrt(float(self._squared_norm.max()))

    def row_blocks(self) -> Iterator[slice]:
        """Slices of rows; a block of their distances to all points suits the device's memory."""
        return row_blocks(len(self), BLOCK_PAIRS[self.device.type])

    def distances(self, rows: slice, columns: slice) -> Tensor:
        """Float32 (rows, columns) distances."""
        a, b = self._centred[rows], self._centred[columns]
        if a.shape[1] <= DIRECT_DIMENSIONS:
            return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        norms = self._squared_norm[rows, None] + self._squared_norm[None, columns]
        return torch.addmm(norms, a, b.T, alpha=-2).clamp_(min=0).sqrt_()


def row_blocks(points: int, block_pairs: int) -> Iterator[slice]:
    """Slices of rows that hold about `block_pairs` pairs each against all points."""
    height = max(1, block_pairs // points)
    for start in range(0, points, height):
        yield slice(start, min(start + height, points))
