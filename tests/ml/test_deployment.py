"""The deployed network against the trained one."""

import numpy as np
import pytest
import torch
from torch import nn

from ml.metric.deployment import deployed
from ml.metric.networks import Convolution, NetworkSpec, build_network
from ml.patch_data import Standardisation, load_batch, open_patches

SPECS = {
    "published": NetworkSpec(),
    "convolutional": NetworkSpec(
        kind="convolutional",
        dimension=5,
        convolutions=(
            Convolution(filters=5, kernel=3, depth_multiplier=2),
            Convolution(filters=7, kernel=3, stride=2),
            Convolution(filters=6, kernel=1),
        ),
        hidden=(20, 12),
    ),
    "invariant": NetworkSpec(kind="invariant"),
}


def trained(spec: NetworkSpec, images: torch.Tensor) -> nn.Module:
    """A few real steps: weights, scales, shifts and running statistics all move."""
    network = build_network(spec, seed=2)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        z = network(images)
        optimiser.zero_grad()
        (z * torch.randn(z.shape, generator=generator)).sum().backward()
        optimiser.step()
    return network.eval()


@pytest.mark.parametrize("kind", SPECS)
def test_the_deployed_network_is_the_trained_one(run_folder, kind):
    patches = open_patches([run_folder])
    standardisation = Standardisation.of(patches)
    density = load_batch(patches, np.arange(len(patches)))
    images = torch.from_numpy(standardisation.apply(density))
    network = trained(SPECS[kind], images)

    with torch.inference_mode():
        expected = network(images)
    found = deployed(network, standardisation)(torch.from_numpy(density))

    assert float(expected.std(0).min()) > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", SPECS)
def test_the_deployed_network_has_no_normalisation_left(run_folder, kind):
    standardisation = Standardisation.of(open_patches([run_folder]))
    network = build_network(SPECS[kind], seed=0)

    small = deployed(network, standardisation)

    names = {type(part).__name__ for part in small.modules()}
    assert not {name for name in names if "Norm" in name or "Separable" in name}
    assert not any(value.requires_grad for value in small.parameters())
    # The separable layer's 594 parameters became 14 x 6 weights and 6 biases.
    if kind == "published":
        counted = sum(value.numel() for value in small.parameters())
        assert counted == (84 + 6) + (864 + 16) + (2304 + 16) + (9216 + 9)


@pytest.mark.parametrize("widths", [(6, 8), (5, 3)])
def test_the_compiled_features_are_those_of_torch(run_folder, widths):
    """Also on noise, where every node is the highest of its ring somewhere."""
    patches = open_patches([run_folder])
    network = build_network(NetworkSpec(kind="invariant", widths=widths), seed=1)
    features = deployed(network, Standardisation.of(patches)).features
    generator = torch.Generator().manual_seed(0)

    for density in (
        torch.from_numpy(load_batch(patches, np.arange(len(patches)))),
        0.25 + 0.1 * torch.randn((200, 14, 37, 37), generator=generator),
    ):
        expected = features.by_torch(density)
        assert float((expected.std(0) > 0).float().mean()) > 0.7
        torch.testing.assert_close(features.compiled(density), expected, rtol=1e-5, atol=1e-5)
    assert all(width % 2 == 0 for width in features._folded.orbits.shape[:2])


def test_deploying_leaves_the_trained_network_alone(run_folder):
    standardisation = Standardisation.of(open_patches([run_folder]))
    network = build_network(NetworkSpec(), seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    small = deployed(network, standardisation)
    with torch.no_grad():
        for value in small.parameters():
            value.zero_()

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_input_is_not_changed(run_folder):
    patches = open_patches([run_folder])
    density = torch.from_numpy(load_batch(patches, np.arange(5)))
    before = density.clone()

    deployed(build_network(NetworkSpec(), seed=0), Standardisation.of(patches))(density)

    assert torch.equal(density, before)


def test_another_kind_of_network_cannot_be_deployed(run_folder):
    standardisation = Standardisation.of(open_patches([run_folder]))

    with pytest.raises(TypeError, match="cannot deploy a Linear"):
        deployed(nn.Linear(3, 2), standardisation)
