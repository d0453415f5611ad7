"""The stiff part of the lipid interactions: one pressure per leaflet that resists compression.

The repulsion -A w_i w_j exp(-r²/2 s²) of membrane-physics 7.2 acts on lipid i as w_i ψ with
ψ = A exp(-r²/2 s²) * Σ_j w_j Δn_j, the same field for all lipids of a leaflet. It relaxes crowding
at up to 3,000 /µs, so an explicit step is limited to 0.7 ns, while all that matters beyond that
time is the pressure it settles to. ψ is therefore advanced implicitly: with κ(k) the ratio of
excess to ideal compressibility modulus and E(k) = exp(-D k² dt) the decay of crowding in a step,

    ψ(t+dt) = ψ(t) + R [ A g * (ρ + E (ρ - ρ_previous) - (1 - E) δv) - ψ(t) ],
    R(k) = 1 / (1 + κ (1 - E)),

which for R exact is the backward Euler pressure given the sources of the last step, with the
change δv of the proteins' potentials anticipated. Any R between 0 and 1.3 / (1 + κ (1 - E)) is
stable and leaves the steady state ψ = A g * ρ untouched, so R is a sum of three blurs fitted to it
from below, and the whole update is local: no linear solve, no global transform.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import kernel
from continuum.decomposition import Slab
from continuum.gaussian_filter import (
    NARROWEST_SIGMA,
    filter_along_x,
    filter_column_row,
    gaussian_taps,
)
from continuum.grid_transfer import (
    BLUR_VARIANCE,
    REACH,
    WEIGHTS,
    coarsen,
    spread_row,
)
from continuum.halo import World
from continuum.parameters import LeafletRepulsion, Lipids
from continuum.pressure_relaxation import pressure_relaxation
from continuum.protein_windows import ProteinWindows, add_weighted_windows

Array = NDArray[Any]

SPREAD_HALO = 2
BLUR_CUTOFF_SIGMAS = 3.0  # where blurs of R end, which need no accuracy


@kernel
def anticipate(
    crowding: Array,  # (2, halo + rows + halo, nx)   ρ
    previous: Array,  # (2, halo + rows + halo, nx)   ρ_previous; becomes ρ - ρ_previous + δv
    change: Array,  # (2, halo + rows + halo, nx)   δv
    halo: int,
    settled: Array,  # (2, filter_halo + rows + filter_halo, nx)   becomes ρ - δv
    filter_halo: int,
) -> None:
    """Split what the pressure is to answer into the part still to be blurred by E and the rest."""
    rows, nx = crowding.shape[1] - 2 * halo, crowding.shape[2]
    for leaflet in range(2):
        for r in range(rows):
            for i in range(nx):
                coming = change[leaflet, r + halo, i]
                rho = crowding[leaflet, r + halo, i]
                settled[leaflet, r + filter_halo, i] = rho - coming
                previous[leaflet, r + halo, i] = rho - previous[leaflet, r + halo, i] + coming


@kernel
def find_residual(
    settled: Array,  # (filter_halo + rows + filter_halo, nx)   filtered along x, exchanged
    filter_halo: int,
    taps: Array,
    strength: Any,  # A times the Gaussian's integral
    coarse: Array,  # (coarse_halo + .. + coarse_halo, nx / factor)   anticipated part, exchanged
    coarse_halo: int,
    factor: int,
    spline: Array,
    pressure: Array,  # (pressure_halo + rows + pressure_halo, nx)
    pressure_halo: int,
    residual: Array,  # (residual_halo + rows + residual_halo, nx)   overwritten
    residual_halo: int,
) -> None:
    """residual = A g * (ρ - δv) + P coarse - ψ of one leaflet."""
    rows, nx = settled.shape[0] - 2 * filter_halo, settled.shape[1]
    row, smooth = np.empty(nx, settled.dtype), np.empty(nx, settled.dtype)
    padded = np.empty(nx // factor + 4, settled.dtype)
    for r in range(rows):
        filter_column_row(settled, r + filter_halo, taps, smooth)
        spread_row(coarse, coarse_halo, r, factor, spline, padded, row)
        for i in range(nx):
            residual[r + residual_halo, i] = (
                strength * smooth[i] + row[i] - pressure[r + pressure_halo, i]
            )


@kernel
def relax(
    residual: Array,  # (residual_halo + rows + residual_halo, nx)
    residual_halo: int,
    direct: Any,  # weight of the unblurred residual in R
    coarse: Array,  # (coarse_halo + .. + coarse_halo, nx / factor)   blurred residual, exchanged
    coarse_halo: int,
    factor: int,
    spline: Array,
    pressure: Array,  # (pressure_halo + rows + pressure_halo, nx)   advanced on own rows
    pressure_halo: int,
) -> None:
    """ψ += R residual of one leaflet."""
    rows, nx = residual.shape[0] - 2 * residual_halo, residual.shape[1]
    row, padded = np.empty(nx, residual.dtype), np.empty(nx // factor + 4, residual.dtype)
    for r in range(rows):
        spread_row(coarse, coarse_halo, r, factor, spline, padded, row)
        for i in range(nx):
            pressure[r + pressure_halo, i] += direct * residual[r + residual_halo, i] + row[i]


@kernel
def filter_along_y(
    field: Array,  # (layers, halo + rows + halo, nx)   filtered along x, exchanged
    halo: int,
    taps: Array,
    weight: Any,
    out: Array,  # (layers, out_halo + rows + out_halo, nx)   += weight * filtered, own rows
    out_halo: int,
) -> None:
    """The y pass of a Gaussian filter, accumulated."""
    layers, padded_rows, nx = field.shape
    smooth = np.empty(nx, field.dtype)
    for layer in range(layers):
        for r in range(halo, padded_rows - halo):
            filter_column_row(field[layer], r, taps, smooth)
            for i in range(nx):
                out[layer, r - halo + out_halo, i] += weight * smooth[i]


class LeafletPressure:
    """ψ of both leaflets on one slab, its memory of the last step, and how it advances."""

    def __init__(
        self,
        *,
        lipids: Lipids,
        repulsion: LeafletRepulsion | None,
        slab: Slab,
        world: World,
        spacing_nm: float,
        factor: int,
        dt_us: float,
        sweep_halo: int,
        dtype: Any,
    ) -> None:
        """Raises ValueError where the repulsion is too narrow for the grid."""
        constants = pressure_relaxation(lipids, repulsion, spacing_nm, factor, dt_us)
        self._world, self._factor, self._slab = world, factor, slab
        self._spline = np.array(WEIGHTS, dtype)
        self._strength = constants.strength.astype(dtype)
        self._direct = constants.direct.astype(dtype)
        self._taps = gaussian_taps(constants.range_nm / spacing_nm).astype(dtype)
        self._reach = len(self._taps) - 1
        coarse_nm = factor * spacing_nm
        transfer = 2 * BLUR_VARIANCE if factor == 2 else 0.0
        spread_nm2 = constants.range_nm**2 + 2 * constants.diffusivity_nm2_per_us * dt_us
        ahead = max(spread_nm2 / coarse_nm**2 - transfer, NARROWEST_SIGMA**2)
        self._ahead_taps = gaussian_taps(math.sqrt(ahead)).astype(dtype)
        self._blurs = []
        for width_nm, weights in zip(constants.widths_nm, constants.weights.T, strict=True):
            sigma = math.sqrt(max((width_nm / coarse_nm) ** 2 - transfer, 0.0))
            taps = gaussian_taps(sigma, BLUR_CUTOFF_SIGMAS)
            self._blurs.append((taps.astype(dtype), weights.astype(dtype)))
        self._coarse_reach = max(
            [len(self._ahead_taps) - 1] + [len(taps) - 1 for taps, _ in self._blurs]
        )
        self.halo = sweep_halo
        self.neighbour_rows = max(
            self.halo, REACH, self._reach, factor * max(self._coarse_reach, SPREAD_HALO)
        )
        self.leaflet = lipids.leaflet
        rows, nx = slab.rows, slab.cells
        coarse = slab.coarsened(factor)
        self.pressure = np.zeros((2, rows + 2 * sweep_halo, nx), dtype)
        self.crowding = np.zeros((2, rows + 2 * REACH, nx), dtype)
        self.previous = np.zeros_like(self.crowding)
        self.protein_change = np.zeros_like(self.crowding)  # between steps: -v of the last
        self._settled = np.zeros((2, rows + 2 * self._reach, nx), dtype)
        self._coarse = np.zeros((2, coarse.rows + 2 * self._coarse_reach, coarse.cells), dtype)
        self._spread = np.zeros((2, coarse.rows + 2 * SPREAD_HALO, coarse.cells), dtype)
        self._weighted = lipids.area_weight * lipids.bulk_density  # (S,)   nm⁻²

    def settle(self) -> None:
        """Set ψ to A g * ρ for the present `crowding`, as if it had always been so."""
        np.copyto(self._settled[:, self._reach : self._reach + self._slab.rows], self._own())
        filter_along_x(self._settled, self._reach, self._taps)
        self._world.fill_halo(self._settled, self._reach)
        self.pressure[:] = 0
        for leaflet in range(2):
            layer = slice(leaflet, leaflet + 1)
            filter_along_y(
                self._settled[layer],
                self._reach,
                self._taps,
                self._strength[leaflet],
                self.pressure[layer],
                self.halo,
            )
        np.copyto(self.previous, self.crowding)

    def advance(self, windows: ProteinWindows) -> None:
        """Bring ψ from t to t + dt, given `crowding` at t and the proteins of the coming step."""
        world = self._world
        self.add_proteins(windows, 1)
        anticipate(
            self.crowding,
            self.previous,
            self.protein_change,
            REACH,
            self._settled,
            self._reach,
        )
        self.protein_change[:] = 0
        self.add_proteins(windows, -1)
        filter_along_x(self._settled, self._reach, self._taps)
        world.fill_halo(self._settled, self._reach)
        self._blur(self.previous, [(self._ahead_taps, self._strength)])
        residual = self.previous
        for leaflet in range(2):
            find_residual(
                self._settled[leaflet],
                self._reach,
                self._taps,
                self._strength[leaflet],
                self._spread[leaflet],
                SPREAD_HALO,
                self._factor,
                self._spline,
                self.pressure[leaflet],
                self.halo,
                residual[leaflet],
                REACH,
            )
        self._blur(residual, self._blurs)
        for leaflet in range(2):
            relax(
                residual[leaflet],
                REACH,
                self._direct[leaflet],
                self._spread[leaflet],
                SPREAD_HALO,
                self._factor,
                self._spline,
                self.pressure[leaflet],
                self.halo,
            )
        world.fill_halo(self.pressure, self.halo)
        self.crowding, self.previous = self.previous, self.crowding

    def _own(self) -> Array:
        own: Array = self.crowding[:, REACH : REACH + self._slab.rows]
        return own

    def add_proteins(self, windows: ProteinWindows, sign: int) -> None:
        """protein_change += sign Σ_i w_i n_i u_i of the proteins, at bulk densities n_i."""
        for leaflet in range(2):
            here = np.where(self.leaflet == leaflet, sign * self._weighted, 0)[windows.species]
            if here.any():
                add_weighted_windows(
                    windows.windows,
                    here.astype(self.protein_change.dtype),
                    windows.corners,
                    self._slab.first_row,
                    self.protein_change[leaflet],
                    REACH,
                )

    def _blur(self, field: Array, terms: list[tuple[Array, Array]]) -> None:
        """`_spread` = Σ weight * Gaussian * P^T field on the coarse grid, ready for P."""
        if self._factor == 2:
            self._world.fill_halo(field, REACH)
            coarsen(field, self._spline, self._coarse_reach, self._coarse)
            own = self._coarse[:, self._coarse_reach : -self._coarse_reach].copy()
        else:
            own = field[:, REACH:-REACH].copy()
        self._spread[:] = 0
        for taps, weights in terms:
            self._coarse[:, self._coarse_reach : -self._coarse_reach] = own
            if len(taps) > 1:
                filter_along_x(self._coarse, self._coarse_reach, taps)
                self._world.fill_halo(self._coarse, self._coarse_reach)
            for leaflet in range(2):
                layer = slice(leaflet, leaflet + 1)
                filter_along_y(
                    self._coarse[layer],
                    self._coarse_reach,
                    taps,
                    weights[leaflet],
                    self._spread[layer],
                    SPREAD_HALO,
                )
        self._world.fill_halo(self._spread, SPREAD_HALO)
