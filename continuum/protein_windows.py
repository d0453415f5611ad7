"""Protein-lipid potentials on the grid, one square window of cells around each bead.

A window is evaluated once a step for all species that feel the proteins and added to rows of the
potential when the sweeps pass them, so no field of the whole membrane is stored.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import kernel
from continuum.decomposition import Slab
from continuum.protein_lipid_coupling import (
    PotentialTable,
    blend_segment,
    covered,
    spline_weights,
)
from continuum.spline_lanes import LANES

Array = NDArray[Any]


@kernel
def frame_windows(
    position: Array,  # (moments, beads, 2)   nm
    cutoff_nm: float,
    spacing_nm: float,
    cells: int,
    corners: Array,  # (beads, 2)   row and column of each first cell, may lie outside; overwritten
) -> int:
    """Place windows around all a bead's positions; returns the largest distance of first cells."""
    moments, beads, _ = position.shape
    largest = 0
    for p in range(beads):
        for axis in range(2):
            start, _ = covered(position[0, p, 1 - axis], cutoff_nm, spacing_nm, cells)
            least, most = 0, 0
            for m in range(1, moments):
                first, _ = covered(position[m, p, 1 - axis], cutoff_nm, spacing_nm, cells)
                away = (first - start + cells // 2) % cells - cells // 2
                least, most = min(least, away), max(most, away)
            corners[p, axis] = start + least
            largest = max(largest, most - least)
    return largest


@kernel
def fill_windows(
    position: Array,  # (moments, beads, 2)   nm
    share: Array,  # (moments, active)   weight of each moment
    state: Array,  # (beads,)     present beads only
    table: PotentialTable,
    spacing_nm: float,
    cells: int,
    corners: Array,  # (beads, 2)   of `frame_windows`
    first_line: int,  # global index of the first row that is wanted, may be negative
    lines: int,  # that are wanted; others are left 0
    windows: Array,  # (active, beads, side, side)   kT, overwritten
) -> None:
    """Σ_m share_m u_{s(p),a}(|x - R_pm|) at the cells around each bead, zero beyond the cutoff."""
    active, beads, _, _ = windows.shape
    side = min(math.floor(2 * table.cutoff_nm / spacing_nm) + 1, cells)
    node = np.empty(side + LANES, np.int64)
    weight = np.zeros((4, side + LANES), table.coefficient.dtype)
    blended = np.empty((table.coefficient.shape[2], side + LANES), table.coefficient.dtype)
    intervals = table.coefficient.shape[1] - 4
    windows[:] = 0
    for p in range(beads):
        for m in range(position.shape[0]):
            x, y = position[m, p, 0], position[m, p, 1]
            first_row, rows = covered(y, table.cutoff_nm, spacing_nm, cells)
            for r in range(rows):
                if (first_row + r - first_line) % cells >= lines:
                    continue
                dy = (first_row + r + 0.5) * spacing_nm - y
                half_width = math.sqrt(max(table.cutoff_nm * table.cutoff_nm - dy * dy, 0.0))
                first_column, columns = covered(x, half_width, spacing_nm, cells)
                for c in range(columns):
                    dx = (first_column + c + 0.5) * spacing_nm - x
                    q = (dx * dx + dy * dy) * table.per_spacing
                    if q < intervals:
                        node[c] = int(q)
                        w0, w1, w2, w3 = spline_weights(q - node[c])
                    else:
                        node[c] = 0
                        w0, w1, w2, w3 = 0.0, 0.0, 0.0, 0.0
                    weight[0, c], weight[1, c], weight[2, c], weight[3, c] = w0, w1, w2, w3
                blend_segment(blended, columns, active, table.coefficient[state[p]], node, weight)
                line = (first_row + r - corners[p, 0]) % cells
                column = (first_column - corners[p, 1]) % cells
                before_border = min(columns, cells - column)
                for a in range(active):
                    row, values, part = windows[a, p, line], blended[a], share[m, a]
                    target = row[column:]
                    for c in range(before_border):
                        target[c] += part * values[c]
                    rest = values[before_border:]
                    for c in range(columns - before_border):
                        row[c] += part * rest[c]


@kernel
def beads_of_rows(
    corners: Array,  # (beads, 2)
    side: int,
    first_row: int,  # global index of the first of the rows asked for, may be negative
    rows: int,
    cells: int,
) -> tuple[Array, Array]:
    """(start (rows + 1,), bead): the windows that cross each row, in the order of the beads."""
    start = np.zeros(rows + 1, np.int64)
    for p in range(len(corners)):
        for r in range(rows):
            if (first_row + r - corners[p, 0]) % cells < side:
                start[r + 1] += 1
    for r in range(rows):
        start[r + 1] += start[r]
    bead = np.empty(start[rows], np.int64)
    cursor = start[:-1].copy()
    for p in range(len(corners)):
        for r in range(rows):
            if (first_row + r - corners[p, 0]) % cells < side:
                bead[cursor[r]] = p
                cursor[r] += 1
    return start, bead


@kernel
def add_weighted_windows(
    windows: Array,  # (active, beads, side, side)
    weight: Array,  # (active,)
    corners: Array,  # (beads, 2)
    first_row: int,  # global index of the slab's first row
    field: Array,  # (halo + rows + halo, nx)   own rows added to
    halo: int,
) -> None:
    """field += Σ_p Σ_a weight_a u_{s(p),a}(|x - R_p|) on the slab's own rows."""
    active, beads, side, _ = windows.shape
    rows, nx = field.shape[0] - 2 * halo, field.shape[1]
    line = np.empty(side, field.dtype)
    for p in range(beads):
        for r in range(side):
            own = (corners[p, 0] + r - first_row) % nx
            if own >= rows:
                continue
            line[:] = 0
            for a in range(active):
                for c in range(side):
                    line[c] += weight[a] * windows[a, p, r, c]
            for c in range(side):
                field[own + halo, (corners[p, 1] + c) % nx] += line[c]


class ProteinWindows:
    """The windows of all beads near one slab, refreshed from the beads' positions."""

    def __init__(self, slab: Slab, halo: int, spacing_nm: float, dtype: Any) -> None:
        self._slab, self._halo, self._spacing_nm, self._dtype = slab, halo, spacing_nm, dtype
        self.species: Array = np.empty(0, np.int64)
        self._memory: Array = np.empty(0, dtype)
        self.windows: Array = np.zeros((1, 0, 1, 1), dtype)
        self.corners: Array = np.zeros((0, 2), np.int64)
        self.row_start: Array = np.zeros(slab.rows + 2 * halo + 1, np.int64)
        self.beads_of_row: Array = np.empty(0, np.int64)
        self._no_start = np.zeros_like(self.row_start)

    def refresh(self, position: Array, share: Array, state: Array, table: PotentialTable) -> None:
        """Evaluate the windows for beads in `state` (2P,), -1 if absent.

        A bead acts on species i from `position` (M, 2P, 2) with weights `share` (M, S).
        """
        slab, halo, h = self._slab, self._halo, self._spacing_nm
        near = self._near(position, state, table.cutoff_nm)
        position = position[:, near]
        self.species = table.species
        if len(self.corners) != len(near):
            self.corners = np.zeros((len(near), 2), np.int64)
        side = math.floor(2 * table.cutoff_nm / h) + 1
        side += frame_windows(position, table.cutoff_nm, h, slab.cells, self.corners)
        side = min(side, slab.cells)
        self.windows = self._room((max(len(table.species), 1), len(near), side, side))
        part = np.ascontiguousarray(share[:, table.species], self._dtype)
        first_line, lines = slab.first_row - halo, slab.rows + 2 * halo
        fill_windows(
            position,
            part,
            state[near],
            table,
            h,
            slab.cells,
            self.corners,
            first_line,
            lines,
            self.windows,
        )
        self.corners %= slab.cells
        self.row_start, self.beads_of_row = beads_of_rows(
            self.corners, side, first_line, lines, slab.cells
        )

    def _room(self, shape: tuple[int, ...]) -> Array:
        """An array of `shape` in memory that is kept: sides differ from step to step."""
        size = math.prod(shape)
        if size > self._memory.size:
            self._memory = self.windows = np.empty(0, self._dtype)  # not both at once
            self._memory = np.empty(size + size // 8, self._dtype)
        room: Array = self._memory[:size].reshape(shape)
        return room

    def of_species(self, species: int) -> tuple[Array, Array, Array]:
        """Windows (beads, side, side) on one species and, by row, which of them to add."""
        lane = np.flatnonzero(self.species == species)
        if len(lane):
            return self.windows[lane[0]], self.row_start, self.beads_of_row
        return self.windows[0], self._no_start, self.beads_of_row[:0]

    def _near(self, position: Array, state: Array, cutoff_nm: float) -> Array:
        slab, h = self._slab, self._spacing_nm
        present = np.flatnonzero(state >= 0)
        centre_nm = (slab.first_row + slab.rows / 2) * h
        side_nm = slab.cells * h
        distance = np.abs(position[:, present, 1] - centre_nm)
        distance = np.minimum(distance, side_nm - distance).min(axis=0)
        reach_nm = (slab.rows / 2 + self._halo + 1) * h + cutoff_nm
        near: Array = present[distance <= reach_nm]
        return near
