"""The published network as Keras counts it, its separable layer, and specs of other networks."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from ml.metric.networks import (
    Convolution,
    ConvolutionalNetwork,
    NetworkSpec,
    SeparableConvolution,
    build_network,
)
from ml.metric.symmetries import PUBLISHED_SYMMETRIES, SYMMETRIES, apply_symmetry, views

SEARCHED = NetworkSpec(
    kind="convolutional",
    dimension=7,
    convolutions=(
        Convolution(filters=6, kernel=1, depth_multiplier=3),
        Convolution(filters=8, kernel=3, stride=1),
        Convolution(filters=8, kernel=3, stride=2, depth_multiplier=2),
        Convolution(filters=12, kernel=5, stride=2),
    ),
    hidden=(32, 16),
)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 14, 37, 37, generator=torch.Generator().manual_seed(seed))


def test_the_published_network_has_the_parameters_that_keras_counts():
    network = build_network(NetworkSpec())

    trainable = sum(value.numel() for value in network.parameters())
    statistics = sum(
        value.numel() for name, value in network.named_buffers() if "num_batches" not in name
    )
    assert trainable == 13_113
    assert trainable + statistics == 13_207


def test_the_published_network_is_its_formula_layer_by_layer():
    network = build_network(NetworkSpec(), seed=1).eval()
    state = dict(network.state_dict())
    generator = torch.Generator().manual_seed(2)
    for name, value in state.items():
        if "num_batches" not in name:
            value.copy_(torch.rand(value.shape, generator=generator) * 0.4 + 0.1)
    x = images(2)

    def normal(x: torch.Tensor, name: str) -> torch.Tensor:
        shape = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(shape)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias

    depthwise = state["convolutions.0.depthwise"].reshape(84, 1, 1, 1)  # channel-major, as in Keras
    pointwise = state["convolutions.0.pointwise"].reshape(6, 84, 1, 1)
    layer = functional.conv2d(x, depthwise, groups=14)
    layer = functional.conv2d(layer, pointwise, state["convolutions.0.bias"])
    assert layer.shape == (2, 6, 37, 37)
    layer = normal(layer.relu(), "norms.0")
    for number, side in ((1, 18), (2, 8)):
        name = f"convolutions.{number}"
        layer = functional.conv2d(layer, state[f"{name}.weight"], state[f"{name}.bias"], stride=2)
        layer = normal(layer.relu(), f"norms.{number}")
        assert layer.shape == (2, 16, side, side)
    dense = layer.flatten(1) @ state["dense.linears.0.weight"].T + state["dense.linears.0.bias"]

    expected = normal(dense, "dense.norms.0")
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_a_separable_layer_is_its_depthwise_and_its_pointwise_part(kernel, stride):
    layer = SeparableConvolution(5, 4, kernel, stride, depth_multiplier=3)
    x = torch.randn(2, 5, 11, 11, generator=torch.Generator().manual_seed(1), requires_grad=True)

    depthwise = functional.conv2d(
        x, layer.depthwise.reshape(15, 1, kernel, kernel), stride=stride, groups=5
    )
    apart = functional.conv2d(depthwise, layer.pointwise.reshape(4, 15, 1, 1), layer.bias)
    together = layer(x)

    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    inputs = [x, layer.depthwise, layer.pointwise, layer.bias]
    weight = torch.randn(together.shape, generator=torch.Generator().manual_seed(2))
    for found, expected in zip(
        torch.autograd.grad((together * weight).sum(), inputs),
        torch.autograd.grad((apart * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_searched_network_has_the_layers_of_its_spec():
    network = build_network(SEARCHED)

    z = network(images(3))

    assert isinstance(network, ConvolutionalNetwork)
    assert z.shape == (3, 7)
    assert [tuple(linear.weight.shape) for linear in network.dense.linears] == [
        (32, 12 * 7 * 7),
        (16, 32),
        (7, 16),
    ]
    assert len(network.convolutions) == 4


@pytest.mark.parametrize("spec", [NetworkSpec(), SEARCHED, NetworkSpec(kind="invariant")])
def test_a_spec_survives_json_and_weights_follow_the_seed(spec):
    again = NetworkSpec.model_validate_json(spec.model_dump_json())

    first, second, other = build_network(spec, 5), build_network(again, 5), build_network(spec, 6)

    assert again == spec
    x = images(4)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), other(x))


def test_building_with_a_seed_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()

    build_network(NetworkSpec(), seed=1)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "transformer"}, "kind"),
        ({"dimension": 0}, "dimension"),
        ({"kind": "convolutional"}, "at least one of convolutions"),
        ({"hidden": (8,)}, "takes neither convolutions nor hidden"),
        ({"kind": "invariant", "convolutions": ({"filters": 4},)}, "takes no convolutions"),
        ({"widths": (4, 4)}, "widths belong to the invariant network"),
        ({"layers": 3}, "layers"),
        (
            {"kind": "convolutional", "convolutions": ({"filters": 4, "stride": 9},) * 3},
            r"convolutions\[2\] has kernel 3, but 1 nodes are left",
        ),
    ],
)
def test_a_senseless_spec_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        NetworkSpec.model_validate(values)


def test_the_eight_symmetries_are_the_group_of_the_square():
    square = np.arange(9).reshape(3, 3)
    maps = {apply_symmetry(square, g).tobytes(): g for g in SYMMETRIES}

    assert len(maps) == 8
    assert np.array_equal(apply_symmetry(square, 0), square)
    for g in SYMMETRIES:
        for h in SYMMETRIES:
            assert apply_symmetry(apply_symmetry(square, g), h).tobytes() in maps


def test_the_published_symmetries_are_three_turns_and_two_reflections():
    square = np.arange(9).reshape(3, 3)

    found = {apply_symmetry(square, g).tobytes() for g in PUBLISHED_SYMMETRIES}

    expected = [np.rot90(square, turns) for turns in (1, 2, 3)] + [square[::-1], square[:, ::-1]]
    assert found == {image.tobytes() for image in expected}


@pytest.mark.parametrize("g", SYMMETRIES)
def test_arrays_and_tensors_are_moved_alike(g):
    batch = np.random.default_rng(0).normal(size=(2, 3, 5, 5))

    moved = apply_symmetry(torch.from_numpy(batch), g)

    np.testing.assert_array_equal(moved.numpy(), apply_symmetry(batch, g))
    assert torch.equal(views(torch.from_numpy(batch), (0, g))[:, 1], moved)


@pytest.mark.parametrize(("shape", "g"), [((3, 4), 0), ((3, 3), 8), ((3, 3), -1)])
def test_no_other_symmetry_and_no_oblong_image(shape, g):
    with pytest.raises(ValueError, match=r"symmetry|square"):
        apply_symmetry(np.zeros(shape), g)
