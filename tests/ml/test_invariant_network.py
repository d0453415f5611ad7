"""The invariant network: the same answer under every symmetry of the square, and not a constant."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ml.metric.invariant_network import SymmetricConvolution
from ml.metric.networks import NetworkSpec, build_network
from ml.metric.radial_profiles import radial_profiles
from ml.metric.symmetric_pooling import ProfilePooling, RingPooling, orbit_labels
from ml.metric.symmetries import SYMMETRIES, apply_symmetry

SPECS = [
    NetworkSpec(kind="invariant"),
    NetworkSpec(kind="invariant", dimension=5, widths=(5, 7), hidden=(24, 16)),
]


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 14, 37, 37, generator=torch.Generator().manual_seed(seed))


def trained_a_little(spec: NetworkSpec) -> nn.Module:
    """Weights and statistics that no symmetry of the initial state could hide behind."""
    network = build_network(spec, seed=3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(4):
        z = network(images(24, seed=step))
        optimiser.zero_grad()
        (z * torch.randn(z.shape, generator=torch.Generator().manual_seed(step))).sum().backward()
        optimiser.step()
    return network


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("g", SYMMETRIES)
def test_no_symmetry_changes_the_embedding(spec, g):
    network = trained_a_little(spec).eval()
    x = images(6, seed=9)

    z, moved = network(x).detach(), network(apply_symmetry(x, g)).detach()

    scale = float((z - z.mean(0)).norm(dim=1).mean())
    assert float((moved - z).norm(dim=1).max()) < 1e-5 * scale


@pytest.mark.parametrize("g", SYMMETRIES)
def test_in_double_precision_the_invariance_is_that_of_double_precision(g):
    network = trained_a_little(SPECS[0]).double().eval()
    x = images(4, seed=9).double()

    torch.testing.assert_close(network(apply_symmetry(x, g)), network(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("g", SYMMETRIES)
def test_training_takes_the_same_step_whichever_way_patches_lie(g):
    network = build_network(SPECS[0], seed=3).double().train()
    x = images(8, seed=9).double()
    weight = torch.randn(8, 9, generator=torch.Generator().manual_seed(1)).double()

    gradients = [
        torch.autograd.grad((network(batch) * weight).sum(), list(network.parameters()))
        for batch in (x, apply_symmetry(x, g))
    ]

    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_different_patches_get_different_embeddings():
    network = trained_a_little(SPECS[0]).eval()

    z = network(images(32, seed=9)).detach()

    assert float(torch.pdist(z).min()) > 0.05 * float(torch.pdist(z).mean())
    assert torch.linalg.matrix_rank(z - z.mean(0)) == 9


def test_every_channel_and_every_node_counts():
    network = trained_a_little(SPECS[0]).eval()
    x = images(4, seed=9).requires_grad_()

    network(x).square().sum().backward()

    assert float(x.grad.abs().amax((0, 2, 3)).min()) > 0
    assert float(x.grad.abs().amax((0, 1)).min()) > 0


def test_the_place_of_a_protein_matters_to_the_network():
    """A pooled network must still tell a blob at the centre from one near the edge."""
    network = trained_a_little(SPECS[0]).eval()
    x = torch.zeros(2, 14, 37, 37)
    x[0, 6, 16:21, 16:21] = 3.0
    x[1, 6, 2:7, 16:21] = 3.0

    z = network(x).detach()

    assert float((z[0] - z[1]).norm()) > 0.01 * float(z.norm())


def test_a_symmetric_convolution_turns_its_map_with_the_image():
    layer = SymmetricConvolution(3, 4, kernel=5, stride=2)
    x = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(0))

    for g in SYMMETRIES:
        torch.testing.assert_close(
            layer(apply_symmetry(x, g)), apply_symmetry(layer(x), g), rtol=1e-5, atol=1e-5
        )
        assert torch.equal(apply_symmetry(layer.weight, g), layer.weight)


@pytest.mark.parametrize(("side", "orbits"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 6), (8, 10)])
def test_orbits_are_those_of_the_group(side, orbits):
    labels = orbit_labels(side)

    assert sorted(np.unique(labels)) == list(range(orbits))
    for g in SYMMETRIES:
        np.testing.assert_array_equal(apply_symmetry(labels, g), labels)
    for label in range(orbits):
        row, column = np.argwhere(labels == label)[0]
        one = np.zeros((side, side))
        one[row, column] = 1
        reached = np.max([apply_symmetry(one, g) for g in SYMMETRIES], axis=0)
        np.testing.assert_array_equal(reached > 0, labels == label)


@pytest.mark.parametrize("side", [1, 5, 35])
def test_pooling_gives_the_mean_and_the_maximum_of_each_ring(side):
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)).double()
    middle = side // 2
    rings: dict[float, list[torch.Tensor]] = {}
    for row in range(side):
        for column in range(side):
            distance = math.hypot(row - middle, column - middle)
            ring = rings.setdefault(distance if distance < 3 else int(distance + 0.5), [])
            ring.append(x[:, :, row, column])

    pooled = RingPooling(side).double()(x).view(2, 3, 2, len(rings))

    for ring, distance in enumerate(sorted(rings)):
        values = torch.stack(rings[distance])
        torch.testing.assert_close(pooled[:, :, 0, ring], values.mean(0), rtol=1e-6, atol=1e-6)
        assert torch.equal(pooled[:, :, 1, ring], values.amax(0))


def test_profile_pooling_gives_the_radial_profiles():
    x = images(3)

    pooled = ProfilePooling()(x)

    expected = torch.from_numpy(radial_profiles(x.numpy())).flatten(1)
    torch.testing.assert_close(pooled, expected, rtol=1e-6, atol=1e-6)


def test_what_no_training_patch_set_off_is_not_amplified():
    """A campaign's patches may lie tens of times farther from the mean than those of training."""
    network = build_network(SPECS[0], seed=3).train()
    x, far = images(48), 30 * images(48)
    for norm in (*network.norms, network.pooled_norm, *network.head.norms):
        norm.momentum = 1.0
    silent = network.head.linears[0]
    with torch.no_grad():
        inputs = []
        hook = silent.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        network(x)
        hook.remove()
        silent.bias[:8] = -silent(inputs[0])[:, :8].amax(0) - 1.0
        network(x)
        network.eval()
        near, away = torch.pdist(network(x)).median(), torch.pdist(network(far)).median()
    assert 10 < away / near < 90


def test_maps_that_no_training_patch_set_off_are_not_amplified():
    network = build_network(SPECS[0], seed=3).train()
    x, far = images(48), 30 * images(48)
    for norm in (*network.norms, network.pooled_norm, *network.head.norms):
        norm.momentum = 1.0
    silent, inputs = network.convolutions[1], []
    hook = silent.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        network(x)
        hook.remove()
        silent.bias[:] = -silent(inputs[0]).amax((0, 2, 3)) - 1.0
        network(x)
        network.eval()
        near, away = torch.pdist(network(x)).median(), torch.pdist(network(far)).median()
    assert 10 < away / near < 120
