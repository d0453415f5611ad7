"""Lipid transport of one species in a frozen potential: its noise, a sweep along x, one along y.

Rows enter in order, a block at a time. Each is built, kicked and swept along x; then, tile by tile
of columns, the sweep along y advances by the block: its stages follow each other a row apart, so
that no row is done twice and a tile stays in the first-level cache. Every other step sweeps along y
first: sweeps of both axes do not commute, and the two orders' errors cancel to second order.
"""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from continuum.compilation import borrowing_kernel
from continuum.exponential import exponential_pair
from continuum.flux_noise import cross_rows, kick_row, refine_noise_row
from continuum.grid_transfer import spread_row
from continuum.lipid_sweeps import (
    LINE,
    Tiles,
    aligned_zeros,
    copy_row,
    deal_row,
    keep_last,
    make_tiles,
    sweep_along_x,
    sweep_tiles,
)

Array = NDArray[Any]

BLOCK_ROWS = 16
TILE_BYTES = 512  # of a row of a tile; shorter loops cost more than they do
SWEPT_BYTES = 8192  # of the rows that are swept along x together, unless one is longer


class FrozenPotential(NamedTuple):
    """V of one species in kT, and where its parts lie: Σ couplings, weight * pressure, proteins."""

    coarse: Array  # (coarse_halo + .. + coarse_halo, nx / factor)   of the couplings, exchanged
    coarse_halo: int
    factor: int  # 1 or 2: coarse spacing over spacing
    spline: Array  # weights of the cubic B-spline
    pressure: Array  # (halo + rows + halo, nx)   exchanged
    weight: Any
    windows: Array  # (beads, side, side)   proteins' potentials
    corners: Array  # (beads, 2)   global row and column of each window's first cell
    beads_of_row: Array  # indices into windows, row by row
    row_start: Array  # (halo + rows + halo + 1,)
    first_row: int  # global index of the slab's first own row


class FaceNoise(NamedTuple):
    """Noise of one species' fluxes on an auxiliary grid, and how it is spread to faces."""

    amplitude: Any  # of kick_flux; 0 switches the noise off
    fields: Array  # (2, halo + .. + halo, nx / factor)   of x and y fluxes
    halo: int
    centre_first: Array  # (factor,)     SplinePositions of cell centres
    centre_weights: Array  # (factor, 4)
    face_first: Array  # (factor,)     and of upper faces
    face_weights: Array  # (factor, 4)


class SweepMemory(NamedTuple):
    """What `advance_species` works in, for species of any degree up to the one it was made for.

    Rows of `stride` cells, ghosts + nx + ghosts and idle ones, lie behind each other, with LINE
    more cells before the first and after the last.
    """

    ghosts: int
    stride: int
    rows_at_once: int  # that are swept along x together
    quanta: Array  # (LINE + rows * stride + LINE,)   densities
    a: Array  # (LINE + rows * stride + LINE,)   exp(-V/2)
    inverse: Array  # (LINE + rows * stride + LINE,)   exp(V/2)
    tiles: Tiles
    scratch: Array  # (4, ..)
    flux: Array  # quanta that cross faces, along x or y
    potential: Array  # (nx,)
    noise: Array  # (nx,)
    kicks: Array  # (3, nx + 1)   quanta that noise moves: across odd and even rows, along x
    padded: Array  # (nx + 4,)
    phases: Array  # (noise_factor, nx / noise_factor)


def sweep_memory(nx: int, degree: int, noise_factor: int, integer: Any, real: Any) -> SweepMemory:
    """Memory for rows of nx cells and sweeps of up to `degree`."""
    size = real().itemsize
    stride = -(-(nx + 2 * degree) // LINE) * LINE
    at_once = max(1, SWEPT_BYTES // (size * stride))
    columns = TILE_BYTES // size
    rows = degree + 1 + BLOCK_ROWS
    cells = 2 * LINE + rows * stride
    scratch = max(2 * LINE + at_once * stride, rows * columns)
    return SweepMemory(
        ghosts=degree,
        stride=stride,
        rows_at_once=at_once,
        quanta=aligned_zeros((cells,), integer),
        a=aligned_zeros((cells,), real),
        inverse=aligned_zeros((cells,), real),
        tiles=make_tiles(nx, columns, BLOCK_ROWS, degree, integer, real),
        scratch=aligned_zeros((4, scratch), real),
        flux=aligned_zeros((scratch,), integer),
        potential=aligned_zeros((nx,), real),
        noise=aligned_zeros((nx,), real),
        kicks=aligned_zeros((3, nx + 1), integer),
        padded=aligned_zeros((nx + 4,), real),
        phases=aligned_zeros((noise_factor, nx // noise_factor), real),
    )


@borrowing_kernel
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


@borrowing_kernel
def potential_row(frozen: FrozenPotential, row: int, line: int, memory: SweepMemory) -> None:
    """V of own row `row`, which is `line` with the halo, into memory.potential."""
    potential, pressure = memory.potential, frozen.pressure[line]
    spread_row(
        frozen.coarse,
        frozen.coarse_halo,
        row,
        frozen.factor,
        frozen.spline,
        memory.padded,
        potential,
    )
    for i in range(potential.size):
        potential[i] += frozen.weight * pressure[i]
    beads = frozen.beads_of_row[frozen.row_start[line] : frozen.row_start[line + 1]]
    add_windows(potential, frozen.windows, frozen.corners, beads, frozen.first_row + row)


@borrowing_kernel
def boltzmann_row(
    potential: Array,  # (nx,)
    ghosts: int,
    a: Array,  # (ghosts + nx + ghosts,)   exp(-V/2), overwritten with periodic ghosts
    inverse: Array,  # (ghosts + nx + ghosts,)   exp(V/2), likewise
) -> None:
    """Boltzmann factors of a row."""
    minus_half = potential.dtype.type(-0.5)
    own_a, own_inverse = a[ghosts:], inverse[ghosts:]
    for i in range(potential.size):
        own_a[i], own_inverse[i] = exponential_pair(minus_half * potential[i])
    fill_ghosts(a, ghosts, potential.size)
    fill_ghosts(inverse, ghosts, potential.size)


@borrowing_kernel
def fill_ghosts(row: Array, ghosts: int, nx: int) -> None:
    """Make a row periodic; one shorter than its ghosts is repeated. Idle cells may follow."""
    for i in range(ghosts):
        row[ghosts - 1 - i] = row[ghosts - 1 - i + nx]
        row[ghosts + nx + i] = row[ghosts + i]


@borrowing_kernel
def kick_up(density: Array, halo: int, row: int, noise: FaceNoise, memory: SweepMemory) -> None:
    """Quanta that noise moves from own row `row` to the next."""
    refine_noise_row(
        noise.fields[1],
        noise.halo,
        row,
        noise.face_first,
        noise.face_weights,
        noise.centre_first,
        noise.centre_weights,
        memory.padded,
        memory.phases,
        memory.noise,
    )
    lower, upper = density[row + halo], density[row + halo + 1]
    cross_rows(lower, upper, memory.noise, noise.amplitude, memory.kicks[row % 2, : lower.size])


@borrowing_kernel
def kicked_row(
    density: Array, halo: int, row: int, noise: FaceNoise, memory: SweepMemory, out: Array
) -> None:
    """Own row `row` after the noise of all its faces, those of the row before being known."""
    line = density[row + halo]
    if noise.amplitude <= 0:
        copy_row(line, out)
        return
    kick_up(density, halo, row, noise, memory)
    refine_noise_row(
        noise.fields[0],
        noise.halo,
        row,
        noise.centre_first,
        noise.centre_weights,
        noise.face_first,
        noise.face_weights,
        memory.padded,
        memory.phases,
        memory.noise,
    )
    below, above = memory.kicks[(row - 1) % 2], memory.kicks[row % 2]
    kick_row(line, memory.noise, noise.amplitude, below, above, memory.kicks[2], out)


@borrowing_kernel
def sweep_rows(
    count: Array,  # (LINE + .. + LINE,)   rows in quanta, swept in place
    first: int,  # row of memory.a that the first of them is
    rows: int,
    quantum: Any,
    stages: Array,
    scale: Any,
    memory: SweepMemory,
) -> None:
    """Sweep rows along x."""
    offset, cells = first * memory.stride, 2 * LINE + rows * memory.stride
    here = slice(offset, offset + cells)
    a, inverse = memory.a[here], memory.inverse[here]
    scratch, flux = memory.scratch, memory.flux
    sweep_along_x(count[:cells], a, inverse, quantum, stages, scale, scratch, flux)


@borrowing_kernel
def sweep_finished_rows(
    density: Array,  # (rows, nx)   quanta, swept in place
    first: int,  # row of memory.a that the first of them is
    quantum: Any,
    stages: Array,
    scale: Any,
    memory: SweepMemory,
) -> None:
    """Sweep rows along x that have been swept along y."""
    rows, nx = density.shape
    ghosts, stride, count = memory.ghosts, memory.stride, memory.quanta
    for start in range(0, rows, memory.rows_at_once):
        height = min(memory.rows_at_once, rows - start)
        for r in range(height):
            padded = count[LINE + r * stride :]
            copy_row(density[start + r], padded[ghosts : ghosts + nx])
            fill_ghosts(padded, ghosts, nx)
        sweep_rows(count, first + start, height, quantum, stages, scale, memory)
        for r in range(height):
            copy_row(count[LINE + r * stride + ghosts :], density[start + r])


@borrowing_kernel
def advance_species(
    density: Array,  # (halo + rows + halo, nx)   quanta, exchanged; own rows advanced in place
    halo: int,
    quantum: Any,  # nm⁻² per quantum, in the floating type of the potentials
    frozen: FrozenPotential,
    noise: FaceNoise,
    stages: Array,  # (K - 1, 2)   of SweepPolynomial
    scale: Any,  # D dt / h² / quantum * SweepPolynomial.weight
    along_x_first: bool,
    memory: SweepMemory,
) -> None:
    """Advance one species by one step: kick all faces, then sweep along either axis.

    The density is overwritten behind the rows that are still needed.
    """
    rows, nx = density.shape[0] - 2 * halo, density.shape[1]
    ghosts, stride, at_once = memory.ghosts, memory.stride, memory.rows_at_once
    shape = ((memory.quanta.size - 2 * LINE) // stride, stride)
    inside = slice(LINE, LINE + shape[0] * stride)
    count, a = memory.quanta[inside].reshape(shape), memory.a[inside].reshape(shape)
    inverse = memory.inverse[inside].reshape(shape)
    own = slice(ghosts, ghosts + nx)
    degree = stages.shape[0] + 1
    carried = degree + 1  # rows of the block before that are still needed
    if noise.amplitude > 0:
        kick_up(density, halo, -degree - 1, noise, memory)
    for block in range(-degree, rows + degree, BLOCK_ROWS):
        height = min(BLOCK_ROWS, rows + degree - block)
        for start in range(carried, carried + height, at_once):
            end = min(start + at_once, carried + height)
            for slot in range(start, end):
                row = block + slot - carried
                kicked_row(density, halo, row, noise, memory, count[slot, own])
                fill_ghosts(count[slot], ghosts, nx)
                potential_row(frozen, row, row + halo, memory)
                boltzmann_row(memory.potential, ghosts, a[slot], inverse[slot])
            if along_x_first:
                counts = memory.quanta[start * stride :]
                sweep_rows(counts, start, end - start, quantum, stages, scale, memory)
            for slot in range(start, end):
                deal_row(
                    slot,
                    count[slot, own],
                    quantum,
                    a[slot, own],
                    inverse[slot, own],
                    inverse[slot - 1, own],
                    a[slot - 2, own],
                    memory.tiles,
                )
        line = block - degree + halo  # of the first row that leaves the sweep along y
        skipped = min(height, max(0, degree - block))
        sweep_tiles(
            memory.tiles,
            height,
            stages,
            scale,
            memory.scratch,
            memory.flux,
            skipped,
            density,
            line,
        )
        if not along_x_first:
            finished = density[line + skipped : line + height]
            sweep_finished_rows(finished, 1 + skipped, quantum, stages, scale, memory)
        keep_last(memory.a[LINE:], (carried + height) * stride, carried * stride)
        keep_last(memory.inverse[LINE:], (carried + height) * stride, carried * stride)
