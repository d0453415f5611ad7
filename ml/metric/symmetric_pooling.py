"""Pooling over rings of nodes, which no symmetry of the square changes."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.metric.radial_profiles import PROFILE_CHANNELS, RINGS, rings_of_profiles
from ml.metric.symmetries import SYMMETRIES, apply_symmetry


class RingPooling(nn.Module):
    """(B, C, n, n), n odd, to (B, C x 2 rings): the mean and the maximum over each ring of nodes.

    Ring r <= n // 2 holds the nodes whose distance from the centre, rounded half up, is r; all
    further ones are the last ring.
    """

    order: Tensor  # nodes, ring by ring
    share: Tensor  # (rings, nodes) of each node in the mean of its ring

    def __init__(self, side: int) -> None:
        super().__init__()
        middle = side // 2
        row, column = np.mgrid[:side, :side] - middle
        distance = np.floor(np.hypot(row, column) + 0.5).astype(np.int64)
        ring_of = np.minimum(distance, middle + 1).ravel()
        self.sizes: list[int] = np.bincount(ring_of).tolist()
        rings = len(self.sizes)
        share = (ring_of == np.arange(rings)[:, None]) / np.array(self.sizes)[:, None]
        order = np.argsort(ring_of, kind="stable")
        self.register_buffer("order", torch.from_numpy(order), False)
        self.register_buffer("share", torch.from_numpy(share.astype(np.float32)), False)
        self.features = 2 * rings

    def forward(self, x: Tensor) -> Tensor:
        nodes = _nodes_first(x)
        highest = _highest(nodes.index_select(0, self.order), self.sizes)
        pooled = torch.cat((self.share @ nodes, highest))
        return _patches_first(pooled, x)


class ProfilePooling(nn.Module):
    """(B, >= 8, 37, 37) to (B, 8 x 38): the radial profiles of `radial_profiles`, by torch."""

    from_centre: Tensor  # nodes, ring by ring
    from_corners: Tensor  # nodes, ring by ring, those of the four corners side by side

    def __init__(self) -> None:
        super().__init__()
        order, starts = rings_of_profiles()
        self.centre_sizes, *corner_sizes = np.diff(starts).reshape(5, RINGS).tolist()
        self.corner_sizes: list[int] = corner_sizes[0]
        centre, corners = np.split(order, [starts[RINGS]])
        self.register_buffer("from_centre", torch.from_numpy(centre.copy()), False)
        side_by_side = corners.reshape(4, -1).T.ravel()
        self.register_buffer("from_corners", torch.from_numpy(side_by_side), False)
        self.features = PROFILE_CHANNELS * 2 * RINGS

    def forward(self, x: Tensor) -> Tensor:
        inner = x[:, :PROFILE_CHANNELS]
        nodes = _nodes_first(inner)
        centre = _highest(nodes.index_select(0, self.from_centre), self.centre_sizes)
        corners = nodes.index_select(0, self.from_corners).view(-1, 4 * nodes.shape[1])
        corners = _highest(corners, self.corner_sizes).view(RINGS, 4, -1).mean(1)
        return _patches_first(torch.cat((centre, corners)), inner)


def _nodes_first(x: Tensor) -> Tensor:
    """(B, C, m, n) to (m n, B C), so that a reduction over nodes runs along whole rows."""
    return x.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)


def _patches_first(pooled: Tensor, x: Tensor) -> Tensor:
    """(features, B C) of x (B, C, ...) to (B, C features)."""
    return pooled.view(-1, *x.shape[:2]).permute(1, 2, 0).flatten(1)


def _highest(nodes: Tensor, sizes: list[int]) -> Tensor:
    """nodes (n, K), ring by ring, to (rings, K): the maximum over each ring of `sizes` nodes."""
    return torch.stack([ring.amax(0) for ring in torch.split(nodes, sizes)])


@lru_cache(maxsize=16)
def orbit_labels(side: int) -> NDArray[np.int64]:
    """(side, side): which orbit of the square's symmetries each node lies in, numbered from 0."""
    nodes = np.arange(side**2).reshape(side, side)
    least = np.min([apply_symmetry(nodes, g) for g in SYMMETRIES], axis=0)
    return np.unique(least, return_inverse=True)[1].reshape(side, side).astype(np.int64)
