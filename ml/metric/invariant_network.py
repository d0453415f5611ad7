"""A network exactly invariant under the eight symmetries of the square, by construction.

It sees a patch in two ways, and no symmetry changes what either gives:

- its radial profiles (section 2.2.3), which the metric's distances are to be proportional to;
- a convolution whose kernels are themselves symmetric, so that a symmetry of the image is the same
  symmetry of every feature map, and then the mean and the maximum over rings around the centre.

The convolution keeps every node: what tells kinds of patches apart are the holes that beads of
proteins make in the lipids, of about one node, while the noise is smooth over several.

Dense layers follow, in which ReLU comes after batch norm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.metric.convolution import convolve
from ml.metric.dense_layers import EPSILON, MOMENTUM, DenseLayers, glorot
from ml.metric.symmetric_pooling import ProfilePooling, RingPooling, orbit_labels
from ml.patch_set import CHANNELS, NODES

_KERNEL = 3
# Of what is pooled, in squares of standardised densities: what training patches hardly show must
# not be amplified where proteins have gathered far more lipids than in any of them.
_LEAST_VARIANCE = 0.1


class InvariantNetwork(nn.Module):
    """Radial profiles beside a mixing of channels, a symmetric convolution and ring pooling.

    ReLU follows each convolution; batch norm the first one, and what is pooled, where the profiles
    join.
    """

    def __init__(self, dimension: int, widths: Sequence[int], hidden: Sequence[int]) -> None:
        super().__init__()
        mixed, filters = widths
        self.convolutions = nn.ModuleList(
            [
                SymmetricConvolution(len(CHANNELS), mixed, kernel=1),
                SymmetricConvolution(mixed, filters, kernel=_KERNEL),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(mixed, eps=EPSILON, momentum=MOMENTUM)])
        self.profiles = ProfilePooling()
        self.pooling = RingPooling(NODES - _KERNEL + 1)
        features = self.profiles.features + filters * self.pooling.features
        self.pooled_norm = nn.BatchNorm1d(features, eps=_LEAST_VARIANCE, momentum=MOMENTUM)
        self.head = DenseLayers(features, hidden, dimension, norm_first=True)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = norm(functional.relu(convolution(x)))
        x = functional.relu(self.convolutions[-1](x))
        features = torch.cat((self.profiles(images), self.pooling(x)), dim=1)
        z: Tensor = self.head(self.pooled_norm(features))
        return z


class SymmetricConvolution(nn.Module):
    """A convolution whose kernels have one weight for each orbit of the square's symmetries."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
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
