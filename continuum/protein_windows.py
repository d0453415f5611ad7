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
from continuum.protein_lipid_coupling import PotentialTable, blend_segment, spline_weights
from continuum.spline_lanes import LANES

Array = NDArray[Any]


@kernel
def fill_windows(
    position: Array,  # (beads, 2)   nm
    state: Array,  # (beads,)     present beads only
    table: PotentialTable,
    spacing_nm: float,
    windows: Array,  # (active, beads, side, side)   kT, overwritten
    corners: Array,  # (beads, 2)   row and column of each first cell, may lie outside; overwritten
) -> None:
    """u_{s(p),a}(|x - R_p|) at the cells around each bead, zero beyond the cutoff."""
    active, beads, side, _ = windows.shape
    node = np.empty(side + LANES, np.int64)
    weight = np.zeros((4, side + LANES), table.coefficient.dtype)
    blended = np.empty((table.coefficient.shape[2], side + LANES), table.coefficient.dtype)
    intervals = table.coefficient.shape[1] - 4
    for p in range(beads):
        first_row = math.ceil((position[p, 1] - table.cutoff_nm) / spacing_nm - 0.5)
        first_column = math.ceil((position[p, 0] - table.cutoff_nm) / spacing_nm - 0.5)
        corners[p, 0], corners[p, 1] = first_row, first_column
        for r in range(side):
            dy = (first_row + r + 0.5) * spacing_nm - position[p, 1]
            for c in range(side):
                dx = (first_column + c + 0.5) * spacing_nm - position[p, 0]
                q = (dx * dx + dy * dy) * table.per_spacing
                if q < intervals:
                    node[c] = int(q)
                    w0, w1, w2, w3 = spline_weights(q - node[c])
                else:
                    node[c] = 0
                    w0, w1, w2, w3 = 0.0, 0.0, 0.0, 0.0
                weight[0, c], weight[1, c], weight[2, c], weight[3, c] = w0, w1, w2, w3
            blend_segment(blended, side, active, table.coefficient[state[p]], node, weight)
            for a in range(active):
                row, values = windows[a, p, r], blended[a]
                for c in range(side):
                    row[c] = values[c]


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
        self.windows: Array = np.zeros((1, 0, 1, 1), dtype)
        self.corners: Array = np.zeros((0, 2), np.int64)
        self.row_start: Array = np.zeros(slab.rows + 2 * halo + 1, np.int64)
        self.beads_of_row: Array = np.empty(0, np.int64)
        self._no_start = np.zeros_like(self.row_start)

    def refresh(self, position: Array, state: Array, table: PotentialTable) -> None:
        """Evaluate the windows for beads at `position` (2P, 2) in `state` (2P,), -1 if absent."""
        slab, halo = self._slab, self._halo
        side = min(math.floor(2 * table.cutoff_nm / self._spacing_nm) + 1, slab.cells)
        near = self._near(position, state, table.cutoff_nm)
        self.species = table.species
        shape = (max(len(table.species), 1), len(near), side, side)
        if self.windows.shape != shape:
            self.windows = np.zeros(shape, self._dtype)
            self.corners = np.zeros((len(near), 2), np.int64)
        fill_windows(
            position[near], state[near], table, self._spacing_nm, self.windows, self.corners
        )
        self.corners %= slab.cells
        self.row_start, self.beads_of_row = beads_of_rows(
            self.corners, side, slab.first_row - halo, slab.rows + 2 * halo, slab.cells
        )

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
        distance = np.abs(position[present, 1] - centre_nm)
        distance = np.minimum(distance, side_nm - distance)
        reach_nm = (slab.rows / 2 + self._halo + 1) * h + cutoff_nm
        near: Array = present[distance <= reach_nm]
        return near
