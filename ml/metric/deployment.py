"""The network of the metric as it runs in a campaign: one affine map and one ReLU a layer.

Standardisation and every batch norm are folded into the affine map that follows (the last into the
one before it), which is exact because no convolution pads; a separable layer is one convolution.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.metric.convolution import convolve
from ml.metric.dense_layers import DenseLayers
from ml.metric.invariant_kernel import FoldedConvolutions, invariant_features
from ml.metric.invariant_network import InvariantNetwork, SymmetricConvolution
from ml.metric.networks import ConvolutionalNetwork, PlainConvolution, SeparableConvolution
from ml.metric.radial_profiles import PROFILE_CHANNELS
from ml.metric.symmetric_pooling import ProfilePooling, RingPooling
from ml.patch_set import Standardisation


class Convolutions(nn.Module):
    """Densities (B, C, n, n) to feature maps (B, F, m, m): convolutions, a ReLU after each."""

    def __init__(self, layers: list[tuple[Tensor, Tensor, int]]) -> None:
        super().__init__()
        self.strides = [stride for _, _, stride in layers]
        self.kernels = _frozen([kernel for kernel, _, _ in layers])
        self.biases = _frozen([bias for _, bias, _ in layers])

    def forward(self, x: Tensor) -> Tensor:
        for kernel, bias, stride in zip(self.kernels, self.biases, self.strides, strict=True):
            x = functional.relu_(convolve(x, kernel, bias, stride))
        return x


class Invariants(nn.Module):
    """Densities (B, C, n, n) to radial profiles and pooled feature maps, (B, features).

    Profiles are standardised here: the dense layer's sums would round away what it folds in.
    """

    scale: Tensor  # (8 x 38,)
    shift: Tensor

    def __init__(
        self,
        convolutions: Convolutions,
        profiles: ProfilePooling,
        maps: RingPooling,
        scale: Tensor,
        shift: Tensor,
    ) -> None:
        super().__init__()
        self.convolutions, self.profiles, self.maps = convolutions, profiles, maps
        per_channel = profiles.features // PROFILE_CHANNELS
        for name, value in (("scale", scale), ("shift", shift)):
            repeated = value[:PROFILE_CHANNELS].repeat_interleave(per_channel)
            self.register_buffer(name, repeated.float())

    def forward(self, density: Tensor) -> Tensor:
        on_cpu = density.device.type == "cpu"
        features = self.compiled(density) if on_cpu else self.by_torch(density)
        features[:, : len(self.scale)].mul_(self.scale).add_(self.shift)
        return features

    def by_torch(self, density: Tensor) -> Tensor:
        """Profiles, not standardised, and pooled maps, on any device."""
        return torch.cat((self.profiles(density), self.maps(self.convolutions(density))), dim=1)

    def compiled(self, density: Tensor) -> Tensor:
        """The same on a CPU, several times as fast."""
        return torch.from_numpy(invariant_features(density.numpy(), self._folded))

    @cached_property
    def _folded(self) -> FoldedConvolutions:
        mixing, symmetric = (kernel.numpy() for kernel in self.convolutions.kernels)
        mixing_bias, bias = (bias.numpy() for bias in self.convolutions.biases)
        orbits = symmetric[:, :, [1, 0, 0], [1, 1, 0]]
        return FoldedConvolutions.of(mixing[:, :, 0, 0], mixing_bias, orbits, bias)


class DeployedNetwork(nn.Module):
    """Densities (B, 14, 37, 37) nm⁻² float32 to embeddings (B, d), for inference only."""

    def __init__(
        self, features: Convolutions | Invariants, dense: list[tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__()
        self.features = features
        self.weights = _frozen([weight for weight, _ in dense])
        self.biases = _frozen([bias for _, bias in dense])

    @torch.inference_mode()
    def forward(self, density: Tensor) -> Tensor:
        x: Tensor = self.features(density).flatten(1)
        last = len(self.weights) - 1
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = functional.linear(x, weight, bias)
            x = x if depth == last else functional.relu_(x)
        return x


def deployed(network: nn.Module, standardisation: Standardisation) -> DeployedNetwork:
    """The trained `network` in evaluation mode, behind `standardisation`, folded in float64.

    Raises TypeError for a network that is not of the metric.
    """
    if not isinstance(network, ConvolutionalNetwork | InvariantNetwork):
        raise TypeError(f"cannot deploy a {type(network).__name__}")
    std = torch.from_numpy(standardisation.std.astype(np.float64))
    mean = torch.from_numpy(standardisation.mean.astype(np.float64))
    scale, shift = 1 / std, -mean / std
    convolutions = []
    for layer, convolution in enumerate(network.convolutions):
        kernel, bias, stride = _affine_of_convolution(convolution)
        bias = bias + (kernel * shift[:, None, None]).sum((1, 2, 3))
        convolutions.append((kernel * scale[:, None, None], bias, stride))
        if layer < len(network.norms):
            scale, shift = _affine_of_norm(network.norms[layer])
    maps = Convolutions(convolutions)
    if isinstance(network, InvariantNetwork):
        moments = 1 / std, -mean / std
        features = Invariants(maps, network.profiles, network.pooling, *moments)
        dense = _folded_dense(network.head, *_affine_of_norm(network.pooled_norm))
        return DeployedNetwork(features, dense)
    area = network.features // len(scale)
    scale, shift = scale.repeat_interleave(area), shift.repeat_interleave(area)
    return DeployedNetwork(maps, _folded_dense(network.dense, scale, shift))


def _folded_dense(dense: DenseLayers, scale: Tensor, shift: Tensor) -> list[tuple[Tensor, Tensor]]:
    folded = []
    last = len(dense.linears) - 1
    for depth, (linear, norm) in enumerate(zip(dense.linears, dense.norms, strict=True)):
        weight, bias = _affine_of_linear(linear)
        weight, bias = weight * scale, bias + weight @ shift
        scale, shift = _affine_of_norm(norm)
        if dense.norm_first or depth == last:
            weight, bias = weight * scale[:, None], bias * scale + shift
            scale, shift = torch.ones_like(scale), torch.zeros_like(shift)
        folded.append((weight, bias))
    return folded


def _affine_of_convolution(convolution: nn.Module) -> tuple[Tensor, Tensor, int]:
    if isinstance(convolution, PlainConvolution | SeparableConvolution | SymmetricConvolution):
        return _double(convolution.weight), _double(convolution.bias), convolution.stride
    raise TypeError(f"cannot deploy a {type(convolution).__name__}")


def _affine_of_linear(linear: nn.Module) -> tuple[Tensor, Tensor]:
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"cannot deploy a {type(linear).__name__}")
    return _double(linear.weight), _double(linear.bias)


def _affine_of_norm(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm in evaluation as x -> scale x + shift."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        raise TypeError(f"cannot deploy a {type(norm).__name__}")
    if norm.running_var is None or norm.running_mean is None:
        raise TypeError("cannot deploy a batch norm without running statistics")
    scale = _double(norm.weight) / torch.sqrt(_double(norm.running_var) + norm.eps)
    return scale, _double(norm.bias) - scale * _double(norm.running_mean)


def _double(value: Tensor) -> Tensor:
    return value.detach().cpu().double()


def _frozen(values: list[Tensor]) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(value.float(), requires_grad=False) for value in values)
