"""Radial profiles against their definition, node by node, and their symmetries."""

import math

import numpy as np
import pytest

from ml.metric import radial_profiles
from ml.metric.symmetries import apply_symmetry

RNG = np.random.default_rng(5)


def defined(density: np.ndarray) -> np.ndarray:
    """Section 2.2.3 in plain loops: γ(r) = max over nodes with r = floor(distance + 1/2)."""
    profiles = np.zeros((len(density), 8, 38), np.float64)
    for patch in range(len(density)):
        for channel in range(8):
            for reference in [(18, 18), (0, 0), (0, 36), (36, 0), (36, 36)]:
                rings = [-math.inf] * 19
                for i in range(37):
                    for j in range(37):
                        distance = math.sqrt((i - reference[0]) ** 2 + (j - reference[1]) ** 2)
                        ring = math.floor(distance + 0.5)
                        if ring < 19:
                            rings[ring] = max(rings[ring], float(density[patch, channel, i, j]))
                if reference == (18, 18):
                    profiles[patch, channel, :19] = rings
                else:
                    profiles[patch, channel, 19:] += np.array(rings) / 4
    return profiles


def test_profiles_are_those_of_the_definition():
    density = RNG.normal(0.3, 0.1, (2, 14, 37, 37)).astype(np.float32)

    profiles = radial_profiles(density)

    assert profiles.shape == (2, 8, 38)
    assert profiles.dtype == np.float32
    expected = defined(density)
    np.testing.assert_array_equal(profiles[:, :, :19], expected[:, :, :19])
    np.testing.assert_allclose(profiles[:, :, 19:], expected[:, :, 19:], rtol=3e-7)


@pytest.mark.parametrize("g", range(8))
def test_no_symmetry_of_the_square_changes_a_profile(g):
    density = RNG.normal(0.3, 0.1, (3, 14, 37, 37)).astype(np.float32)

    moved = radial_profiles(apply_symmetry(density, g))

    np.testing.assert_allclose(moved, radial_profiles(density), rtol=3e-7)


def test_a_cone_gives_its_own_slope():
    i, j = np.mgrid[:37, :37]
    cone = np.hypot(i - 18, j - 18).astype(np.float32)

    centre = radial_profiles(np.broadcast_to(cone, (1, 8, 37, 37)))[0, 0, :19]

    # The largest distance that rounds to r lies within half a node of it.
    assert np.all(np.abs(centre - np.arange(19)) <= 0.5)
    assert np.all(np.diff(centre) > 0)


def test_a_single_bright_node_shows_in_its_rings_only():
    density = np.zeros((1, 8, 37, 37), np.float32)
    density[0, 2, 18, 28] = 4.0  # ten nodes from the centre, outside every corner's rings
    density[0, 5, 3, 0] = 8.0  # three nodes from one corner

    profiles = radial_profiles(density)

    expected = np.zeros((8, 38), np.float32)
    expected[2, 10] = 4.0
    expected[5, 19 + 3] = 2.0
    np.testing.assert_array_equal(profiles[0], expected)


def test_only_the_inner_leaflet_counts():
    density = RNG.normal(0.3, 0.1, (2, 14, 37, 37)).astype(np.float32)
    other = density.copy()
    other[:, 8:] = 0.0

    np.testing.assert_array_equal(radial_profiles(density), radial_profiles(other))


def test_patches_of_any_batch_and_any_memory_layout_give_the_same():
    density = RNG.normal(0.3, 0.1, (5, 14, 37, 37)).astype(np.float16)
    whole = radial_profiles(density)

    apart = np.concatenate([radial_profiles(density[n : n + 1]) for n in range(5)])
    reversed_in_memory = radial_profiles(np.asfortranarray(density))

    np.testing.assert_array_equal(apart, whole)
    np.testing.assert_array_equal(reversed_in_memory, whole)
    assert radial_profiles(density[:0]).shape == (0, 8, 38)


@pytest.mark.parametrize("shape", [(14, 37, 37), (1, 7, 37, 37), (1, 14, 36, 37)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="density must be"):
        radial_profiles(np.zeros(shape, np.float32))
