"""Radial profiles of lipid density (Bhatia et al. 2022, section 2.2.3 and appendix).

γ(c, r) is the maximum density of channel c over the nodes whose distance from a reference node,
rounded half up, is r < 19. Υ joins the profile around the centre and the mean of the four around
the corners; rounding keeps the latter inside their quadrants. Υ does not change under the eight
symmetries of the square.
"""

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

RINGS = 19
PROFILE_CHANNELS = 8
_SIDE = 2 * RINGS - 1


def radial_profiles(density: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, >= 8, 37, 37) to Υ (N, 8, 38) float32: rings of the centre, then those of the corners.

    The first eight channels are those of the inner leaflet. Υ has the unit of `density`; the metric
    compares Υ of standardised densities (`Standardisation.apply_to_profiles` of those in nm⁻²).
    Raises ValueError for another shape.
    """
    if (
        density.ndim != 4
        or density.shape[1] < PROFILE_CHANNELS
        or density.shape[2:] != (_SIDE,) * 2
    ):
        raise ValueError(
            f"density must be (N, at least {PROFILE_CHANNELS}, {_SIDE}, {_SIDE}), "
            f"got {density.shape}"
        )
    inner = np.ascontiguousarray(density[:, :PROFILE_CHANNELS], dtype=np.float32)
    profiles = np.empty((len(inner), PROFILE_CHANNELS, 2 * RINGS), np.float32)
    steps, starts = steps_of_profiles()
    fill_profiles(profiles.reshape(-1, 2 * RINGS), inner.reshape(-1, _SIDE**2), steps, starts)
    return profiles


@njit(cache=True, nogil=True, error_model="numpy")
def fill_profiles(
    profiles: NDArray[np.float32],  # (images, 2 rings), written
    images: NDArray[np.float32],  # (images, n x n), n = 2 rings - 1
    steps: NDArray[np.uint64],  # (M, 2) of `steps_of_profiles`
    starts: NDArray[np.int64],  # (rings + 1,)
) -> None:
    """The maximum of each image over each ring: of the centre, then the mean of the corners'."""
    rings = len(starts) - 1
    last = np.uint64(images.shape[1] - 1)
    right = np.uint64(2 * rings - 2)
    middle, left = last // np.uint64(2), last - right
    for image in range(len(images)):
        x = images[image]
        for ring in range(rings):
            p, q = steps[starts[ring], 0], steps[starts[ring], 1]
            a, b, c, d = x[p], x[right + q], x[left - q], x[last - p]
            e, f, g, h = x[middle + p], x[middle + q], x[middle - q], x[middle - p]
            for at in range(starts[ring] + 1, starts[ring + 1]):
                p, q = steps[at, 0], steps[at, 1]
                a, b = larger(a, x[p]), larger(b, x[right + q])
                c, d = larger(c, x[left - q]), larger(d, x[last - p])
                e, f = larger(e, x[middle + p]), larger(f, x[middle + q])
                g, h = larger(g, x[middle - q]), larger(h, x[middle - p])
            profiles[image, ring] = larger(larger(e, f), larger(g, h))
            profiles[image, rings + ring] = np.float32(0.25) * ((a + b) + (c + d))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def larger(a: np.float32, b: np.float32) -> np.float32:
    """The larger of two numbers, in one instruction, which `max` is not: it heeds NaN."""
    return a if a > b else b


@lru_cache(maxsize=1)
def steps_of_profiles() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(M, 2) steps in flat images, ring by ring, and where each ring starts.

    To a rows down and b columns right, then left, of a reference node: a n + b and a n - b, modulo
    2⁶⁴. Numba asks of every signed index whether it counts from the end.
    """
    row, column = np.mgrid[:RINGS, :RINGS].reshape(2, -1)
    distance = np.floor(np.hypot(row, column) + 0.5)
    order = np.argsort(distance, kind="stable")[: np.count_nonzero(distance < RINGS)]
    starts = np.searchsorted(distance[order], np.arange(RINGS + 1))
    steps = np.stack([row * _SIDE + column, row * _SIDE - column], axis=1)[order]
    return steps.astype(np.int64).view(np.uint64), starts.astype(np.int64)


@lru_cache(maxsize=1)
def rings_of_profiles() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat nodes of the rings of the centre and of each corner, and where each ring starts."""
    row, column = np.mgrid[:_SIDE, :_SIDE]
    middle, last = RINGS - 1, _SIDE - 1
    nodes: list[NDArray[np.intp]] = []
    for i, j in ((middle, middle), (0, 0), (0, last), (last, 0), (last, last)):
        distance = np.floor(np.hypot(row - i, column - j) + 0.5).ravel()
        nodes += [np.flatnonzero(distance == ring) for ring in range(RINGS)]
    starts = np.concatenate(([0], np.cumsum([len(ring) for ring in nodes])))
    return np.concatenate(nodes).astype(np.int64), starts.astype(np.int64)
