"""A network exactly invariant under the eight symmetries of the square, by construction.

Every kernel is symmetric itself, so that a symmetry of the image is the same symmetry of every
feature map (the sampled nodes are symmetric too: 37 → 17 with a kernel of 5 and stride 2, 17 → 8
with 3 and 2). Then each orbit of nodes under the symmetries gives its mean and its maximum, which
no symmetry changes, and dense layers follow.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.metric.convolution import convolve
from ml.metric.dense_layers import EPSILON, MOMENTUM, DenseLayers, glorot
from ml.metric.symmetries import SYMMETRIES, apply_symmetry
from ml.patch_set import CHANNELS, NODES


class InvariantNetwork(nn.Module):
    """Mixing of channels, two symmetric convolutions of stride 2, orbit pooling, dense layers.

    ReLU and batch norm follow each convolution, the last one's batch norm after the pooling.
    """

    def __init__(
        self, dimension: int, widths: Sequence[int] = (8, 16, 16), hidden: Sequence[int] = (64,)
    ) -> None:
        super().__init__()
        mixed, first, second = widths
        self.convolutions = nn.ModuleList(
            [
                SymmetricConvolution(len(CHANNELS), mixed, kernel=1, stride=1),
                SymmetricConvolution(mixed, first, kernel=5, stride=2),
                SymmetricConvolution(first, second, kernel=3, stride=2),
            ]
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width, eps=EPSILON, momentum=MOMENTUM) for width in (mixed, first)
        )
        side = ((NODES - 5) // 2 + 1 - 3) // 2 + 1
        self.pooling = OrbitPooling(side)
        features = second * self.pooling.features
        self.pooled_norm = nn.BatchNorm1d(features, eps=EPSILON, momentum=MOMENTUM)
        self.dense = DenseLayers(features, hidden, dimension)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = norm(functional.relu(convolution(x)))
        x = self.pooling(functional.relu(self.convolutions[-1](x))).flatten(1)
        z: Tensor = self.dense(self.pooled_norm(x))
        return z


class SymmetricConvolution(nn.Module):
    """A convolution whose kernels have one weight for each orbit of the square's symmetries."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        labels = orbit_labels(kernel)
        self.register_buffer("orbit", torch.from_numpy(labels), persistent=False)
        self.orbit_weight = nn.Parameter(torch.empty(filters, channels, int(labels.max()) + 1))
        self.bias = nn.Parameter(torch.zeros(filters))
        glorot(self.orbit_weight, channels * kernel**2, filters * kernel**2)

    orbit: Tensor

    @property
    def weight(self) -> Tensor:
        """(filters, channels, kernel, kernel)"""
        return self.orbit_weight[:, :, self.orbit]

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride)


class OrbitPooling(nn.Module):
    """(B, C, n, n) to (B, C, 2 orbits): the mean and the maximum over each orbit of nodes."""

    def __init__(self, side: int) -> None:
        super().__init__()
        labels = orbit_labels(side)
        images = np.stack(
            [apply_symmetry(np.arange(side**2).reshape(side, side), g) for g in SYMMETRIES]
        )
        first = np.unique(labels, return_index=True)[1]
        members = images.reshape(len(SYMMETRIES), -1)[:, first].T
        self.register_buffer("members", torch.from_numpy(members.copy()), persistent=False)
        self.features = 2 * len(members)

    members: Tensor  # (orbits, 8): a node of an orbit under each symmetry

    def forward(self, x: Tensor) -> Tensor:
        orbits = x.flatten(2)[:, :, self.members]  # (B, C, orbits, 8)
        return torch.cat((orbits.mean(3), orbits.amax(3)), dim=2)


@lru_cache(maxsize=16)
def orbit_labels(side: int) -> np.ndarray:
    """(side, side): which orbit of the square's symmetries each node lies in, numbered from 0."""
    nodes = np.arange(side**2).reshape(side, side)
    least = np.min([apply_symmetry(nodes, g) for g in SYMMETRIES], axis=0)
    return np.unique(least, return_inverse=True)[1].reshape(side, side)
