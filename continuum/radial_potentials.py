"""Protein-lipid potentials u(r) as tables: Gaussian wells plus a core (membrane-physics 7.6).

u_si(r) = [a_si exp(-r² / 2 σ_i²) + E_si exp(-r² / 2 σ_core²)] taper(r)
"""

import numpy as np
from numpy.typing import NDArray

from continuum.parameters import RadialPotentials

Array = NDArray[np.float64]

LIMIT_KT = 6.0  # membrane-physics 7.7
SPACING_NM = 0.02  # of the tables, and the bin of the radial distribution functions


def taper(radii_nm: Array, from_nm: float, to_nm: float) -> Array:
    """1 up to `from_nm`, half a cosine down to 0 at `to_nm`; its slope is 0 at both ends."""
    if not 0 <= from_nm < to_nm:
        raise ValueError(f"a taper must start at >= 0 and before its end, got {from_nm} to {to_nm}")
    progress = np.clip((radii_nm - from_nm) / (to_nm - from_nm), 0.0, 1.0)
    # cos(π) + 1 is exactly 0 in floating point, so the table ends on a true zero
    return 0.5 * (1.0 + np.cos(np.pi * progress))


def limited(u: Array, limit_kt: float = LIMIT_KT) -> Array:
    """u clipped to |u| <= limit."""
    return np.clip(u, -limit_kt, limit_kt)


def table_radii_nm(cutoff_nm: float, dr_nm: float = SPACING_NM) -> Array:
    """0, dr, 2 dr, ... up to the first radius at or beyond the cutoff."""
    return np.arange(int(np.ceil(cutoff_nm / dr_nm - 1e-9)) + 1, dtype=np.float64) * dr_nm


def gaussian_potentials(
    *,
    amplitude_kt: Array,  # (states, S)
    range_nm: Array,  # (S,)
    core_kt: Array,  # (states, S)
    core_range_nm: float,
    taper_from_nm: float,
    cutoff_nm: float,
    dr_nm: float = SPACING_NM,
) -> RadialPotentials:
    """The tables of membrane-physics 7.6, tapered to 0 at the cutoff and limited to 6 kT.

    Raises ValueError where a range is not > 0 or the taper does not end at the cutoff.
    """
    if not (np.all(range_nm > 0) and core_range_nm > 0):
        raise ValueError(f"ranges must be > 0, got {range_nm.tolist()} and core {core_range_nm}")
    radii_nm = table_radii_nm(cutoff_nm, dr_nm)
    well = np.exp(-0.5 * (radii_nm / range_nm[:, None]) ** 2)  # (S, n_r)
    core = np.exp(-0.5 * (radii_nm / core_range_nm) ** 2)  # (n_r,)
    u = amplitude_kt[:, :, None] * well + core_kt[:, :, None] * core
    tapered = limited(u) * taper(radii_nm, taper_from_nm, cutoff_nm)
    return RadialPotentials(u=tapered, dr_nm=dr_nm, cutoff_nm=cutoff_nm)
