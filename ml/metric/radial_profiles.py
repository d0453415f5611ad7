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
    nodes, starts = rings_of_profiles()
    fill_profiles(profiles.reshape(-1, 2 * RINGS), inner.reshape(-1, _SIDE**2), nodes, starts)
    return profiles


@njit(cache=True, nogil=True, error_model="numpy")
def fill_profiles(
    profiles: NDArray[np.float32],  # (images, 2 rings), written
    images: NDArray[np.float32],  # (images, nodes)
    nodes: NDArray[np.int64],  # nodes of the rings of the centre, then of each corner in turn
    starts: NDArray[np.int64],  # (5 rings + 1,) where each ring starts in `nodes`
) -> None:
    """The maximum of each image over each ring, averaged over the corners."""
    rings = profiles.shape[1] // 2
    for image in range(len(images)):
        for ring in range(5 * rings):
            greatest = images[image, nodes[starts[ring]]]
            for at in range(starts[ring] + 1, starts[ring + 1]):
                value = images[image, nodes[at]]
                if value > greatest:
                    greatest = value
            if ring < rings:
                profiles[image, ring] = greatest
                profiles[image, rings + ring] = 0.0
            else:
                profiles[image, rings + ring % rings] += np.float32(0.25) * greatest


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
