"""Separable Gaussian filters on a slab: taps of a prescribed variance, rows of x and y passes."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import borrowing_kernel, inlined, kernel

Array = NDArray[Any]

CUTOFF_SIGMAS = 4.5
NARROWEST_SIGMA = 0.45  # in grid spacings; a narrower Gaussian is no longer one on the grid


def gaussian_taps(sigma_cells: float, cutoff_sigmas: float = CUTOFF_SIGMAS) -> NDArray[np.float64]:
    """One side (2 m + 1 symmetric) of a discrete Gaussian, (m + 1,), summing to 1 with its mirror.

    The taps are adjusted so that their discrete variance is sigma² exactly. Below NARROWEST_SIGMA
    three taps of that variance are all the grid can hold; sigma = 0 gives the identity.
    """
    if not sigma_cells >= 0:
        raise ValueError(f"a standard deviation must be >= 0, got {sigma_cells}")
    if sigma_cells == 0:
        return np.ones(1)
    if sigma_cells < NARROWEST_SIGMA:
        return np.array([1 - sigma_cells**2, sigma_cells**2 / 2])
    reach = max(2, math.ceil(cutoff_sigmas * sigma_cells))
    offset = np.arange(reach + 1)
    width = sigma_cells
    taps = np.ones(1)
    for _ in range(60):
        taps = np.exp(-0.5 * (offset / width) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum()
        variance = 2 * (taps * offset**2).sum()
        width *= math.sqrt(sigma_cells**2 / variance)
    return taps


@inlined
def filter_padded_row(padded: Array, taps: Array, out: Array, count: int) -> None:
    """out[i] = Σ_t taps[|t|] padded[i + m + t]; `padded` has m ghost cells at either end."""
    reach = taps.size - 1
    middle = padded[reach:]
    for i in range(count):
        out[i] = taps[0] * middle[i]
    for t in range(1, reach + 1):
        tap = taps[t]
        # Slices, not offsets: the compiler must see that no index is negative to vectorise.
        before, after = padded[reach - t :], padded[reach + t :]
        for i in range(count):
            out[i] += tap * (before[i] + after[i])


@kernel
def filter_along_x(
    field: Array,  # (layers, halo + rows + halo, nx)   own rows filtered in place
    halo: int,
    taps: Array,
) -> None:
    """Filter the slab's own rows along x, periodically."""
    reach = taps.size - 1
    padded = np.empty(field.shape[2] + 2 * reach, field.dtype)
    _filter_rows(field, halo, taps, padded)


@borrowing_kernel
def _filter_rows(field: Array, halo: int, taps: Array, padded: Array) -> None:
    layers, padded_rows, nx = field.shape
    reach = taps.size - 1
    for layer in range(layers):
        for r in range(halo, padded_rows - halo):
            row = field[layer, r]
            inner = padded[reach:]
            for i in range(nx):
                inner[i] = row[i]
            # Outwards from the row, so that a reach beyond the whole row wraps around it again.
            for i in range(reach):
                padded[reach - 1 - i] = padded[nx + reach - 1 - i]
                padded[nx + reach + i] = padded[reach + i]
            filter_padded_row(padded, taps, row, nx)


@inlined
def filter_column_row(
    field: Array,  # (rows, nx)   one layer with halo
    row: int,  # index into `field`, halo included
    taps: Array,
    out: Array,  # (nx,)        overwritten
) -> None:
    """out = Σ_t taps[|t|] field[row + t], a row of the y pass."""
    nx = out.size
    for i in range(nx):
        out[i] = taps[0] * field[row, i]
    for t in range(1, taps.size):
        tap = taps[t]
        for i in range(nx):
            out[i] += tap * (field[row - t, i] + field[row + t, i])
