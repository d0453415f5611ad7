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

from continuum.compilation import kernel
from continuum.exponential import exponential
from continuum.flux_noise import cross_rows, kick_row, refine_noise_row
from continuum.grid_transfer import spread_row
from continuum.parameters import RadialPotentials

Array = NDArray[Any]

FOURIER_LIMIT = 0.42  # D dt / h² of one Euler substep; 1/2 would be the limit on a flat potential
TILE_COLUMNS = 32
BLOCK_ROWS = 32


def steepest_kt(potentials: RadialPotentials, spacing_nm: float) -> float:
    """Largest change of one bead's potential on one lipid from a cell to the next."""
    if not potentials.u.size:
        return 0.0
    slope = np.abs(np.diff(potentials.u, axis=2)).max(initial=0.0) / potentials.dr_nm
    return float(slope) * spacing_nm


def fourier_limit(potentials: RadialPotentials, spacing_nm: float) -> float:
    """Largest D dt / h² of one Euler substep that keeps densities positive.

    A slope of x kT a cell needs 2 cosh(x / 2) D dt / h² <= 1; x is taken as twice one bead's
    steepest, for beads overlap.
    """
    return min(FOURIER_LIMIT, 0.5 / math.cosh(steepest_kt(potentials, spacing_nm)))


def check_steepness(potentials: RadialPotentials, spacing_nm: float, limit: float) -> None:
    """Raise ValueError where even a lone bead is too steep for sweeps made for `limit`."""
    steepest = steepest_kt(potentials, spacing_nm)
    allowed = 2 * math.acosh(0.5 / limit)
    if steepest > allowed:
        raise ValueError(
            f"protein-lipid potentials may change by at most {allowed:.3g} kT from one cell of"
            f" {spacing_nm:.4g} nm to the next in this run, got {steepest:.3g} kT"
        )


def substeps(
    diffusivity_nm2_per_us: float, dt_us: float, spacing_nm: float, limit: float = FOURIER_LIMIT
) -> int:
    """Euler steps m in one sweep, so that each stays positive."""
    return max(1, math.ceil(diffusivity_nm2_per_us * dt_us / spacing_nm**2 / limit))


def sweep_halo_rows(substeps_of_a_sweep: int) -> int:
    """Rows beyond a slab that one step of its own rows depends on."""
    return substeps_of_a_sweep + 2


@kernel
def boltzmann_factors(potential: Array, slot: int, a: Array, tiles: Array) -> None:
    """a[1:-1] = exp(-V/2) of a row, with periodic ghosts; also as row `slot` of every tile."""
    nx = potential.size
    minus_half = potential.dtype.type(-0.5)
    whole = nx // TILE_COLUMNS
    for tile in range(whole):
        part, target = potential[tile * TILE_COLUMNS :], tiles[tile, slot * TILE_COLUMNS :]
        inner = a[1 + tile * TILE_COLUMNS :]
        for i in range(TILE_COLUMNS):
            value = exponential(minus_half * part[i])
            inner[i] = value
            target[i] = value
    for i in range(whole * TILE_COLUMNS, nx):
        value = exponential(minus_half * potential[i])
        a[i + 1] = value
        tiles[whole, (slot - whole) * TILE_COLUMNS + i] = value
    a[0], a[nx + 1] = a[nx], a[1]


@kernel
def prepare(
    count: Array, a: Array, stride: int, quantum: Any, fourier: Any, b: Array, stay: Array
) -> None:
    """b = n / a everywhere; stay = 1 - fourier (a_- + a_+) / a where both neighbours exist.

    Neighbours are `stride` apart, so that one set of loops serves rows and columns.
    """
    real = a.dtype.type
    one, last = real(1), a.size - stride
    for i in range(stride):
        b[i] = quantum * real(count[i]) * (one / a[i])
        b[last + i] = quantum * real(count[last + i]) * (one / a[last + i])
    number, here, after = count[stride:], a[stride:], a[2 * stride :]
    inner_b, inner_stay = b[stride:], stay[stride:]
    for i in range(a.size - 2 * stride):
        inverse = one / here[i]
        inner_b[i] = quantum * real(number[i]) * inverse
        inner_stay[i] = one - fourier * (a[i] + after[i]) * inverse


@kernel
def add_step(
    b: Array, stay: Array, y: Array, stride: int, fourier: Any, first: int, end: int, z: Array
) -> None:
    """z = b + y + (M y) / m on cells first to end - 1: one more term of P's sum, by Horner."""
    before, here, after = y[first - stride :], y[first:], y[first + stride :]
    source, share, out = b[first:], stay[first:], z[first:end]
    for i in range(out.size):
        out[i] = source[i] + share[i] * here[i] + fourier * (before[i] + after[i])


@kernel
def face_quanta(
    a: Array, y: Array, stride: int, scale: Any, first: int, end: int, flux: Array
) -> None:
    """flux[i] = quanta that cross from cell i to cell i + stride, i from first to end - 1."""
    a_here, a_after = a[first:], a[first + stride :]
    y_here, y_after, out = y[first:], y[first + stride :], flux[first:end]
    for i in range(out.size):
        out[i] = np.rint(scale * (a_after[i] * y_here[i] - a_here[i] * y_after[i]))


@kernel
def add_divergence(count: Array, inflow: Array, outflow: Array, out: Array) -> None:
    """out = count + inflow - outflow, in whole quanta."""
    integer = count.dtype.type
    for i in range(out.size):
        out[i] = count[i] - integer(outflow[i]) + integer(inflow[i])


@kernel
def sweep_row_along_x(
    count: Array,  # (nx + 2,)   density in quanta, periodic ghosts filled
    a: Array,  # (nx + 2,)   exp(-V/2), likewise
    quantum: Any,
    fourier: Any,  # D dt / h² / m
    scale: Any,  # D dt / h² / (m + 1) / quantum
    m: int,
    scratch: Array,  # (4, nx + 2)
    slot: int,
    tiles: Array,  # (tiles, rows * TILE)   density in quanta; row `slot` of each is overwritten
) -> None:
    """One sweep of one row, dealt to the tiles; the last tile may be partly unused."""
    nx = count.size - 2
    b, stay, y, z = scratch[0], scratch[1], scratch[2], scratch[3]
    prepare(count, a, 1, quantum, fourier, b, stay)
    add_step(b, stay, b, 1, fourier, 1, nx + 1, y)
    for _ in range(m - 1):
        y[0], y[nx + 1] = y[nx], y[1]
        add_step(b, stay, y, 1, fourier, 1, nx + 1, z)
        y, z = z, y
    y[0], y[nx + 1] = y[nx], y[1]
    face_quanta(a, y, 1, scale, 0, nx, z)
    z[nx] = z[0]
    integer = count.dtype.type
    whole = nx // TILE_COLUMNS
    for tile in range(whole):
        number, inflow = count[1 + tile * TILE_COLUMNS :], z[tile * TILE_COLUMNS :]
        outflow, target = inflow[1:], tiles[tile, slot * TILE_COLUMNS :]
        for i in range(TILE_COLUMNS):
            target[i] = number[i] - integer(outflow[i]) + integer(inflow[i])
    for i in range(whole * TILE_COLUMNS, nx):
        target_cell = (slot - whole) * TILE_COLUMNS + i
        tiles[whole, target_cell] = count[i + 1] - integer(z[i + 1]) + integer(z[i])


@kernel
def sweep_tile_along_y(
    count: Array,  # (rows * TILE,)   density in quanta of a tile of columns, row by row
    a: Array,  # (rows * TILE,)   exp(-V/2)
    quantum: Any,
    fourier: Any,
    scale: Any,
    m: int,
    scratch: Array,  # (4, >= rows * TILE)
    advanced: Array,  # (>= rows * TILE,)   scratch
    density: Array,  # (.., nx)   rows first_row .. of the tile's columns are overwritten
    first_row: int,
    column: int,
) -> None:
    """One sweep of a tile of columns, which needs m + 1 more rows on either side."""
    t, cells = TILE_COLUMNS, count.size
    b, stay, y, z = scratch[0], scratch[1], scratch[2], scratch[3]
    prepare(count, a, t, quantum, fourier, b, stay)
    add_step(b, stay, b, t, fourier, t, cells - t, y)
    for level in range(2, m + 1):
        add_step(b, stay, y, t, fourier, level * t, cells - level * t, z)
        y, z = z, y
    face_quanta(a, y, t, scale, m * t, cells - (m + 1) * t, z)
    first, end = (m + 1) * t, cells - (m + 1) * t
    add_divergence(count[first:], z[first - t :], z[first:], advanced[: end - first])
    width = min(t, density.shape[1] - column)
    for r in range((end - first) // t):
        target, source = density[first_row + r, column : column + width], advanced[r * t :]
        for i in range(width):
            target[i] = source[i]


@kernel
def add_windows(
    row: Array,  # (nx,)   potential of one species, added to
    windows: Array,  # (beads, side, side)   potential of each bead on this species
    corners: Array,  # (beads, 2)            global row and column of each window's first cell
    beads: Array,  # indices of the beads whose window holds this row, ascending
    global_row: int,
) -> None:
    """Add the rows of the proteins' potential windows that cross one row of the membrane."""
    cells, side = row.size, windows.shape[1]
    for bead in beads:
        line = (global_row - corners[bead, 0]) % cells
        first = corners[bead, 1]
        before_border = min(side, cells - first)
        window, target = windows[bead, line], row[first:]
        for i in range(before_border):
            target[i] += window[i]
        rest = window[before_border:]
        for i in range(side - before_border):
            row[i] += rest[i]


@kernel
def potential_row(
    coarse: Array,
    coarse_halo: int,
    factor: int,
    spline: Array,
    row: int,
    pressure: Array,  # (nx,)   of this row
    weight: Any,
    padded: Array,
    potential: Array,  # (nx,)   overwritten
) -> None:
    """V of one species on one row, without the proteins."""
    spread_row(coarse, coarse_halo, row, factor, spline, padded, potential)
    for i in range(potential.size):
        potential[i] += weight * pressure[i]


@kernel
def pad_row(row: Array, out: Array) -> None:
    """out = row with one periodic ghost at either end."""
    nx = row.size
    inner = out[1:]
    for i in range(nx):
        inner[i] = row[i]
    out[0], out[nx + 1] = row[nx - 1], row[0]


@kernel
def keep_last_rows(tiles: Array, used_rows: int, kept: int) -> None:
    """Move the last `kept` of `used_rows` rows of every tile to its beginning."""
    source, count = (used_rows - kept) * TILE_COLUMNS, kept * TILE_COLUMNS
    for tile in range(tiles.shape[0]):
        for i in range(count):
            tiles[tile, i] = tiles[tile, source + i]


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
    """Advance one species by one step: kick all faces, sweep along x, then along y.

    Rows are swept along x once, in order, and dealt to tiles of columns; when a block of rows is
    complete, tiles are swept along y and the density is overwritten, behind the rows still needed.
    """
    rows, nx = density.shape[0] - 2 * halo, density.shape[1]
    real = pressure.dtype.type
    scale = fourier * real(m) / real(m + 1) / quantum
    tiles = (nx + TILE_COLUMNS - 1) // TILE_COLUMNS
    beyond = m + 1
    tile_cells = (BLOCK_ROWS + 2 * beyond) * TILE_COLUMNS
    tile_count = np.zeros((tiles, tile_cells), density.dtype)
    tile_a = np.ones((tiles, tile_cells), pressure.dtype)
    tile_scratch = np.ones((4, tile_cells), pressure.dtype)
    advanced = np.empty(tile_cells, density.dtype)
    potential, noise_row = np.empty(nx, pressure.dtype), np.empty(nx, pressure.dtype)
    padded_coarse = np.empty(nx // factor + 4, pressure.dtype)
    a, scratch = np.ones(nx + 2, pressure.dtype), np.ones((4, nx + 2), pressure.dtype)
    kicked = np.empty(nx + 2, density.dtype)
    below, above = np.zeros(nx, pressure.dtype), np.zeros(nx, pressure.dtype)
    padded_noise = np.empty(nx // centre_first.size + 4, pressure.dtype)
    phases = np.empty((centre_first.size, nx // centre_first.size), pressure.dtype)
    noisy = kick_amplitude > 0

    if noisy:
        refine_noise_row(
            noise[1],
            noise_halo,
            -beyond - 1,
            face_first,
            face_weights,
            centre_first,
            centre_weights,
            padded_noise,
            phases,
            noise_row,
        )
        line = halo - beyond
        cross_rows(density[line - 1], density[line], noise_row, kick_amplitude, below)
    filled = 0
    next_row = -beyond
    for block in range(0, rows, BLOCK_ROWS):
        height = min(BLOCK_ROWS, rows - block)
        for r in range(next_row, block + height + beyond):
            line = r + halo
            potential_row(
                coarse,
                coarse_halo,
                factor,
                spline,
                r,
                pressure[line],
                weight,
                padded_coarse,
                potential,
            )
            beads = beads_of_row[row_start[line] : row_start[line + 1]]
            add_windows(potential, windows, corners, beads, first_row + r)
            boltzmann_factors(potential, filled, a, tile_a)
            if noisy:
                refine_noise_row(
                    noise[1],
                    noise_halo,
                    r,
                    face_first,
                    face_weights,
                    centre_first,
                    centre_weights,
                    padded_noise,
                    phases,
                    noise_row,
                )
                cross_rows(density[line], density[line + 1], noise_row, kick_amplitude, above)
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
                kick_row(density[line], noise_row, kick_amplitude, below, above, scratch[0], kicked)
                below, above = above, below
            else:
                pad_row(density[line], kicked)
            sweep_row_along_x(kicked, a, quantum, fourier, scale, m, scratch, filled, tile_count)
            filled += 1
        next_row = block + height + beyond
        used = filled * TILE_COLUMNS
        for tile in range(tiles):
            sweep_tile_along_y(
                tile_count[tile, :used],
                tile_a[tile, :used],
                quantum,
                fourier,
                scale,
                m,
                tile_scratch,
                advanced,
                density,
                block + halo,
                tile * TILE_COLUMNS,
            )
        keep_last_rows(tile_count, filled, 2 * beyond)
        keep_last_rows(tile_a, filled, 2 * beyond)
        filled = 2 * beyond
