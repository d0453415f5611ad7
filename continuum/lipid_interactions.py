"""Lipid-lipid potentials of the smooth Gaussians of c_ij, on a grid up to twice as coarse.

V_i = -Σ_m Σ_j K^m_ij (exp(-r²/2 σ_m²) * Δn_j), membrane-physics 7.2 without the stiff repulsion
(that is `leaflet_pressure`). The potential of the step from t to t + dt is extrapolated to its
middle from the two latest evaluations (Adams-Bashforth 2).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import inlined, kernel
from continuum.decomposition import Slab
from continuum.gaussian_filter import (
    NARROWEST_SIGMA,
    filter_along_x,
    gaussian_taps,
)
from continuum.grid_transfer import BLUR_VARIANCE, WEIGHTS, coarsen_row, gather_ring
from continuum.halo import World
from continuum.parameters import Correlation, Lipids

Array = NDArray[Any]


def coarsening_factor(correlation: Correlation, spacing_nm: float) -> int:
    """2 where every smooth Gaussian can be written as P G P^T on a grid twice as coarse, else 1."""
    wide_enough = all(
        coarse_sigma(coupling.range_nm, spacing_nm, 2) is not None
        for coupling in correlation.couplings
    )
    return 2 if wide_enough else 1


def coarse_sigma(range_nm: float, spacing_nm: float, factor: int) -> float | None:
    """Standard deviation of G, in coarse spacings, so that P G P^T has `range_nm`; None if < 0."""
    blur = 2 * BLUR_VARIANCE if factor == 2 else 0.0
    variance = (range_nm / (factor * spacing_nm)) ** 2 - blur
    return math.sqrt(variance) if variance >= NARROWEST_SIGMA**2 else None


@kernel
def gather(
    density: Array,  # (halo + rows + halo, nx)   quanta of one species, exchanged, halo >= 4
    halo: int,
    quantum: Any,
    bulk: Any,  # nm⁻²
    weight: Any,  # w_i
    factor: int,
    spline: Array,
    coarse: Array,  # (coarse_halo + .. , nx / factor)   Δn on the coarse grid, overwritten
    coarse_halo: int,
    crowding: Array,  # (crowding_halo + rows + crowding_halo, nx)   += w_i Δn on own rows
    crowding_halo: int,
) -> None:
    """One pass over a species: its deviation from bulk on the coarse grid, its part of crowding."""
    rows, nx = density.shape[0] - 2 * halo, density.shape[1]
    width = coarse.shape[1]
    real = crowding.dtype.type
    row = np.empty(nx + 8, crowding.dtype)
    ring = np.empty((8, width), crowding.dtype)
    beyond = 3 if factor == 2 else 0
    for r in range(-beyond, rows + beyond):
        for i in range(nx):
            row[i + 4] = quantum * real(density[r + halo, i]) - bulk
        if 0 <= r < rows:
            for i in range(nx):
                crowding[r + crowding_halo, i] += weight * row[i + 4]
        if factor == 1:
            for i in range(nx):
                coarse[r + coarse_halo, i] = row[i + 4]
            continue
        for i in range(4):
            row[i] = row[nx + i]
            row[nx + 4 + i] = row[4 + i]
        coarsen_row(row, spline, ring[(r + 8) % 8])
        if r >= 4 and r % 2 == 0:
            gather_ring(ring, r + 8, spline, coarse[coarse_halo + (r - 4) // 2])


COUPLING_TILE = 64


@kernel
def couple(
    filtered: Array,  # (S, halo + rows + halo, nx)   filtered along x, exchanged
    halo: int,
    taps: Array,
    matrix: Array,  # (S, S)   K times the Gaussian's integral
    potential: Array,  # (S, potential_halo + rows + potential_halo, nx)   -= K filtered
    potential_halo: int,
) -> None:
    """Filter along y and couple the species, tile by tile of a row."""
    species, padded_rows, nx = filtered.shape
    smooth = np.zeros((species, COUPLING_TILE), filtered.dtype)
    total = np.empty(COUPLING_TILE, filtered.dtype)
    for r in range(halo, padded_rows - halo):
        out = r - halo + potential_halo
        for start in range(0, nx, COUPLING_TILE):
            width = min(COUPLING_TILE, nx - start)
            for s in range(species):
                filter_tile(filtered[s], r, start, taps, smooth[s, :width])
            for s in range(species):
                total[:] = 0
                for t in range(0, species - 1, 2):
                    k0, k1 = matrix[s, t], matrix[s, t + 1]
                    for i in range(COUPLING_TILE):
                        total[i] += k0 * smooth[t, i] + k1 * smooth[t + 1, i]
                if species % 2:
                    k0 = matrix[s, species - 1]
                    for i in range(COUPLING_TILE):
                        total[i] += k0 * smooth[species - 1, i]
                target = potential[s, out, start : start + width]
                for i in range(width):
                    target[i] -= total[i]


@inlined
def filter_tile(field: Array, row: int, start: int, taps: Array, out: Array) -> None:
    """The y pass of a Gaussian filter on out.size cells of one row."""
    middle = field[row, start:]
    for i in range(out.size):
        out[i] = taps[0] * middle[i]
    for t in range(1, taps.size):
        tap = taps[t]
        before, after = field[row - t, start:], field[row + t, start:]
        for i in range(out.size):
            out[i] += tap * (before[i] + after[i])


@kernel
def extrapolate(
    latest: Array,  # (S, halo + rows + halo, nx)   V at t; becomes 1.5 V(t) - 0.5 V(t - dt)
    halo: int,
    previous: Array,  # (S, rows, nx)   V(t - dt); becomes V(t)
    has_previous: bool,
) -> None:
    """Adams-Bashforth extrapolation to t + dt/2; to t itself on the first step."""
    species, rows, nx = previous.shape
    one_half, half = latest.dtype.type(1.5), latest.dtype.type(0.5)
    for s in range(species):
        for r in range(rows):
            for i in range(nx):
                now = latest[s, r + halo, i]
                if has_previous:
                    latest[s, r + halo, i] = one_half * now - half * previous[s, r, i]
                previous[s, r, i] = now


class CouplingPotentials:
    """V_i of the smooth Gaussians on one slab, and the crowding that drives the pressure."""

    def __init__(
        self,
        *,
        lipids: Lipids,
        correlation: Correlation,
        slab: Slab,
        world: World,
        spacing_nm: float,
        sweep_halo: int,
        dtype: Any,
    ) -> None:
        """Raises ValueError where a Gaussian is too narrow for the grid."""
        self.factor = coarsening_factor(correlation, spacing_nm)
        self.slab = slab.coarsened(self.factor)
        self._world, self._dtype = world, np.dtype(dtype)
        self._terms = []
        for coupling in correlation.couplings:
            sigma = coarse_sigma(coupling.range_nm, spacing_nm, self.factor)
            if sigma is None:
                raise ValueError(
                    f"range_nm of a coupling must be at least {NARROWEST_SIGMA * spacing_nm:.4g}"
                    f" on a grid of {spacing_nm:.4g} nm, got {coupling.range_nm}"
                )
            integral = 2 * math.pi * coupling.range_nm**2
            taps = gaussian_taps(sigma).astype(dtype)
            self._terms.append((taps, (integral * coupling.matrix).astype(dtype)))
        self._reach = max((len(taps) - 1 for taps, _ in self._terms), default=0)
        self.halo = sweep_halo // self.factor + 3
        self.neighbour_rows = self.factor * max(self._reach, self.halo)
        self._bulk = lipids.bulk_density.astype(dtype)
        self._weight = lipids.area_weight.astype(dtype)
        self._leaflet = lipids.leaflet
        self._spline = np.array(WEIGHTS, dtype)
        species, rows, nx = lipids.count, self.slab.rows, self.slab.cells
        self._gathered = np.zeros((species, rows + 2 * self._reach, nx), dtype)
        self._scratch = np.empty_like(self._gathered) if len(self._terms) > 1 else None
        self.potential = np.zeros((species, rows + 2 * self.halo, nx), dtype)
        self.previous = np.zeros((species, rows, nx), dtype)
        self.has_previous = False

    def refresh(
        self,
        density: Array,  # (S, halo + rows + halo, nx)   quanta, exchanged
        halo: int,
        quantum: Any,
        crowding: Array,  # (2, crowding_halo + rows + crowding_halo, nx)   overwritten
        crowding_halo: int,
    ) -> None:
        """Bring `potential` to the middle of the coming step and `crowding` to its start."""
        crowding[:] = 0
        for s in range(len(density)):
            gather(
                density[s],
                halo,
                quantum,
                self._bulk[s],
                self._weight[s],
                self.factor,
                self._spline,
                self._gathered[s],
                self._reach,
                crowding[self._leaflet[s]],
                crowding_halo,
            )
        self.potential[:] = 0
        for taps, matrix in self._terms:
            field = self._gathered
            if self._scratch is not None:
                np.copyto(self._scratch, self._gathered)
                field = self._scratch
            filter_along_x(field, self._reach, taps)
            self._world.fill_halo(field, self._reach)
            couple(field, self._reach, taps, matrix, self.potential, self.halo)
        extrapolate(self.potential, self.halo, self.previous, self.has_previous)
        self.has_previous = True
        self._world.fill_halo(self.potential, self.halo)
