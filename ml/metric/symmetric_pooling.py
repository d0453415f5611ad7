"""Pooling that no symmetry of the square changes: over orbits of nodes, and over radial rings."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.metric.radial_profiles import PROFILE_CHANNELS, RINGS
from ml.metric.symmetries import SYMMETRIES, apply_symmetry


class OrbitPooling(nn.Module):
    """(B, C, n, n) to (B, C x 2 orbits): the mean and the maximum over each orbit of nodes."""

    members: Tensor  # (orbits, 8) the node that each symmetry brings to an orbit's first one

    def __init__(self, side: int) -> None:
        super().__init__()
        nodes = np.arange(side**2).reshape(side, side)
        moved = np.stack([apply_symmetry(nodes, g).ravel() for g in SYMMETRIES])
        first = np.unique(orbit_labels(side), return_index=True)[1]
        self.register_buffer("members", torch.from_numpy(moved[:, first].T.copy()), False)
        self.features = 2 * len(first)

    def forward(self, x: Tensor) -> Tensor:
        orbits = x.flatten(2)[:, :, self.members]  # (B, C, orbits, 8)
        return torch.cat((orbits.mean(3), orbits.amax(3)), dim=2).flatten(1)


class ProfilePooling(nn.Module):
    """(B, >= 8, 37, 37) to (B, 8 x 38): the radial profiles of `radial_profiles`, by torch.

    The four quadrants have the same rings once each is turned so that its corner comes first.
    """

    from_corner: Tensor  # (19, nodes) of a quadrant, the last repeated where a ring has fewer
    from_centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        row, column = np.mgrid[:RINGS, :RINGS]
        distance = np.floor(np.hypot(row, column) + 0.5)
        for name, ring_of in (("from_corner", distance), ("from_centre", distance[::-1, ::-1])):
            rings = [np.flatnonzero(ring_of == ring) for ring in range(RINGS)]
            longest = max(len(ring) for ring in rings)
            padded = np.stack([np.pad(ring, (0, longest - len(ring)), "edge") for ring in rings])
            self.register_buffer(name, torch.from_numpy(padded), False)
        self.features = PROFILE_CHANNELS * 2 * RINGS

    def forward(self, x: Tensor) -> Tensor:
        inner = x[:, :PROFILE_CHANNELS]
        near, far = slice(0, RINGS), slice(RINGS - 1, None)
        quadrants = torch.stack(
            (
                inner[:, :, near, near],
                inner[:, :, near, far].flip(3),
                inner[:, :, far, near].flip(2),
                inner[:, :, far, far].flip(2, 3),
            ),
            dim=1,
        ).flatten(3)  # (B, 4, 8, 19 x 19)
        centre = quadrants.amax(1)[:, :, self.from_centre].amax(3)
        corners = quadrants[..., self.from_corner].amax(4).mean(1)
        return torch.cat((centre, corners), dim=2).flatten(1)


@lru_cache(maxsize=16)
def orbit_labels(side: int) -> NDArray[np.int64]:
    """(side, side): which orbit of the square's symmetries each node lies in, numbered from 0."""
    nodes = np.arange(side**2).reshape(side, side)
    least = np.min([apply_symmetry(nodes, g) for g in SYMMETRIES], axis=0)
    return np.unique(least, return_inverse=True)[1].reshape(side, side).astype(np.int64)
