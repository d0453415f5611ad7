"""Lipid-lipid potentials of the smooth Gaussians of c_ij, on a grid up to twice as coarse.

V_i = -Σ_m Σ_j K^m_ij (exp(-r²/2 σ_m²) * Δn_j), membrane-physics 7.2 without the stiff repulsion
(that is `leaflet_pressure`). The potential of the step from t to t + dt is extrapolated to its
middle from the two latest evaluations (Adams-Bashforth 2).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import borrowing_kernel, inlined, kernel
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


@borrowing_kernel
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
    row: Array,
    ring: Array,
) -> None:
    """One pass over a species: its deviation from bulk on the coarse grid, its part of crowding.

    `row` (nx + 8,) and `ring` (8, nx / factor) are scratch.
    """
    rows, nx = density.shape[0] - 2 * halo, density.shape[1]
    real = crowding.dtype.type
    beyond = 3 if factor == 2 else 0
    for r in range(-beyond, rows + beyond):
        inner, count = row[4:], density[r + halo]
        for i in range(nx):
            inner[i] = quantum * real(count[i]) - bulk
        if 0 <= r < rows:
            crowded = crowding[r + crowding_halo]
            for i in range(nx):
                crowded[i] += weight * inner[i]
        if factor == 1:
            target = coarse[r + coarse_halo]
            for i in range(nx):
                target[i] = inner[i]
            continue
        for i in range(4):
            row[i] = row[nx + i]
            row[nx + 4 + i] = row[4 + i]
        coarsen_row(row, spline, ring[(r + 8) % 8])
        if r >= 4 and r % 2 == 0:
            gather_ring(ring, r + 8, spline, coarse[coarse_halo + (r - 4) // 2])


COUPLING_TILE = 64


@borrowing_kernel
def weighted_sum(
    fields: Array,  # (R, rows, width)
    row: int,
    weights: Array,  # (R,)
    out: Array,  # (width,)   overwritten
) -> None:
    """out = Σ_m weights[m] fields[m, row]."""
    count = weights.size
    for i in range(out.size):
        out[i] = 0
    for m in range(0, count - 1, 2):
        k0, k1, first, second = weights[m], weights[m + 1], fields[m, row], fields[m + 1, row]
        for i in range(out.size):
            out[i] += k0 * first[i] + k1 * second[i]
    if count % 2:
        k0, first = weights[count - 1], fields[count - 1, row]
        for i in range(out.size):
            out[i] += k0 * first[i]


@borrowing_kernel
def mix(
    fields: Array,  # (S, halo + rows + halo, nx)
    halo: int,
    matrix: Array,  # (R, S)
    mixed: Array,  # (R, halo + rows + halo, nx)   own rows overwritten
) -> None:
    """mixed = matrix fields, cell by cell."""
    for r in range(halo, fields.shape[1] - halo):
        for m in range(mixed.shape[0]):
            weighted_sum(fields, r, matrix[m], mixed[m, r])


@borrowing_kernel
def couple(
    filtered: Array,  # (R, halo + rows + halo, nx)   filtered along x, exchanged
    halo: int,
    taps: Array,
    matrix: Array,  # (S, R)
    potential: Array,  # (S, potential_halo + rows + potential_halo, nx)   -= matrix filtered
    potential_halo: int,
    smooth: Array,  # (R, 1, COUPLING_TILE)   scratch
    total: Array,  # (COUPLING_TILE,)   scratch
) -> None:
    """Filter along y and couple to the species, tile by tile of a row."""
    fields, padded_rows, nx = filtered.shape
    for r in range(halo, padded_rows - halo):
        out = r - halo + potential_halo
        for start in range(0, nx, COUPLING_TILE):
            width = min(COUPLING_TILE, nx - start)
            for m in range(fields):
                filter_tile(filtered[m], r, start, taps, smooth[m, 0, :width])
            for s in range(potential.shape[0]):
                weighted_sum(smooth, 0, matrix[s], total)
                target = potential[s, out, start : start + width]
                for i in range(width):
                    target[i] -= total[i]


def low_rank(matrix: Array) -> tuple[Array, Array] | None:
    """(S, R) and (R, S) whose product is a symmetric matrix; None where R would exceed S / 2."""
    value, vector = np.linalg.eigh(matrix)
    kept = np.abs(value) > 1e-12 * np.abs(value).max(initial=0.0)
    if 2 * kept.sum() > len(matrix):
        return None
    return vector[:, kept] * value[kept], np.ascontiguousarray(vector[:, kept].T)


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
            matrix = integral * coupling.matrix
            onto, mixing = low_rank(matrix) or (matrix, None)
            mixing = None if mixing is None else mixing.astype(dtype)
            self._terms.append((taps, onto.astype(dtype), mixing))
        self._reach = max((len(taps) - 1 for taps, _, _ in self._terms), default=0)
        self.halo = sweep_halo // self.factor + 3
        self.neighbour_rows = self.factor * max(self._reach, self.halo)
        self._bulk = lipids.bulk_density.astype(dtype)
        self._weight = lipids.area_weight.astype(dtype)
        self._leaflet = lipids.leaflet
        self._spline = np.array(WEIGHTS, dtype)
        species, rows, nx = lipids.count, self.slab.rows, self.slab.cells
        self._gathered = np.zeros((species, rows + 2 * self._reach, nx), dtype)
        # One coupling of full rank filters what was gathered in place.
        ranks = [onto.shape[1] for _, onto, _ in self._terms]
        in_place = len(ranks) == 1 and ranks[0] == species
        mixed = 0 if in_place else max(ranks, default=0)
        self._mixed = np.zeros((mixed, *self._gathered.shape[1:]), dtype)
        self._row = np.zeros(self.factor * nx + 8, dtype)
        self._ring = np.zeros((8, nx), dtype)
        self._smooth = np.zeros((species, 1, COUPLING_TILE), dtype)
        self._total = np.zeros(COUPLING_TILE, dtype)
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
                self._row,
                self._ring,
            )
        self.potential[:] = 0
        for taps, onto, mixing in self._terms:
            if mixing is not None:
                field = self._mixed[: onto.shape[1]]
                mix(self._gathered, self._reach, mixing, field)
            elif len(self._mixed):
                field = self._mixed
                np.copyto(field, self._gathered)
            else:
                field = self._gathered
            filter_along_x(field, self._reach, taps)
            self._world.fill_halo(field, self._reach)
            couple(
                field,
                self._reach,
                taps,
                onto,
                self.potential,
                self.halo,
                self._smooth,
                self._total,
            )
        extrapolate(self.potential, self.halo, self.previous, self.has_previous)
        self.has_previous = True
        self._world.fill_halo(self.potential, self.halo)
