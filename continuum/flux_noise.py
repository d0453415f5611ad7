"""Conserved noise of the lipid fluxes: ∇·(ε sqrt(2 D n) G_l[W]) (membrane-physics 7.4).

White noise is drawn per cell of an auxiliary grid from a counter keyed by seed, step and global
cell, blurred, and spread to the faces of the grid with cubic B-splines, so that its spectrum is
that of a Gaussian filter of standard deviation l. A kick of one instant is spread by the sweeps
that follow it; narrowing a species' filter to variance l² - D dt gives each mode the stationary
variance of continuous noise up to the factor a / sinh a, a = D k² dt.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import borrowing_kernel, inlined, kernel
from continuum.decomposition import Slab
from continuum.gaussian_filter import (
    filter_column_row,
    filter_padded_row,
    gaussian_taps,
)
from continuum.grid_transfer import BLUR_VARIANCE, cubic_b_spline
from continuum.philox import LIPID_NOISE, key_of, philox

Array = NDArray[Any]

FACTORS = (4, 2, 1)
LARGEST_OUTFLOW = 0.24  # share of a cell's density that may leave through one face in a kick
_TO_UNIT_VARIANCE = math.sqrt(12.0) * 2.0**-32


@dataclass(frozen=True, slots=True, eq=False)
class SplinePositions:
    """Cubic B-spline weights of the `factor` fine positions within a coarse cell J.

    Position p draws on the coarse cells J + first[p] .. J + first[p] + 3.
    """

    first: NDArray[np.int64]  # (factor,)
    weights: Array  # (factor, 4)


def spline_positions(factor: int, at_faces: bool, dtype: Any) -> SplinePositions:
    """Positions of fine cell centres, or of fine cells' upper faces, in a coarse cell."""
    offsets = (np.arange(factor) + (1.0 if at_faces else 0.5)) / factor - 0.5
    first = np.floor(offsets).astype(np.int64) - 1
    weights = [
        [cubic_b_spline(offset - (start + t)) for t in range(4)]
        for offset, start in zip(offsets, first, strict=True)
    ]
    return SplinePositions(first, np.array(weights, dtype))


@borrowing_kernel
def refine_noise_row(
    noise: Array,  # (halo + .. + halo, nx / factor)
    halo: int,
    row: int,  # fine row relative to the slab, may be negative
    first_y: Array,  # (factor,)     SplinePositions along y
    weights_y: Array,  # (factor, 4)
    first_x: Array,  # (factor,)     and along x
    weights_x: Array,  # (factor, 4)
    padded: Array,  # (nx / factor + 4,)   scratch
    phases: Array,  # (factor, nx / factor)   scratch
    out: Array,  # (nx,)   overwritten
) -> None:
    """Spread noise to one row of the fine grid."""
    width = noise.shape[1]
    factor = first_y.size
    coarse_row = row // factor
    phase = row - coarse_row * factor
    base = coarse_row + halo + first_y[phase]
    c0, c1, c2, c3 = (
        weights_y[phase, 0],
        weights_y[phase, 1],
        weights_y[phase, 2],
        weights_y[phase, 3],
    )
    for j in range(width):
        padded[j + 2] = (
            c0 * noise[base, j]
            + c1 * noise[base + 1, j]
            + c2 * noise[base + 2, j]
            + c3 * noise[base + 3, j]
        )
    padded[0], padded[1] = padded[width], padded[width + 1]
    padded[width + 2], padded[width + 3] = padded[2], padded[3]
    for p in range(factor):
        shifted = padded[2 + first_x[p] :]
        w0, w1, w2, w3 = weights_x[p, 0], weights_x[p, 1], weights_x[p, 2], weights_x[p, 3]
        for j in range(width):
            phases[p, j] = (
                w0 * shifted[j] + w1 * shifted[j + 1] + w2 * shifted[j + 2] + w3 * shifted[j + 3]
            )
    # Constant strides, one loop a factor, so that the compiler can interleave vectors.
    if factor == 4:
        for j in range(width):
            out[4 * j] = phases[0, j]
            out[4 * j + 1] = phases[1, j]
            out[4 * j + 2] = phases[2, j]
            out[4 * j + 3] = phases[3, j]
    elif factor == 2:
        for j in range(width):
            out[2 * j] = phases[0, j]
            out[2 * j + 1] = phases[1, j]
    else:
        for j in range(width):
            out[j] = phases[0, j]


@inlined
def kick_flux(donor: Any, receiver: Any, noise: Any, amplitude: Any, largest: Any) -> Any:
    """Quanta crossing a face: amplitude sqrt(n_L + n_R) noise, bounded by what the donor holds.

    `amplitude` is ε sqrt(D dt) / h / sqrt(quantum), `donor` and `receiver` are quanta as floats.
    """
    flux = amplitude * np.sqrt(donor + receiver) * noise
    return np.rint(min(max(flux, -largest * receiver), largest * donor))


@borrowing_kernel
def cross_rows(
    lower: Array,  # (nx,)   quanta
    upper: Array,
    noise: Array,  # (nx,)   of the faces between the two rows
    amplitude: Any,
    crossing: Array,  # (nx,)   quanta from the lower to the upper row, integers, overwritten
) -> None:
    """The noise of the y faces between two rows."""
    real, integer = noise.dtype.type, crossing.dtype.type
    largest = real(LARGEST_OUTFLOW)
    for i in range(crossing.size):
        crossing[i] = integer(
            kick_flux(real(lower[i]), real(upper[i]), noise[i], amplitude, largest)
        )


@borrowing_kernel
def kick_row(
    count: Array,  # (nx,)   quanta
    noise: Array,  # (nx,)   of the faces between i and i + 1
    amplitude: Any,
    below: Array,  # (nx,)   of `cross_rows` with the row below and the row above
    above: Array,
    flux: Array,  # (nx + 1,)   quanta, scratch
    out: Array,  # (nx,)   overwritten
) -> None:
    """out = a row after the noise of all its faces."""
    nx = count.size
    real, integer = noise.dtype.type, count.dtype.type
    largest = real(LARGEST_OUTFLOW)
    inner, after = flux[1:], count[1:]
    for i in range(nx - 1):
        inner[i] = integer(kick_flux(real(count[i]), real(after[i]), noise[i], amplitude, largest))
    last = kick_flux(real(count[nx - 1]), real(count[0]), noise[nx - 1], amplitude, largest)
    flux[0], flux[nx] = integer(last), integer(last)
    for i in range(nx):
        out[i] = count[i] + flux[i] - inner[i] + below[i] - above[i]


@borrowing_kernel
def draw_white_noise(
    field_group: int,
    first_row: int,  # global row of white[:, 0], may be negative
    cells: int,  # of the auxiliary grid
    step: int,
    key_0: Any,
    key_1: Any,
    scale: Any,  # standard deviation, nm⁻¹ (one over the auxiliary spacing)
    white: Array,  # (4, rows, cells)   overwritten
) -> None:
    """Four independent fields of uniform white noise of the given standard deviation."""
    factor = scale * white.dtype.type(_TO_UNIT_VARIANCE)
    step_low = np.uint32(step & 0xFFFFFFFF)
    purpose = np.uint32(LIPID_NOISE | (field_group << 8) | ((step >> 32) << 16))
    for r in range(white.shape[1]):
        row = (first_row + r) % cells
        for i in range(cells):
            w0, w1, w2, w3 = philox(step_low, np.uint32(row), np.uint32(i), purpose, key_0, key_1)
            white[0, r, i] = factor * np.int32(w0)
            white[1, r, i] = factor * np.int32(w1)
            white[2, r, i] = factor * np.int32(w2)
            white[3, r, i] = factor * np.int32(w3)


@kernel
def blur(
    white: Array,  # (rows + 2 reach, cells)   overwritten by its x pass
    taps: Array,  # (reach + 1,)
    out: Array,  # (rows, cells)
) -> None:
    """Separable Gaussian filter of one field, periodic in x."""
    reach = taps.size - 1
    cells = white.shape[1]
    padded = np.empty(cells + 2 * reach, white.dtype)
    for r in range(white.shape[0]):
        for i in range(cells):
            padded[i + reach] = white[r, i]
        for i in range(reach):
            padded[i] = padded[cells + i]
            padded[cells + reach + i] = padded[reach + i]
        filter_padded_row(padded, taps, white[r], cells)
    for r in range(out.shape[0]):
        filter_column_row(white, r + reach, taps, out[r])


class FluxNoise:
    """The noise of one slab: filters chosen from the model, fields redrawn every step."""

    def __init__(
        self,
        *,
        slab: Slab,
        sweep_halo: int,
        spacing_nm: float,
        diffusivity: Array,  # (S,)   nm² µs⁻¹
        amplitude: float,  # ε
        range_nm: float,  # l
        dt_us: float,
        seed: int,
        dtype: Any,
    ) -> None:
        """Raises ValueError where the step blurs more than the noise's own range."""
        self.enabled = amplitude > 0
        narrowest_nm2 = range_nm**2 - float(np.max(diffusivity)) * dt_us
        if self.enabled and not narrowest_nm2 > 0:
            limit_us = range_nm**2 / float(np.max(diffusivity))
            raise ValueError(
                f"time_step_us must be below {limit_us:.4g} for noise of range {range_nm} nm,"
                f" got {dt_us}"
            )
        self.factor = next(
            (f for f in FACTORS if self._sigma_cells(narrowest_nm2, f * spacing_nm) is not None), 0
        )
        if self.enabled and self.factor == 0:
            raise ValueError(
                f"noise_range_nm must be wide enough for a grid of {spacing_nm:.4g} nm and a step"
                f" of {dt_us} us, got {range_nm}"
            )
        if not self.enabled:
            self.factor = 1
        self.slab = slab.coarsened(self.factor)
        self.scale = np.dtype(dtype).type(1 / (self.factor * spacing_nm))
        self.halo = sweep_halo // self.factor + 3

        self.kick_amplitudes = amplitude * np.sqrt(diffusivity * dt_us) / spacing_nm
        self._key = key_of(seed)
        if not self.enabled:
            self.fields = np.zeros((len(diffusivity), 2, 1, 1), dtype)
            return
        self._taps = []
        for d in diffusivity:
            sigma = self._sigma_cells(range_nm**2 - float(d) * dt_us, self.factor * spacing_nm)
            self._taps.append(gaussian_taps(sigma or 0.0).astype(dtype))
        self._reach = max(len(taps) for taps in self._taps) - 1
        rows = self.slab.rows + 2 * self.halo
        self.fields = np.zeros((len(diffusivity), 2, rows, self.slab.cells), dtype)
        self._white = np.empty((4, rows + 2 * self._reach, self.slab.cells), dtype)

    @staticmethod
    def _sigma_cells(variance_nm2: float, spacing_nm: float) -> float | None:
        """Standard deviation of the taps on a grid of this spacing; None where it is too coarse."""
        variance = variance_nm2 / spacing_nm**2 - BLUR_VARIANCE
        return math.sqrt(variance) if variance >= 0 else None

    def draw(self, step: int) -> None:
        """Fill `fields` (S, 2, halo + rows + halo, cells) for one step; nothing where switched off.

        The rows beyond the slab are drawn too: a counter needs no neighbour.
        """
        if not self.enabled:
            return
        flat = self.fields.reshape(-1, *self.fields.shape[2:])
        first_row = self.slab.first_row - self.halo - self._reach
        for group in range(0, len(flat), 4):
            draw_white_noise(
                group // 4,
                first_row,
                self.slab.cells,
                step,
                *self._key,
                self.scale,
                self._white,
            )
            for member in range(min(4, len(flat) - group)):
                taps = self._taps[(group + member) // 2]
                spare = self._reach - (len(taps) - 1)
                rows = self._white.shape[1]
                blur(self._white[member, spare : rows - spare], taps, flat[group + member])
