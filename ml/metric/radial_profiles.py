"""Radial profiles of lipid density (Bhatia et al. 2022, section 2.2.3 and appendix).

γ(c, r) is the maximum density of channel c over the nodes whose distance from a reference node,
rounded half up, is r < 19. Υ joins the profile around the centre and the mean of the four around
the corners; rounding keeps the latter inside their quadrants. Υ does not change under the eight
symmetries of the square.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RINGS = 19
PROFILE_CHANNELS = 8
_CENTRE = RINGS - 1
_SIDE = 2 * RINGS - 1
_AT_ONCE = 128


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
    profiles = np.empty((len(density), PROFILE_CHANNELS, 2 * RINGS), np.float32)
    node, starts = _rings()
    for first in range(0, len(density), _AT_ONCE):
        block = density[first : first + _AT_ONCE, :PROFILE_CHANNELS].astype(np.float32)
        flat = block.reshape(-1, _SIDE**2)
        rings = np.maximum.reduceat(flat[:, node], starts, axis=1).reshape(-1, 5, RINGS)
        both = np.stack((rings[:, 0], rings[:, 1:].mean(axis=1)), axis=1)
        profiles[first : first + _AT_ONCE] = both.reshape(len(block), PROFILE_CHANNELS, -1)
    return profiles


@lru_cache(maxsize=1)
def _rings() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat nodes of the 19 rings of the centre and of each corner, and where each ring starts."""
    row, column = np.mgrid[:_SIDE, :_SIDE]
    last = _SIDE - 1
    nodes: list[NDArray[np.intp]] = []
    for i, j in ((_CENTRE, _CENTRE), (0, 0), (0, last), (last, 0), (last, last)):
        distance = np.floor(np.hypot(row - i, column - j) + 0.5).ravel()
        nodes += [np.flatnonzero(distance == ring) for ring in range(RINGS)]
    starts = np.concatenate(([0], np.cumsum([len(ring) for ring in nodes])[:-1]))
    return np.concatenate(nodes), starts.astype(np.intp)
