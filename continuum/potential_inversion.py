"""Protein-lipid potentials from radial distribution functions: HNC (membrane-physics 4 and 7.7).

    u_i(r) = -ln g_i + Σ_j n_j (c_ij * h_j)

is the exact inverse of `radial_equilibrium`; h of lipids that were not measured (the outer leaflet)
is their response, solved jointly. Counts are smoothed as a ratio to what the present potentials
predict, so that smoothing has no bias where they are already right.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from continuum.parameters import INNER, Lipids, RadialPotentials
from continuum.radial_equilibrium import (
    RadialCorrelation,
    equilibrium_profiles,
    gaussian_kernel,
    potential_on,
)
from continuum.radial_potentials import limited, taper

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

BIN_NM = 0.02
NORMALISING_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionLimits:
    """What keeps noisy counts from making wild potentials (membrane-physics 7.7)."""

    smoothing_nm: float = 0.3
    taper_from_nm: float = 8.0
    taper_to_nm: float = 11.0
    least_g: float = 0.02
    largest_u_kt: float = 6.0
    least_counts: float = 200.0  # within `counted_within_nm`
    counted_within_nm: float = 3.0
    largest_change_kt: float = 0.3  # per update


def radial_distribution(counts: Array, bin_nm: float = BIN_NM) -> Array:
    """g (..., bins) from counts (..., bins) by exact shell areas, 1 over the last ten bins.

    Raises ValueError for negative or non-finite counts and where the last ten bins are empty.
    """
    _check_counts(counts)
    area = shell_areas(counts.shape[-1], bin_nm)
    tail = counts[..., -NORMALISING_BINS:].sum(axis=-1) / area[-NORMALISING_BINS:].sum()
    if not np.all(tail > 0):
        raise ValueError(f"the last {NORMALISING_BINS} bins must hold counts, some are empty")
    return np.asarray(counts / (area * tail[..., None]))


def shell_areas(bins: int, bin_nm: float = BIN_NM) -> Array:
    """Areas of the rings [b, b + 1] bin_nm, (bins,) nm²."""
    edges = np.arange(bins + 1, dtype=np.float64) * bin_nm
    return np.pi * np.diff(np.square(edges))


def inverse_potentials(
    operator: RadialCorrelation, g: Array, measured: Mask, u_other: Array
) -> tuple[Array, Array]:
    """The u (S, n) kT whose equilibrium has the profiles g (S, n) of the measured species.

    Species not `measured` (S,) keep the potential `u_other` (S, n) and respond; their rows of g are
    ignored. Returns u and the complete g. Raises ValueError where a measured g is not > 0.
    """
    if not np.all(g[measured] > 0):
        raise ValueError("a measured g must be > 0 everywhere")
    complete = equilibrium_profiles(operator, u_other, held=measured, held_g=g)
    mean_field = operator.apply(complete - 1.0)
    u = u_other.copy()
    u[measured] = mean_field[measured] - np.log(complete[measured])
    return u, complete


def smoothed_g(
    counts: Array, reference_g: Array, radii_nm: Array, limits: InversionLimits
) -> Array:
    """g (L, n) on `radii_nm` from counts (L, bins), given a reference g (L, n) on the same radii.

    counts / (what the reference would count), both blurred by one 2D Gaussian, multiplies the
    reference; the ratio is tapered to 1, and normalised to 1 over all bins beyond the start of the
    taper (an error of 1 % in all lipids at once costs 0.2 kT of u, and the last ten bins alone
    count that badly). 2D blurring weighs each bin by its area, so the few counts near r = 0 borrow
    from their surroundings. Raises ValueError where the bins beyond the taper are empty.
    """
    _check_counts(counts)
    bins = counts.shape[-1]
    centre_nm = _bin_centres(bins)
    expected = CubicSpline(radii_nm, reference_g, axis=1)(centre_nm) * shell_areas(bins)
    tail = centre_nm > limits.taper_from_nm
    per_expected = counts[:, tail].sum(axis=1) / expected[:, tail].sum(axis=1)
    if not np.all(per_expected > 0):
        raise ValueError(f"bins beyond {limits.taper_from_nm} nm must hold counts, some are empty")
    inside = radii_nm < limits.taper_to_nm
    blur = _blur(radii_nm[inside].tobytes(), bins, limits.smoothing_nm)
    ratio = np.ones_like(reference_g)
    ratio[:, inside] = (counts @ blur.T) / ((per_expected[:, None] * expected) @ blur.T)
    window = taper(radii_nm, limits.taper_from_nm, limits.taper_to_nm)
    return np.maximum(reference_g * (1.0 + window * (ratio - 1.0)), limits.least_g)


@lru_cache(maxsize=4)
def _blur(radii_nm: bytes, bins: int, smoothing_nm: float) -> Array:
    """The blurring kernel (radii, bins), the same for all counts of a campaign."""
    return gaussian_kernel(np.frombuffer(radii_nm), _bin_centres(bins), smoothing_nm)


def _bin_centres(bins: int) -> Array:
    return np.asarray((np.arange(bins, dtype=np.float64) + 0.5) * BIN_NM)


def updated_potentials(
    previous: RadialPotentials,
    counts: Array,
    lipids: Lipids,
    operator: RadialCorrelation,
    limits: InversionLimits | None = None,
) -> RadialPotentials:
    """Potentials one careful step closer to what reproduces the counts (states, inner, bins).

    A (state, lipid) with too few counts near the protein keeps its potential, and its profile is a
    response. Each other curve moves by at most `largest_change_kt`, the whole curve scaled so that
    it stays smooth. Raises ValueError for counts of another shape, negative or not finite.
    """
    limits = InversionLimits() if limits is None else limits
    inner = lipids.leaflet == INNER
    expected = (previous.u.shape[0], int(inner.sum()))
    least_bins = round(limits.taper_to_nm / BIN_NM)
    if counts.ndim != 3 or counts.shape[:2] != expected or counts.shape[2] < least_bins:
        raise ValueError(
            f"counts must be of shape {expected} and at least {least_bins} bins of {BIN_NM} nm, "
            f"got {counts.shape}"
        )
    _check_counts(counts)
    window = taper(previous.radii_nm, limits.taper_from_nm, limits.taper_to_nm)
    near = round(limits.counted_within_nm / BIN_NM)
    far = round(limits.taper_from_nm / BIN_NM)
    u = previous.u.copy()
    for state in range(len(u)):
        measured = inner.copy()
        measured[inner] = counts[state, :, :near].sum(axis=1) >= limits.least_counts
        measured[inner] &= counts[state, :, far:].sum(axis=1) > 0
        if not measured.any():
            continue
        change = _change(
            operator, previous, state, counts[state][measured[inner]], measured, limits
        )
        spline = CubicSpline(operator.radii_nm, change, axis=1, bc_type="clamped")
        u[state] = limited(u[state] + window * spline(previous.radii_nm), limits.largest_u_kt)
    return replace(previous, u=u)


def _change(
    operator: RadialCorrelation,
    previous: RadialPotentials,
    state: int,
    counts: Array,  # (measured species, bins)
    measured: Mask,
    limits: InversionLimits,
) -> Array:
    """The limited change of u (S, n) on the operator's radii; 0 for species not measured."""
    radii_nm = operator.radii_nm
    present = potential_on(radii_nm, previous, state)
    g = equilibrium_profiles(operator, present)
    g[measured] = smoothed_g(counts, g[measured], radii_nm, limits)
    inverse, _ = inverse_potentials(operator, g, measured, present)
    change = inverse - present
    window = taper(radii_nm, limits.taper_from_nm, limits.taper_to_nm)
    largest = np.max(np.abs(window * change), axis=1, keepdims=True)
    return np.asarray(
        change * np.minimum(1.0, limits.largest_change_kt / np.maximum(largest, 1e-12))
    )


def _check_counts(counts: Array) -> None:
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("counts must be finite and >= 0")
