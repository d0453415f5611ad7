"""Cubic B-splines between the grid and one twice as coarse: the adjoint pair P^T and P.

Potentials that are smooth on the coarse grid are evaluated there: P^T gathers densities, P spreads
the result, so that P C P^T stays symmetric and the discrete free energy keeps an exact gradient.
Cell centres of the fine grid lie a quarter coarse spacing left and right of the coarse ones. One
application of P or P^T blurs by a variance of h²/3 per axis, h the coarse spacing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import borrowing_kernel, inlined, kernel

Array = NDArray[Any]

REACH = 4  # fine rows (and columns) that P^T looks beyond a coarse cell's own two
BLUR_VARIANCE = 1.0 / 3.0  # of one transfer, in squared coarse spacings


def cubic_b_spline(t: float) -> float:
    """The cubic B-spline of unit knots at distance t from its centre."""
    t = abs(t)
    if t < 1:
        return 2 / 3 - t * t + t**3 / 2
    return (2 - t) ** 3 / 6 if t < 2 else 0.0


# Values at the distances 1/4, 3/4, 5/4, 7/4 coarse spacings.
WEIGHTS = tuple(cubic_b_spline(0.25 + 0.5 * i) for i in range(4))


@inlined
def coarsen_row(row: Array, weights: Array, coarse: Array) -> None:
    """coarse[J] = ½ Σ_f P[f, J] row[f]; `row` has REACH ghost cells at either end."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    half = weights.dtype.type(0.5)
    for j in range(coarse.size):
        i = 2 * j + 4
        coarse[j] = half * (
            a * (row[i] + row[i + 1])
            + b * (row[i - 1] + row[i + 2])
            + c * (row[i - 2] + row[i + 3])
            + d * (row[i - 3] + row[i + 4])
        )


@inlined
def refine_row(coarse: Array, weights: Array, row: Array, count: int) -> None:
    """row[f] = Σ_J P[f, J] coarse[J] for `count` coarse cells; 2 ghost cells at either end."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for j in range(count):
        far_left, left, centre = coarse[j], coarse[j + 1], coarse[j + 2]
        right, far_right = coarse[j + 3], coarse[j + 4]
        row[2 * j] = a * centre + b * left + c * right + d * far_left
        row[2 * j + 1] = a * centre + b * right + c * left + d * far_right


@borrowing_kernel
def refine_rows_between(
    coarse: Array,  # (halo + rows/2 + halo, nx/2)   halo >= 2 rows, exchanged
    halo: int,
    fine_row: int,  # relative to the slab's first fine row; may lie in the halo
    weights: Array,
    padded: Array,  # (nx/2 + 4,)     scratch
    row: Array,  # (nx,)            overwritten with row `fine_row` of P coarse
) -> None:
    """One fine row of P applied to a coarse field."""
    width = coarse.shape[1]
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    centre = fine_row // 2 + halo
    side = 1 if fine_row % 2 else -1
    near, far, farther = centre + side, centre - side, centre + 2 * side
    for j in range(width):
        padded[j + 2] = (
            a * coarse[centre, j]
            + b * coarse[near, j]
            + c * coarse[far, j]
            + d * coarse[farther, j]
        )
    padded[0], padded[1] = padded[width], padded[width + 1]
    padded[width + 2], padded[width + 3] = padded[2], padded[3]
    refine_row(padded, weights, row, width)


@borrowing_kernel
def spread_row(
    coarse: Array,
    halo: int,
    row: int,
    factor: int,
    spline: Array,
    padded: Array,
    out: Array,
) -> None:
    """One fine row of P coarse; a copy where the grids are the same."""
    if factor == 1:
        for i in range(out.size):
            out[i] = coarse[row + halo, i]
    else:
        refine_rows_between(coarse, halo, row, spline, padded, out)


@kernel
def coarsen(
    fine: Array,  # (layers, REACH + rows + REACH, nx)   halo exchanged
    weights: Array,
    coarse_halo: int,
    coarse: Array,  # (layers, halo + rows/2 + halo, nx/2)   own rows overwritten
) -> None:
    """coarse = ¼ P^T fine on the slab's own rows, layer by layer."""
    layers, padded_rows, nx = fine.shape
    rows = padded_rows - 8
    width = nx // 2
    ring = np.empty((8, width), fine.dtype)
    row = np.empty(nx + 8, fine.dtype)
    for layer in range(layers):
        for r in range(1, padded_rows):
            for i in range(nx):
                row[i + 4] = fine[layer, r, i]
            for i in range(4):
                row[i] = row[nx + i]
                row[nx + 4 + i] = row[4 + i]
            coarsen_row(row, weights, ring[r % 8])
            if r >= 8 and r % 2 == 0:
                gather_ring(ring, r, weights, coarse[layer, coarse_halo + (r - 8) // 2])
    if rows % 2:
        raise ValueError("a slab to coarsen must hold an even number of rows")


@inlined
def gather_ring(ring: Array, last: int, weights: Array, out: Array) -> None:
    """Combine the eight rows last-7 .. last, kept modulo 8, with the weights of P^T."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    half = weights.dtype.type(0.5)
    r0, r1, r2, r3 = (last - 7) % 8, (last - 6) % 8, (last - 5) % 8, (last - 4) % 8
    r4, r5, r6, r7 = (last - 3) % 8, (last - 2) % 8, (last - 1) % 8, last % 8
    for j in range(out.size):
        out[j] = half * (
            a * (ring[r3, j] + ring[r4, j])
            + b * (ring[r2, j] + ring[r5, j])
            + c * (ring[r1, j] + ring[r6, j])
            + d * (ring[r0, j] + ring[r7, j])
        )
