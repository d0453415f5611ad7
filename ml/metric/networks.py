"""Networks of the metric: the published one and its searchable kin (Bhatia et al. 2022, figure 10).

z = (b ∘ d) ∘ Λ ∘ (b ∘ a ∘ c₃) ∘ (b ∘ a ∘ c₂) ∘ (b ∘ a ∘ c₁), with c convolutions, a ReLU, b batch
normalisation, Λ flattening and d a dense layer; the first convolution is separable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.metric.convolution import convolve
from ml.metric.dense_layers import EPSILON, MOMENTUM, DenseLayers, glorot
from ml.metric.invariant_network import InvariantNetwork
from ml.metric.network_spec import PUBLISHED_CONVOLUTIONS, Convolution, NetworkSpec
from ml.patch_set import CHANNELS, NODES

__all__ = [
    "Convolution",
    "ConvolutionalNetwork",
    "NetworkSpec",
    "PlainConvolution",
    "SeparableConvolution",
    "build_network",
]


def build_network(spec: NetworkSpec, seed: int | None = None) -> nn.Module:
    """The network of `spec` on standardised images (B, 14, 37, 37) float32, giving (B, dimension).

    With `seed` the initial weights depend on it alone, else on torch's global generator.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        if spec.kind == "invariant":
            return InvariantNetwork(spec.dimension, spec.widths, spec.hidden or (64,))
        if spec.kind == "published":
            return ConvolutionalNetwork(PUBLISHED_CONVOLUTIONS, (), spec.dimension)
        return ConvolutionalNetwork(spec.convolutions, spec.hidden, spec.dimension)


class ConvolutionalNetwork(nn.Module):
    """Convolutions, then dense layers: all but the last with ReLU, all with batch norm."""

    def __init__(
        self, convolutions: Sequence[Convolution], hidden: Sequence[int], dimension: int
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        channels, side = len(CHANNELS), NODES
        for layer in convolutions:
            self.convolutions.append(_convolution(channels, layer))
            self.norms.append(nn.BatchNorm2d(layer.filters, eps=EPSILON, momentum=MOMENTUM))
            channels, side = layer.filters, (side - layer.kernel) // layer.stride + 1
        self.features = channels * side**2
        self.dense = DenseLayers(self.features, hidden, dimension)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(functional.relu(convolution(x)))
        z: Tensor = self.dense(x.flatten(1))
        return z


class PlainConvolution(nn.Module):
    """A convolution with bias, without padding."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(filters, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(filters))
        glorot(self.weight, kernel**2 * channels, kernel**2 * filters)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride)


class SeparableConvolution(nn.Module):
    """m filters for each channel, then a 1x1 mixing with bias, applied as their one product.

    The same parameters and function as the two layers apart, with far fewer operations.
    """

    def __init__(
        self, channels: int, filters: int, kernel: int, stride: int, depth_multiplier: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Parameter(torch.empty(channels, depth_multiplier, kernel, kernel))
        self.pointwise = nn.Parameter(torch.empty(filters, channels, depth_multiplier))
        self.bias = nn.Parameter(torch.zeros(filters))
        glorot(self.depthwise, kernel**2 * channels, kernel**2 * depth_multiplier)
        glorot(self.pointwise, channels * depth_multiplier, filters)

    @property
    def weight(self) -> Tensor:
        """(filters, channels, kernel, kernel) of the convolution that both make together."""
        return torch.einsum("ocm,cmij->ocij", self.pointwise, self.depthwise)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride)


def _convolution(channels: int, layer: Convolution) -> nn.Module:
    shape = channels, layer.filters, layer.kernel, layer.stride
    if layer.depth_multiplier:
        return SeparableConvolution(*shape, layer.depth_multiplier)
    return PlainConvolution(*shape)
