"""One sweep of a time step along one axis: a positive polynomial of the square-root flux operator.

dn/dt = D ∂(∂n + n ∂V) between neighbouring cells by the square-root Scharfetter-Gummel flux

    J = D/h² (a_R b_L - a_L b_R),   a = exp(-V/2),  b = n / a,

which vanishes exactly where n ∝ exp(-V). On b the operator is M b = f (b_- + b_+ - w b) with
w = (a_- + a_+) / a and f = D dt / h². A sweep applies the P(M) = 1 + M Q(M) of `sweep_polynomial`:
stages find y = Q(M) b, and one flux per face, f (a_R y_L - a_L y_R), is rounded to the integer
quanta in which the density is stored: mass is conserved to the last bit on any number of ranks.
M is symmetric and |P| <= 1, so Σ b² = Σ n² / exp(-V), the distance from equilibrium, never rises.

Sweeps take many cells a call, rows behind each other: a call costs as much as some hundred cells.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import borrowing_kernel

Array = NDArray[Any]

LINE = 16  # cells before and after those that a sweep along x works on, so that loops stay aligned
_CACHE_LINE_BYTES = 64


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros whose first element begins a cache line, as full-width loads like it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _CACHE_LINE_BYTES, np.uint8)
    skip = -memory.ctypes.data % _CACHE_LINE_BYTES
    zeros: Array = memory[skip : skip + size].view(dtype).reshape(shape)
    return zeros


@borrowing_kernel
def copy_row(row: Array, out: Array) -> None:
    """out = row."""
    for i in range(out.size):
        out[i] = row[i]


@borrowing_kernel
def add_stage(
    b: Array,
    w: Array,
    before: Array,  # y one cell before
    here: Array,  # y
    after: Array,  # y one cell after
    own: Any,
    near: Any,
    out: Array,  # overwritten
) -> None:
    """out = b + own y + near (y_- + y_+ - w y), on as many cells as `out` has."""
    for i in range(out.size):
        spread = before[i] + after[i] - w[i] * here[i]
        out[i] = b[i] + own * here[i] + near * spread


@borrowing_kernel
def neighbours_over_own(before: Array, after: Array, inverse: Array, w: Array) -> None:
    """w = (a_- + a_+) / a, overwritten."""
    for i in range(w.size):
        w[i] = (before[i] + after[i]) * inverse[i]


@borrowing_kernel
def over_own(count: Array, quantum: Any, inverse: Array, b: Array) -> None:
    """b = n / a, overwritten."""
    real = b.dtype.type
    for i in range(b.size):
        b[i] = quantum * real(count[i]) * inverse[i]


@borrowing_kernel
def cross_faces(
    a_here: Array, a_after: Array, y_here: Array, y_after: Array, scale: Any, flux: Array
) -> None:
    """flux = quanta that cross from each cell to the one after it, overwritten."""
    integer = flux.dtype.type
    for i in range(flux.size):
        flux[i] = integer(np.rint(scale * (a_after[i] * y_here[i] - a_here[i] * y_after[i])))


@borrowing_kernel
def settle(count: Array, inflow: Array, outflow: Array, out: Array) -> None:
    """out = count + inflow - outflow, in whole quanta."""
    for i in range(out.size):
        out[i] = count[i] + inflow[i] - outflow[i]


@borrowing_kernel
def sweep_along_x(
    count: Array,  # (LINE + cells + LINE,)   rows in quanta behind each other, swept in place
    a: Array,  # (LINE + cells + LINE,)   exp(-V/2)
    inverse: Array,  # (LINE + cells + LINE,)   exp(V/2)
    quantum: Any,
    stages: Array,  # (K - 1, 2)   of SweepPolynomial
    scale: Any,  # D dt / h² / quantum * weight
    scratch: Array,  # (4, >= LINE + cells + LINE)
    flux: Array,  # (>= 1 + cells,)   quanta
) -> None:
    """One sweep of some rows, each with K or more periodic ghosts at either end.

    Ghosts end up wrong: the outermost lack a neighbour, and are one cell further in every stage.
    """
    size = count.size
    cells = size - 2 * LINE
    first, last = LINE - 1, LINE + 1
    all_b, all_w, y, z = scratch[0], scratch[1], scratch[2], scratch[3]
    over_own(count, quantum, inverse, all_b[:size])
    b, w = all_b[LINE:], all_w[LINE : LINE + cells]
    neighbours_over_own(a[first:], a[last:], inverse[LINE:], w)
    own, near = stages[0, 0], stages[0, 1]
    add_stage(b, w, all_b[first:], b, all_b[last:], own, near, y[LINE : LINE + cells])
    for stage in range(1, stages.shape[0]):
        own, near = stages[stage, 0], stages[stage, 1]
        add_stage(b, w, y[first:], y[LINE:], y[last:], own, near, z[LINE : LINE + cells])
        y, z = z, y
    cross_faces(a[first:], a[LINE:], y[first:], y[LINE:], scale, flux[: cells + 1])
    own_count = count[LINE : LINE + cells]
    settle(own_count, flux, flux[1:], own_count)


@borrowing_kernel
def sweep_along_y(
    count: Array,  # (K + 1 + height) * width   quanta, the last `height` rows of which are new
    a: Array,  # (K + 1 + height) * width   exp(-V/2)
    b: Array,  # (K + 1 + height) * width   n / a
    w: Array,  # (K + height) * width   (a_- + a_+) / a along y
    height: int,
    width: int,
    stages: Array,  # (K - 1, 2)   of SweepPolynomial
    scale: Any,  # D dt / h² / quantum * weight
    scratch: Array,  # (2, >= (2 + height) * width)
    flux: Array,  # (>= (1 + height) * width,)   quanta
    kept: Array,  # (K - 1, 2 width)   last two rows of every stage, of the block before
) -> None:
    """Advance every stage of a tile of columns by `height` rows, each one row behind the other.

    Rows of a tile lie behind each other. Those up to K before the new ones end up swept, in place
    in `count`. The first rows to enter have no row before them: what becomes of those, and of the
    K that follow, is never looked at.
    """
    degree = stages.shape[0] + 1
    y, z = scratch[0], scratch[1]
    new, ends = slice(2 * width, (2 + height) * width), slice(height * width, (2 + height) * width)
    first = degree * width
    before, here, after = b[first - width :], b[first:], b[first + width :]
    for stage in range(degree - 1):
        lag = first - stage * width
        own, near = stages[stage, 0], stages[stage, 1]
        add_stage(b[lag:], w[lag:], before, here, after, own, near, y[new])
        copy_row(kept[stage], y[: 2 * width])
        copy_row(y[ends], kept[stage])
        before, here, after = y, y[width:], y[2 * width :]
        y, z = z, y
    cross_faces(a, a[width:], before, here, scale, flux[: (height + 1) * width])
    finished = count[width : (1 + height) * width]
    settle(finished, flux, flux[width:], finished)


class Tiles(NamedTuple):
    """Columns of a slab for the sweep along y. Rows of a tile lie behind each other."""

    columns: int
    quanta: Array  # (tiles, rows * columns)   densities
    a: Array  # (tiles, rows * columns)   exp(-V/2)
    b: Array  # (tiles, rows * columns)   n / a
    w: Array  # (tiles, rows * columns)   (a_- + a_+) / a along y
    kept: Array  # (tiles, degree - 1, 2 * columns)   of `sweep_along_y`


def make_tiles(
    nx: int, columns: int, block_rows: int, degree: int, integer: Any, real: Any
) -> Tiles:
    """Tiles of rows of nx cells, for `block_rows` new ones and sweeps of up to `degree`."""
    tiles, cells = -(-nx // columns), (degree + 1 + block_rows) * columns
    return Tiles(
        columns=columns,
        quanta=aligned_zeros((tiles, cells), integer),
        a=aligned_zeros((tiles, cells), real),
        b=aligned_zeros((tiles, cells), real),
        w=aligned_zeros((tiles, cells), real),
        kept=aligned_zeros((tiles, degree - 1, 2 * columns), real),
    )


@borrowing_kernel
def deal_row(
    slot: int,  # of the row in every tile
    count: Array,  # (nx,)   quanta
    quantum: Any,
    a: Array,  # (nx,)   exp(-V/2) of this row
    inverse: Array,  # (nx,)   exp(V/2) of this row
    inverse_before: Array,  # (nx,)   and of the one before
    a_before: Array,  # (nx,)   exp(-V/2) of the one before that
    tiles: Tiles,
) -> None:
    """Hand a row to the tiles, and w of the row before, which has now both its neighbours."""
    nx, columns = count.size, tiles.columns
    for tile in range(tiles.quanta.shape[0]):
        column = tile * columns
        width = min(columns, nx - column)
        line = slice(slot * columns, slot * columns + width)
        before = slice((slot - 1) * columns, (slot - 1) * columns + width)
        over_own(count[column:], quantum, inverse[column:], tiles.b[tile, line])
        copy_row(count[column:], tiles.quanta[tile, line])
        copy_row(a[column:], tiles.a[tile, line])
        neighbours_over_own(
            a_before[column:], a[column:], inverse_before[column:], tiles.w[tile, before]
        )


@borrowing_kernel
def keep_last(flat: Array, end: int, kept: int) -> None:
    """Move the `kept` elements before `end` to the beginning."""
    copy_row(flat[end - kept :], flat[:kept])


@borrowing_kernel
def sweep_tiles(
    tiles: Tiles,
    height: int,  # new rows
    stages: Array,
    scale: Any,
    scratch: Array,
    flux: Array,
    skipped: int,
    density: Array,  # (.., nx)   quanta
    line: int,  # of `density`, to take the row K before the new ones; `skipped` rows are left out
) -> None:
    """Advance the sweep along y of all tiles by the rows dealt to them since the last call."""
    nx, columns = density.shape[1], tiles.columns
    carried = (stages.shape[0] + 2) * columns
    end = carried + height * columns
    for tile in range(tiles.quanta.shape[0]):
        count, a, b, w = tiles.quanta[tile], tiles.a[tile], tiles.b[tile], tiles.w[tile]
        sweep_along_y(
            count, a, b, w, height, columns, stages, scale, scratch, flux, tiles.kept[tile]
        )
        column = tile * columns
        width = min(columns, nx - column)
        for r in range(skipped, height):
            copy_row(count[(r + 1) * columns :], density[line + r, column : column + width])
        keep_last(count, end, carried)
        keep_last(a, end, carried)
        keep_last(b, end, carried)
        keep_last(w, end, carried)
