"""The network of the metric as it runs in a campaign: one affine map and one ReLU a layer.

Standardisation and every batch norm are folded into the affine map that follows (the last into the
one before it), which is exact because no convolution pads; a separable layer is one convolution.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.metric.convolution import convolve
from ml.metric.dense_layers import DenseLayers
from ml.metric.invariant_network import InvariantNetwork, SymmetricConvolution
from ml.metric.networks import ConvolutionalNetwork, PlainConvolution, SeparableConvolution
from ml.metric.radial_profiles import PROFILE_CHANNELS, radial_profiles
from ml.metric.symmetric_pooling import ProfilePooling, RingPooling
from ml.patch_set import Standardisation


class Invariants(nn.Module):
    """What pooling makes of densities and of the last feature maps, (B, features).

    Profiles are standardised here: the dense layer's sums would round away what it folds in.
    """

    scale: Tensor  # (8 x 38,)
    shift: Tensor

    def __init__(
        self, profiles: ProfilePooling, maps: RingPooling, scale: Tensor, shift: Tensor
    ) -> None:
        super().__init__()
        self.profiles, self.maps = profiles, maps
        per_channel = profiles.features // PROFILE_CHANNELS
        for name, value in (("scale", scale), ("shift", shift)):
            repeated = value[:PROFILE_CHANNELS].repeat_interleave(per_channel)
            self.register_buffer(name, repeated.float())

    def forward(self, density: Tensor, maps: Tensor) -> Tensor:
        if density.device.type == "cpu":  # compiled, and without copies
            profiles = torch.from_numpy(radial_profiles(density.numpy())).flatten(1)
        else:
            profiles = self.profiles(density)
        profiles = torch.addcmul(self.shift, profiles, self.scale)
        return torch.cat((profiles, self.maps(maps)), dim=1)


class DeployedNetwork(nn.Module):
    """Densities (B, 14, 37, 37) nm⁻² float32 to embeddings (B, d), for inference only."""

    def __init__(
        self,
        convolutions: list[tuple[Tensor, Tensor, int]],
        invariants: Invariants | None,
        dense: list[tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__()
        self.strides = [stride for _, _, stride in convolutions]
        self.invariants = invariants
        self.kernels = _frozen([kernel for kernel, _, _ in convolutions])
        self.kernel_biases = _frozen([bias for _, bias, _ in convolutions])
        self.weights = _frozen([weight for weight, _ in dense])
        self.biases = _frozen([bias for _, bias in dense])

    @torch.inference_mode()
    def forward(self, density: Tensor) -> Tensor:
        x = density
        for kernel, bias, stride in zip(
            self.kernels, self.kernel_biases, self.strides, strict=True
        ):
            x = functional.relu_(convolve(x, kernel, bias, stride))
        x = x.flatten(1) if self.invariants is None else self.invariants(density, x)
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
    invariants = None
    if isinstance(network, InvariantNetwork):
        invariants = Invariants(network.profiles, network.pooling, 1 / std, -mean / std)
        scale, shift = _affine_of_norm(network.pooled_norm)
    else:
        area = network.features // len(scale)
        scale, shift = scale.repeat_interleave(area), shift.repeat_interleave(area)
    return DeployedNetwork(convolutions, invariants, _folded_dense(network.dense, scale, shift))


def _folded_dense(dense: DenseLayers, scale: Tensor, shift: Tensor) -> list[tuple[Tensor, Tensor]]:
    folded = []
    for linear, norm in zip(dense.linears, dense.norms, strict=True):
        weight, bias = _affine_of_linear(linear)
        folded.append((weight * scale, bias + weight @ shift))
        scale, shift = _affine_of_norm(norm)
    weight, bias = folded[-1]
    folded[-1] = (weight * scale[:, None], bias * scale + shift)
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
