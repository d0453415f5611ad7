"""Lipid transport in a frozen potential: conservative, positive finite-volume sweeps.

dn/dt = D ∇·(∇n + n ∇V) with the square-root Scharfetter-Gummel flux between neighbouring cells,

    J = D/h² (a_R b_L - a_L b_R),   a = exp(-V/2),  b = n / a,

which vanishes exactly where n ∝ exp(-V). A time step is one sweep along x, then one along y. A
sweep applies the polynomial P(M) = (m (1 + M/m)^(m+1) + 1) / (m + 1) of the one-dimensional
operator M: second order in time and a convex combination of positive Euler steps, so n stays
positive. Its result is written as one flux per face, rounded to the integer quanta in which the
density is stored: mass is conserved to the last bit on any number of ranks.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import inlined, kernel
from continuum.exponential import exponential
from continuum.flux_noise import LARGEST_OUTFLOW, kick_flux, refine_noise_row
from continuum.grid_transfer import refine_rows_between

Array = NDArray[Any]

FOURIER_LIMIT = 0.42  # D dt / h² of one Euler substep; 1/2 would be the limit on a flat potential
TILE_COLUMNS = 32
BLOCK_ROWS = 32


def substeps(diffusivity_nm2_per_us: float, dt_us: float, spacing_nm: float) -> int:
    """Euler steps m in one sweep, so that each stays positive."""
    return max(1, math.ceil(diffusivity_nm2_per_us * dt_us / spacing_nm**2 / FOURIER_LIMIT))


def sweep_halo_rows(substeps_of_a_sweep: int) -> int:
    """Rows beyond a slab that one step of its own rows depends on."""
    return substeps_of_a_sweep + 2


@inlined
def sweep_row_along_x(
    count: Array,  # (nx,)       density in quanta, not changed
    a: Array,  # (nx + 2,)   exp(-V/2), periodic ghosts filled
    quantum: Any,
    fourier: Any,  # D dt / h² / m
    m: int,
    b: Array,  # (nx + 2,)   scratch, as the next four
    stay: Array,
    y: Array,
    z: Array,
    out: Array,  # (>= nx,)    density in quanta, overwritten
) -> None:
    """One sweep of one row."""
    nx = count.size
    one = a.dtype.type(1)
    for i in range(nx):
        inverse = one / a[i + 1]
        b[i + 1] = quantum * a.dtype.type(count[i]) * inverse
        stay[i + 1] = one - fourier * (a[i] + a[i + 2]) * inverse
    for i in range(nx + 2):
        y[i] = b[i]
    for _ in range(m):
        y[0], y[nx + 1] = y[nx], y[1]
        for i in range(1, nx + 1):
            z[i] = b[i] + stay[i] * y[i] + fourier * (y[i - 1] + y[i + 1])
        y, z = z, y
    y[0], y[nx + 1] = y[nx], y[1]
    scale = fourier * a.dtype.type(m) / a.dtype.type(m + 1) / quantum
    for i in range(nx + 1):
        z[i] = np.rint(scale * (a[i + 1] * y[i] - a[i] * y[i + 1]))
    integer = count.dtype.type
    for i in range(nx):
        out[i] = count[i] - integer(z[i + 1]) + integer(z[i])


@inlined
def sweep_tile_along_y(
    count: Array,  # (rows, TILE)   density in quanta of rows first - m - 1 .. last + m + 1
    a: Array,  # (rows, TILE)   exp(-V/2)
    quantum: Any,
    fourier: Any,
    m: int,
    b: Array,  # (rows, TILE)   scratch, as the next three
    stay: Array,
    y: Array,
    z: Array,
    rows: int,
) -> None:
    """One sweep of a tile of columns; `count` of rows m + 1 .. rows - m - 2 is advanced."""
    one = a.dtype.type(1)
    for r in range(rows):
        for i in range(TILE_COLUMNS):
            b[r, i] = quantum * a.dtype.type(count[r, i]) / a[r, i]
            y[r, i] = b[r, i]
    for r in range(1, rows - 1):
        for i in range(TILE_COLUMNS):
            stay[r, i] = one - fourier * (a[r - 1, i] + a[r + 1, i]) / a[r, i]
    for level in range(1, m + 1):
        for r in range(level, rows - level):
            for i in range(TILE_COLUMNS):
                z[r, i] = b[r, i] + stay[r, i] * y[r, i] + fourier * (y[r - 1, i] + y[r + 1, i])
        y, z = z, y
    scale = fourier * a.dtype.type(m) / a.dtype.type(m + 1) / quantum
    for r in range(m, rows - m - 1):
        for i in range(TILE_COLUMNS):
            z[r, i] = np.rint(scale * (a[r + 1, i] * y[r, i] - a[r, i] * y[r + 1, i]))
    integer = count.dtype.type
    for r in range(m + 1, rows - m - 1):
        for i in range(TILE_COLUMNS):
            count[r, i] = count[r, i] - integer(z[r, i]) + integer(z[r - 1, i])


@inlined
def add_windows(
    row: Array,  # (nx,)   potential of one species, added to
    windows: Array,  # (beads, side, side)   potential of each bead on this species
    corners: Array,  # (beads, 2)            global row and column of each window's first cell
    beads: Array,  # indices of the beads whose window holds this row, ascending
    global_row: int,
    cells: int,
) -> None:
    """Add the rows of the proteins' potential windows that cross one row of the membrane."""
    side = windows.shape[1]
    for bead in beads:
        line = (global_row - corners[bead, 0]) % cells
        first = corners[bead, 1]
        before_border = min(side, cells - first)
        for i in range(before_border):
            row[first + i] += windows[bead, line, i]
        for i in range(before_border, side):
            row[first + i - cells] += windows[bead, line, i]


@kernel
def advance_species(
    density: Array,  # (halo + rows + halo, nx)   quanta, exchanged; own rows advanced in place
    halo: int,
    quantum: Any,  # nm⁻² per quantum, in the floating type of the potentials
    coarse: Array,  # (coarse_halo + .. + coarse_halo, nx / factor)   potential, kT, exchanged
    coarse_halo: int,
    factor: int,  # 1 or 2: coarse spacing over spacing
    spline: Array,  # weights of the cubic B-spline
    pressure: Array,  # (halo + rows + halo, nx)   kT, exchanged
    weight: Any,  # the pressure's potential on this species is weight * pressure
    windows: Array,  # (beads, side, side)   kT, proteins' potentials on this species
    corners: Array,  # (beads, 2)
    beads_of_row: Array,  # indices into windows, row by row
    row_start: Array,  # (halo + rows + halo + 1,)
    first_row: int,  # global index of the slab's first own row
    fourier: Any,  # D dt / h² / m
    m: int,
    kick_amplitude: Any,  # of kick_flux; 0 switches the noise off
    noise: Array,  # (2, noise_halo + .. + noise_halo, nx / noise_factor)   x and y fluxes
    noise_halo: int,
    centre_first: Array,  # (noise_factor,)     SplinePositions of cell centres
    centre_weights: Array,  # (noise_factor, 4)
    face_first: Array,  # (noise_factor,)     and of upper faces
    face_weights: Array,  # (noise_factor, 4)
) -> None:
    """Advance one species by one step: kick and sweep along x, then kick and sweep along y."""
    rows, nx = density.shape[0] - 2 * halo, density.shape[1]
    real = pressure.dtype.type
    padded_width = (nx + TILE_COLUMNS - 1) // TILE_COLUMNS * TILE_COLUMNS
    tile_rows = BLOCK_ROWS + 2 * m + 2
    ring_rows = tile_rows + 1
    ring_count = np.zeros((ring_rows, padded_width), density.dtype)
    ring_a = np.ones((ring_rows, padded_width), pressure.dtype)
    potential = np.empty(nx, pressure.dtype)
    padded_coarse = np.empty(nx // factor + 4, pressure.dtype)
    a, b = np.ones(nx + 2, pressure.dtype), np.ones(nx + 2, pressure.dtype)
    stay, y, z = np.ones_like(a), np.ones_like(a), np.ones_like(a)
    kicked, previous = np.empty(nx, density.dtype), np.empty(nx, density.dtype)
    swept = np.empty(nx, density.dtype)
    noise_row = np.empty(nx, pressure.dtype)
    noise_factor = centre_first.size
    padded_noise = np.empty(nx // noise_factor + 4, pressure.dtype)
    phases = np.empty((noise_factor, nx // noise_factor), pressure.dtype)
    largest = real(LARGEST_OUTFLOW)
    flux = np.empty(nx + 1, pressure.dtype)
    tile_count = np.empty((tile_rows, TILE_COLUMNS), density.dtype)
    tile_a = np.empty((tile_rows, TILE_COLUMNS), pressure.dtype)
    tile_b, tile_stay = np.empty_like(tile_a), np.empty_like(tile_a)
    tile_y, tile_z = np.empty_like(tile_a), np.empty_like(tile_a)
    minus_half = real(-0.5)
    noisy = kick_amplitude > 0
    integer = density.dtype.type

    next_row = -(m + 2)
    for block in range(0, rows, BLOCK_ROWS):
        height = min(BLOCK_ROWS, rows - block)
        last_row = block + height + m + 1
        while next_row <= last_row:
            r = next_row
            if factor == 1:
                for i in range(nx):
                    potential[i] = coarse[r + coarse_halo, i]
            else:
                refine_rows_between(coarse, coarse_halo, r, spline, padded_coarse, potential)
            line = r + halo
            for i in range(nx):
                potential[i] += weight * pressure[line, i]
            add_windows(
                potential,
                windows,
                corners,
                beads_of_row[row_start[line] : row_start[line + 1]],
                first_row + r,
                nx,
            )
            for i in range(nx):
                a[i + 1] = exponential(minus_half * potential[i])
            a[0], a[nx + 1] = a[nx], a[1]
            slot = r % ring_rows
            for i in range(nx):
                kicked[i] = density[line, i]
                ring_a[slot, i] = a[i + 1]
            if noisy:
                refine_noise_row(
                    noise[0],
                    noise_halo,
                    r,
                    centre_first,
                    centre_weights,
                    face_first,
                    face_weights,
                    padded_noise,
                    phases,
                    noise_row,
                )
                for i in range(nx - 1):
                    flux[i + 1] = kick_flux(
                        real(density[line, i]),
                        real(density[line, i + 1]),
                        noise_row[i],
                        kick_amplitude,
                        largest,
                    )
                flux[nx] = kick_flux(
                    real(density[line, nx - 1]),
                    real(density[line, 0]),
                    noise_row[nx - 1],
                    kick_amplitude,
                    largest,
                )
                flux[0] = flux[nx]
                for i in range(nx):
                    kicked[i] = kicked[i] - integer(flux[i + 1]) + integer(flux[i])
            sweep_row_along_x(kicked, a, quantum, fourier, m, b, stay, y, z, swept)
            for i in range(nx):
                ring_count[slot, i] = swept[i]
            if noisy and r > -(m + 2):
                refine_noise_row(
                    noise[1],
                    noise_halo,
                    r - 1,
                    face_first,
                    face_weights,
                    centre_first,
                    centre_weights,
                    padded_noise,
                    phases,
                    noise_row,
                )
                below = (r - 1) % ring_rows
                for i in range(nx):
                    crossing = integer(
                        kick_flux(
                            real(previous[i]),
                            real(swept[i]),
                            noise_row[i],
                            kick_amplitude,
                            largest,
                        )
                    )
                    ring_count[below, i] -= crossing
                    ring_count[slot, i] += crossing
            for i in range(nx):
                previous[i] = swept[i]
            next_row += 1
        used_rows = height + 2 * m + 2
        for column in range(0, padded_width, TILE_COLUMNS):
            for t in range(used_rows):
                slot = (block - m - 1 + t) % ring_rows
                for i in range(TILE_COLUMNS):
                    tile_count[t, i] = ring_count[slot, column + i]
                    tile_a[t, i] = ring_a[slot, column + i]
            sweep_tile_along_y(
                tile_count,
                tile_a,
                quantum,
                fourier,
                m,
                tile_b,
                tile_stay,
                tile_y,
                tile_z,
                used_rows,
            )
            width = min(TILE_COLUMNS, nx - column)
            for t in range(height):
                for i in range(width):
                    density[block + t + halo, column + i] = tile_count[t + m + 1, i]
