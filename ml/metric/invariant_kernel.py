"""What the invariant network sees of a patch before its dense layers, compiled for a CPU.

The same as `ProfilePooling` and `RingPooling` after the two convolutions of `InvariantNetwork`,
standardisation and batch norm folded in, patch by patch within the nearest caches. A symmetric
kernel of 3x3 has three weights, so the convolution sums neighbours first and multiplies after.
Filters go by twos, which load what they share once.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ml.metric.radial_profiles import (
    PROFILE_CHANNELS,
    fill_profiles,
    larger,
    steps_of_profiles,
)
from ml.metric.symmetric_pooling import steps_of_rings

Floats = NDArray[np.float32]
Steps = NDArray[np.uint64]
Starts = NDArray[np.int64]

_BLOCK = 432  # nodes of all filters and sums, which the first cache holds
_ALIGNED = 8  # numbers: rows of a multiple of these lie on the bounds of vector registers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldedConvolutions:
    """Both convolutions, of densities in nm⁻²; F₁ and F₂ filters, an odd one made even by zeros."""

    filters: int  # of the second, without zeros
    mixing: Floats  # (F₁, C)
    mixing_bias: Floats  # (F₁,)
    orbits: Floats  # (F₂, F₁, 3) of the centre, each edge and each corner of a kernel
    bias: Floats  # (F₂,)

    @classmethod
    def of(
        cls, mixing: Floats, mixing_bias: Floats, orbits: Floats, bias: Floats
    ) -> "FoldedConvolutions":
        """Of filters of any number."""
        return cls(
            filters=len(bias),
            mixing=_even(mixing, axes=1),
            mixing_bias=_even(mixing_bias, axes=1),
            orbits=_even(orbits, axes=2),
            bias=_even(bias, axes=1),
        )


def _even(x: Floats, axes: int) -> Floats:
    """Its first `axes` axes of even length, by zeros at their ends."""
    odd = [length % 2 if axis < axes else 0 for axis, length in enumerate(x.shape)]
    return np.pad(x, [(0, more) for more in odd])


def invariant_features(density: Floats, convolutions: FoldedConvolutions) -> Floats:
    """(N, C, n, n) nm⁻², C even, to (N, 8 x 38 + F₂ x 2 rings): profiles, then pooled maps."""
    count, channels, side, _ = density.shape
    profile_steps, profile_starts = steps_of_profiles()
    ring_steps, ring_starts = steps_of_rings(side - 2, side)
    profiles = 2 * PROFILE_CHANNELS * (len(profile_starts) - 1)
    pooled = 2 * convolutions.filters * (len(ring_starts) - 1)
    features = np.empty((count, profiles + pooled), np.float32)
    _fill_features(
        features,
        np.ascontiguousarray(density).reshape(count, channels, side**2),
        side,
        convolutions.filters,
        convolutions.mixing,
        convolutions.mixing_bias,
        convolutions.orbits,
        convolutions.bias,
        profile_steps,
        profile_starts,
        ring_steps,
        ring_starts,
    )
    return features


@njit(cache=True, nogil=True, error_model="numpy")
def _fill_features(
    features: Floats,  # (N, 8 x 38 + F₂ x 2 rings), written
    density: Floats,  # (N, C, n x n)
    side: int,  # n
    filters: int,  # F₂ without zeros; below, F₁ and F₂ are even
    mixing: Floats,  # (F₁, C)
    mixing_bias: Floats,  # (F₁,)
    orbits: Floats,  # (F₂, F₁, 3)
    bias: Floats,  # (F₂,)
    profile_steps: Steps,
    profile_starts: Starts,
    ring_steps: Steps,
    ring_starts: Starts,
) -> None:
    profiles, rings = 2 * (len(profile_starts) - 1), len(ring_starts) - 1
    length = _aligned((side - 2) * side - 2)
    mixed = np.zeros((len(mixing), _aligned(length + 2 * side + 2)), np.float32)
    around = np.empty((2, len(mixing), _BLOCK), np.float32)
    maps = np.empty((len(orbits), length), np.float32)
    for patch in range(len(density)):
        image = density[patch]
        first, second = np.split(features[patch], [PROFILE_CHANNELS * profiles])
        fill_profiles(
            first.reshape(PROFILE_CHANNELS, profiles),
            image[:PROFILE_CHANNELS],
            profile_steps,
            profile_starts,
        )
        _mix(mixed, image, mixing, mixing_bias)
        _convolve(maps, mixed, side, around, orbits, bias)
        _pool(second.reshape(filters, 2 * rings), maps, side, ring_steps, ring_starts)


@njit(cache=True, nogil=True, error_model="numpy")
def _aligned(numbers: int) -> int:
    return -(-numbers // _ALIGNED) * _ALIGNED


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _mix(
    mixed: Floats,  # (F₁, at least nodes), written
    image: Floats,  # (C, nodes)
    mixing: Floats,  # (F₁, C)
    bias: Floats,  # (F₁,)
) -> None:
    """max(0, M x + b), block by block of nodes, two filters and two channels at a time."""
    nodes = image.shape[1]
    for start in range(0, nodes, _BLOCK):
        block = slice(start, min(start + _BLOCK, nodes))
        for f in range(0, len(mixed), 2):
            first, second = mixed[f, block], mixed[f + 1, block]
            first[:], second[:] = bias[f], bias[f + 1]
            for c in range(0, len(image), 2):
                a, b = mixing[f, c], mixing[f, c + 1]
                p, q = mixing[f + 1, c], mixing[f + 1, c + 1]
                x, y = image[c, block], image[c + 1, block]
                for node in range(len(first)):
                    first[node] += a * x[node] + b * y[node]
                    second[node] += p * x[node] + q * y[node]
            _rectify(first)
            _rectify(second)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _convolve(
    maps: Floats,  # (F₂, at least (n - 2) n - 2), written: rows of n of which two mean nothing
    mixed: Floats,  # (F₁, at least maps' nodes + 2 n + 2)
    side: int,  # n
    around: Floats,  # (2, F₁, block), scratch: sums over the edges and the corners of kernels
    orbits: Floats,  # (F₂, F₁, 3)
    bias: Floats,  # (F₂,)
) -> None:
    """max(0, the symmetric convolution + bias), block by block of nodes, two filters at a time."""
    nodes, block = maps.shape[1], around.shape[2]
    for start in range(0, nodes, block):
        length = min(block, nodes - start)
        for c in range(len(mixed)):
            above = mixed[c, start : start + length + 2]
            middle = mixed[c, start + side : start + side + length + 2]
            below = mixed[c, start + 2 * side : start + 2 * side + length + 2]
            edges, corners = around[0, c], around[1, c]
            for j in range(length):
                edges[j] = (above[j + 1] + below[j + 1]) + (middle[j] + middle[j + 2])
                corners[j] = (above[j] + below[j]) + (above[j + 2] + below[j + 2])
        for f in range(0, len(maps), 2):
            first, second = maps[f, start : start + length], maps[f + 1, start : start + length]
            first[:], second[:] = bias[f], bias[f + 1]
            for c in range(len(mixed)):
                a0, a1, a2 = orbits[f, c, 0], orbits[f, c, 1], orbits[f, c, 2]
                b0, b1, b2 = orbits[f + 1, c, 0], orbits[f + 1, c, 1], orbits[f + 1, c, 2]
                middle = mixed[c, start + side + 1 : start + side + 1 + length]
                edges, corners = around[0, c], around[1, c]
                for j in range(length):
                    first[j] += a0 * middle[j] + a1 * edges[j] + a2 * corners[j]
                    second[j] += b0 * middle[j] + b1 * edges[j] + b2 * corners[j]
            _rectify(first)
            _rectify(second)


@njit(cache=True, nogil=True, error_model="numpy")
def _rectify(x: Floats) -> None:
    for j in range(len(x)):
        x[j] = larger(x[j], np.float32(0.0))


@njit(cache=True, nogil=True, error_model="numpy")
def _pool(
    pooled: Floats,  # (F₂, 2 rings), written
    maps: Floats,  # (at least F₂, nodes), rows of n
    side: int,  # n
    steps: Steps,  # (M, 2) of `steps_of_rings`
    starts: Starts,  # (rings + 1,)
) -> None:
    """The mean and the maximum over each ring."""
    rings = len(starts) - 1
    middle = np.uint64((side // 2 - 1) * (side + 1))
    for f in range(len(pooled)):
        x = maps[f]
        pooled[f, 0] = pooled[f, rings] = x[middle]
        for ring in range(1, rings):
            total_a = total_b = total_c = total_d = np.float32(0.0)
            a = b = c = d = np.float32(0.0)
            for at in range(starts[ring], starts[ring + 1]):
                p, q = steps[at, 0], steps[at, 1]
                total_a, a = total_a + x[middle + p], larger(a, x[middle + p])
                total_b, b = total_b + x[middle + q], larger(b, x[middle + q])
                total_c, c = total_c + x[middle - p], larger(c, x[middle - p])
                total_d, d = total_d + x[middle - q], larger(d, x[middle - q])
            nodes = np.float32(4 * (starts[ring + 1] - starts[ring]))
            pooled[f, ring] = ((total_a + total_c) + (total_b + total_d)) / nodes
            pooled[f, rings + ring] = larger(larger(a, b), larger(c, d))
