"""How fast the leaflet pressure may follow crowding: the filter R of `leaflet_pressure`, fitted.

R(k) = 1 / (1 + κ(k) (1 - E(k))) would make the pressure exactly implicit. It is followed from below
by a constant and blurs that the grid can apply locally.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from continuum.gaussian_filter import NARROWEST_SIGMA
from continuum.grid_transfer import BLUR_VARIANCE
from continuum.parameters import LeafletRepulsion, Lipids

Array = NDArray[Any]

CROWDED_MARGIN = 1.15  # leaflets may locally be this much denser than bulk
LARGEST_EXCESS = 1.05  # of the fit over R; a scheme with 1.3 R is still stable
LEAST_SHARE = 0.25  # of the smallest R; with none of it the pressure would never settle
_BLURS = (0.25, 0.5, 1.0)  # in units of the widest


@dataclass(frozen=True, slots=True, eq=False)
class PressureRelaxation:
    """Constants of the pressure's update; arrays of (2,) are of the inner and outer leaflet."""

    range_nm: float
    strength: Array  # (2,)   nm² kT: A times the Gaussian's integral
    modulus: Array  # (2,)   κ(0), excess over ideal compressibility modulus
    diffusivity_nm2_per_us: float  # of crowding, in E
    dt_us: float
    direct: Array  # (2,)   weight of the unblurred residual in R
    widths_nm: tuple[float, ...]  # standard deviations of the blurs in R
    weights: Array  # (2, widths)

    def decay(self, k: Array) -> Array:
        """E(k), (k,)."""
        result: Array = np.exp(-self.diffusivity_nm2_per_us * k**2 * self.dt_us)
        return result

    def pressure_per_crowding(self, k: Array) -> Array:
        """ψ(k) / ρ(k) in equilibrium, (k, 2), in nm² kT."""
        result: Array = np.exp(-0.5 * (k * self.range_nm) ** 2)[:, None] * self.strength
        return result

    def relaxation(self, k: Array) -> Array:
        """The fitted R(k), (k, 2)."""
        blurs = np.exp(-0.5 * (k[:, None] * np.array(self.widths_nm)) ** 2)
        result: Array = self.direct + blurs @ self.weights.T
        return result


def pressure_relaxation(
    lipids: Lipids,
    repulsion: LeafletRepulsion | None,
    spacing_nm: float,
    factor: int,
    dt_us: float,
) -> PressureRelaxation:
    """Fit R for a step `dt_us` on a grid whose blurs are applied `factor` times coarser.

    Without a repulsion the pressure is 0 and R 1. Raises ValueError where the repulsion is too
    narrow for the grid.
    """
    if repulsion is None:
        repulsion = LeafletRepulsion(range_nm=2 * spacing_nm, strength=np.zeros(2))
    s = repulsion.range_nm
    if s < NARROWEST_SIGMA * spacing_nm:
        raise ValueError(
            f"range_nm of the repulsion must be at least {NARROWEST_SIGMA * spacing_nm:.4g}"
            f" on a grid of {spacing_nm:.4g} nm, got {s}"
        )
    strength = repulsion.strength * 2 * math.pi * s**2
    stiffness, mobility = np.zeros(2), np.zeros(2)  # Σ w² n and Σ w² n D
    per_species = lipids.area_weight**2 * lipids.bulk_density
    np.add.at(stiffness, lipids.leaflet, per_species)
    np.add.at(mobility, lipids.leaflet, per_species * lipids.diffusivity)
    modulus = strength * stiffness
    diffusivity = float(np.max(mobility[stiffness > 0] / stiffness[stiffness > 0]))
    blur_nm = math.sqrt(2 * BLUR_VARIANCE) * 2 * spacing_nm if factor == 2 else 0.0
    # R = 1 / (1 + 2 κ D dt k²) at small k, which the widest blur follows.
    widest_nm = max(
        math.sqrt(2 * CROWDED_MARGIN * float(modulus.max()) * diffusivity * dt_us),
        6 * s,
        6 * blur_nm,
    )
    widths = [max(share * widest_nm, 1.5 * s) for share in _BLURS]
    if blur_nm:
        widths.insert(0, blur_nm)
    k = np.linspace(0.0, math.pi * math.sqrt(2) / spacing_nm, 128)
    bases = np.hstack([np.ones((len(k), 1)), np.exp(-0.5 * (k[:, None] * np.array(widths)) ** 2)])
    weights = np.empty((2, len(widths) + 1))
    for leaflet in range(2):
        target = implicit_relaxation(
            k, CROWDED_MARGIN * float(modulus[leaflet]), s, diffusivity, dt_us
        )
        weights[leaflet] = fit_from_below(target, bases)
    return PressureRelaxation(
        range_nm=s,
        strength=strength,
        modulus=modulus,
        diffusivity_nm2_per_us=diffusivity,
        dt_us=dt_us,
        direct=weights[:, 0],
        widths_nm=tuple(widths),
        weights=weights[:, 1:],
    )


def implicit_relaxation(
    wavenumber: Array,  # nm⁻¹
    modulus: float,  # κ(0)
    range_nm: float,
    diffusivity_nm2_per_us: float,
    dt_us: float,
) -> Array:
    """R(k) = 1 / (1 + κ(k) (1 - exp(-D k² dt))) of the exactly implicit pressure."""
    excess = modulus * np.exp(-0.5 * (wavenumber * range_nm) ** 2)
    decay = np.exp(-diffusivity_nm2_per_us * wavenumber**2 * dt_us)
    result: Array = 1 / (1 + excess * (1 - decay))
    return result


def fit_from_below(
    target: Array,  # (k,)   R(k)
    bases: Array,  # (k, terms)
) -> Array:
    """Weights, summing to 1, of bases whose sum F follows R from below as closely as can be.

    Minimises the mean of |F / R - 1| subject to LEAST_SHARE min R <= F <= LARGEST_EXCESS R: a mean,
    because wavenumbers the bases cannot follow must not spoil those that carry the error.
    """
    samples, terms = bases.shape
    ratio, one = bases / target[:, None], np.eye(samples)
    result = linprog(
        np.append(np.zeros(terms), np.ones(samples)),
        A_ub=np.vstack(
            [
                np.hstack([ratio, -one]),
                np.hstack([-ratio, -one]),
                np.hstack([ratio, 0 * one]),
                np.hstack([-bases, 0 * one]),
            ]
        ),
        b_ub=np.repeat([1.0, -1.0, LARGEST_EXCESS, -LEAST_SHARE * target.min()], samples),
        A_eq=np.append(np.ones(terms), np.zeros(samples))[None, :],
        b_eq=[1.0],
        bounds=[(None, None)] * terms + [(0, None)] * samples,
    )
    if not result.success:
        raise RuntimeError(f"the pressure's relaxation could not be fitted: {result.message}")
    weights: Array = result.x[:terms]
    return weights
