"""Pooling over rings of nodes, which no symmetry of the square changes."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.metric.radial_profiles import PROFILE_CHANNELS, RINGS, rings_of_profiles
from ml.metric.symmetries import SYMMETRIES, apply_symmetry

_FINE = 3


class RingPooling(nn.Module):
    """(B, C, n, n), n odd, to (B, C x 2 rings): the mean and the maximum over each ring of nodes.

    The rings are those of `ring_numbers`.
    """

    order: Tensor  # nodes, ring by ring
    share: Tensor  # (rings, nodes) of each node in the mean of its ring

    def __init__(self, side: int) -> None:
        super().__init__()
        ring_of = ring_numbers(side).ravel()
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


@lru_cache(maxsize=4)
def ring_numbers(side: int) -> NDArray[np.int64]:
    """(side, side), side odd: which ring each node lies in, counted from the centre.

    Within 3 nodes of the centre, the hole of the central protein and its like, every distance is a
    ring of its own. Further out distances are rounded half up.
    """
    row, column = np.mgrid[:side, :side] - side // 2
    square = row**2 + column**2
    rounded = np.floor(np.sqrt(square) + 0.5).astype(np.int64) ** 2
    rings = np.unique(np.where(square < _FINE**2, square, rounded), return_inverse=True)[1]
    return rings.reshape(side, side).astype(np.int64)


@lru_cache(maxsize=4)
def steps_of_rings(side: int, row_length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(M, 2) steps from the centre in flat images, ring by ring, and where each ring starts.

    To a node (a, b) and to the next quarter turn of it; these and the steps back reach every node
    of a ring once, but for the centre, which is the first ring. Modulo 2⁶⁴, as those of profiles.
    """
    half = side // 2
    row, column = np.mgrid[: half + 1, : half + 1].reshape(2, -1)
    ring_of = ring_numbers(side)[half:, half:].ravel()
    order = np.argsort(ring_of, kind="stable")
    order = order[(column[order] > 0) | (order == 0)]
    starts = np.searchsorted(ring_of[order], np.arange(ring_of.max() + 2))
    steps = np.stack([row * row_length + column, row - column * row_length], axis=1)[order]
    return steps.astype(np.int64).view(np.uint64), starts.astype(np.int64)


@lru_cache(maxsize=16)
def orbit_labels(side: int) -> NDArray[np.int64]:
    """(side, side): which orbit of the square's symmetries each node lies in, numbered from 0."""
    nodes = np.arange(side**2).reshape(side, side)
    least = np.min([apply_symmetry(nodes, g) for g in SYMMETRIES], axis=0)
    return np.unique(least, return_inverse=True)[1].reshape(side, side).astype(np.int64)
