"""Proteins feel lipids and lipids feel proteins: U = h² Σ_p Σ_i Σ_cells n_i u_{s(p),i}(|x - R_p|).

membrane-physics 1.2 and 7.6. One table serves both sides, so the force on a protein is the exact
gradient of the discrete energy that drives the lipids.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.linalg import solve_banded

from continuum.compilation import inlined, kernel
from continuum.parameters import RadialPotentials
from continuum.spline_lanes import LANES, blend_block

Float = NDArray[np.float32 | np.float64]
Quanta = NDArray[np.int32 | np.int64]
FORCE_QUANTUM = 2.0**-40  # kT/nm per unit of the integer partial forces
_FEWEST_INTERVALS, _MOST_INTERVALS = 128, 8192
_REFUSED_ERROR_KT = 0.1


class PotentialTable(NamedTuple):
    """u_{s,i} as a uniform cubic B-spline in s = r²: smooth at r = 0, no square root, C² inside.

    The weights of a cell are the same for all species, which lie next to each other. Kernels rely
    on lanes being a multiple of LANES.
    """

    coefficient: Float  # (n_states, n_intervals + 4, lanes) kT, node j at s = (j - 1) / per_spacing
    species: NDArray[np.int64]  # (active,) species with any u != 0; the first `active` lanes
    per_spacing: float  # nm^-2, intervals per unit of s
    cutoff_nm: float
    error_kt: float  # largest deviation from the given u at its radii and half way between


def potential_table(
    potentials: RadialPotentials,
    precision: type[np.float32] | type[np.float64] = np.float64,
    tolerance_kt: float = 1e-4,
) -> PotentialTable:
    """Tabulate u in s = r² with the coarsest spacing that meets the tolerance.

    The table ends at the cutoff with u = du/ds = 0, so that a cell that enters changes the energy
    smoothly. A u with a kink cannot meet the tolerance; the finest table is then taken.

    Raises ValueError if u cannot be followed to 0.1 kT (a cusp or features below 0.1 nm).
    """
    u, cutoff_nm = potentials.u, potentials.cutoff_nm
    species = np.flatnonzero(np.any(u != 0.0, axis=(0, 2)))
    given = CubicSpline(
        potentials.radii_nm, np.moveaxis(u[:, species], 2, 0), bc_type=("clamped", "natural")
    )
    radius = np.linspace(0.0, cutoff_nm, 2 * math.ceil(cutoff_nm / potentials.dr_nm) + 1)
    expected = given(radius)
    intervals = _FEWEST_INTERVALS
    while True:
        nodes = np.linspace(0.0, 1.0, intervals + 1) ** 0.5 * cutoff_nm
        coefficient = _spline_coefficients(given(nodes))
        error_kt = _largest_error(coefficient, radius / cutoff_nm, expected)
        if error_kt <= tolerance_kt or intervals == _MOST_INTERVALS:
            break
        intervals *= 2
    if not error_kt <= _REFUSED_ERROR_KT:
        raise ValueError(
            f"u must vary smoothly up to the cutoff of {cutoff_nm} nm, "
            f"got one that a table in r² misses by {error_kt:.3g} kT"
        )
    lanes = LANES * max(1, math.ceil(len(species) / LANES))
    padded = np.zeros((len(u), intervals + 4, lanes), precision)
    padded[:, :-1, : len(species)] = np.moveaxis(coefficient, 0, 1)
    return PotentialTable(padded, species, float(intervals / cutoff_nm**2), cutoff_nm, error_kt)


def _spline_coefficients(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n + 1, ...) values at the nodes -> (n + 3, ...) B-spline coefficients, zero at the end.

    (c_{j-1} + 4 c_j + c_{j+1}) / 6 = u_j, slope (c_{j+1} - c_{j-1}) / 2 given at both ends: by a
    fourth-order difference at s = 0, zero at the cutoff.
    """
    n = len(value) - 1
    banded = np.zeros((5, n + 3))
    banded[1, 2:], banded[2, 1:-1], banded[3, :-2] = 1 / 6, 4 / 6, 1 / 6
    banded[2, 0], banded[1, 1], banded[0, 2] = -0.5, 0.0, 0.5
    banded[4, n], banded[3, n + 1], banded[2, n + 2] = -0.5, 0.0, 0.5
    right = np.empty((n + 3, *value.shape[1:]))
    right[1:-1] = value
    right[-2:] = 0.0
    right[0] = np.tensordot([-25 / 12, 4.0, -3.0, 4 / 3, -0.25], value[:5], 1)
    flat = solve_banded((2, 2), banded, right.reshape(n + 3, -1))
    return np.asarray(flat.reshape(right.shape), np.float64)


def _largest_error(
    coefficient: NDArray[np.float64],
    radius: NDArray[np.float64],  # in units of the cutoff
    expected: NDArray[np.float64],
) -> float:
    intervals = len(coefficient) - 3
    q = radius**2 * intervals
    node = np.minimum(q.astype(np.int64), intervals - 1)
    t = (q - node).reshape(-1, *(1,) * (coefficient.ndim - 1))
    # An inlined kernel that is called from here would be compiled anew in every process.
    w = spline_weights.py_func(t)  # type: ignore[no-untyped-call]
    found = sum(w[k] * coefficient[node + k] for k in range(4))
    return float(np.max(np.abs(found - expected), initial=0.0))


@inlined
def spline_weights(t):  # type: ignore[no-untyped-def]
    """Uniform cubic B-spline weights at t in [0, 1) of an interval."""
    r = 1.0 - t
    w0 = r * r * r * (1.0 / 6.0)
    w3 = t * t * t * (1.0 / 6.0)
    w1 = 2.0 / 3.0 - t * t * (1.0 - 0.5 * t)
    return w0, w1, 1.0 - w0 - w1 - w3, w3


@inlined
def _slopes(t):  # type: ignore[no-untyped-def]
    """Derivatives of the weights with respect to t."""
    r = 1.0 - t
    d0 = -0.5 * r * r
    d3 = 0.5 * t * t
    d1 = t * (1.5 * t - 2.0)
    return d0, d1, -d0 - d1 - d3, d3


@inlined
def covered(centre, half_width, spacing, cells):  # type: ignore[no-untyped-def]
    """Cells with |x - centre| <= half_width along one axis: first (may be outside), number."""
    first = math.ceil((centre - half_width) / spacing - 0.5)
    last = math.floor((centre + half_width) / spacing - 0.5)
    return first, min(last - first + 1, cells)


@kernel
def beads_by_row(
    position: NDArray[np.float64],  # (2P, 2) nm
    state: NDArray[np.int8],  # (2P,) -1 absent
    cutoff_nm: float,
    spacing_nm: float,
    first_row: int,
    rows: int,
    total_rows: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Beads within the cutoff of each row of a slab, ascending: bead[offset[row] : offset[row+1]].

    `first_row` may be negative and the slab may pass the last row: rows are taken modulo the total.
    """
    offset = np.zeros(rows + 1, np.int64)
    cursor = np.empty(rows, np.int64)
    bead = np.empty(0, np.int64)
    for filling in (False, True):
        if filling:
            for row in range(rows):
                offset[row + 1] += offset[row]
                cursor[row] = offset[row]
            bead = np.empty(offset[rows], np.int64)
        for p in range(len(state)):
            if state[p] < 0:
                continue
            first, count = covered(position[p, 1], cutoff_nm, spacing_nm, total_rows)
            for unwrapped in range(first, first + count):
                row = (unwrapped - first_row) % total_rows
                while row < rows:
                    if filling:
                        bead[cursor[row]] = p
                        cursor[row] += 1
                    else:
                        offset[row + 1] += 1
                    row += total_rows
    return offset, bead


@kernel
def add_protein_potential_row(
    potential: Float,  # (active, nx) kT, row iy of the species of the table, accumulated
    iy: int,
    beads: NDArray[np.int64],  # beads to add, ascending: a slice from beads_by_row
    position: NDArray[np.float64],  # (2P, 2) nm, none of the given beads absent
    state: NDArray[np.int8],  # (2P,)
    table: PotentialTable,
    spacing_nm: float,
    total_rows: int,
) -> None:
    """potential[a, ix] += Σ_p u_{s(p),a}(|x - R_p|) in the order of `beads`, nearest image."""
    active, nx = potential.shape
    node = np.empty(nx + LANES, np.int64)
    weight = np.zeros((4, nx + LANES), table.coefficient.dtype)
    scratch = np.empty((table.coefficient.shape[2], nx + LANES), table.coefficient.dtype)
    for p in beads:
        x = position[p, 0]
        first, count, dy = _row_segment(
            iy, x, position[p, 1], table.cutoff_nm, spacing_nm, nx, total_rows
        )
        for c in range(count):
            dx = (first + c + 0.5) * spacing_nm - x
            q = (dx * dx + dy * dy) * table.per_spacing
            node[c] = int(q)
            weight[0, c], weight[1, c], weight[2, c], weight[3, c] = spline_weights(q - int(q))
        blend_segment(scratch, count, active, table.coefficient[state[p]], node, weight)
        start = first % nx
        whole = min(count, nx - start)
        for a in range(active):
            _add_to(potential[a, start : start + whole], scratch[a, :whole])
            _add_to(potential[a, : count - whole], scratch[a, whole:count])


@inlined
def _add_to(total, values):  # type: ignore[no-untyped-def]
    for c in range(len(total)):
        total[c] += values[c]


@inlined
def _add_product(total, factor, values):  # type: ignore[no-untyped-def]
    for c in range(len(total)):
        total[c] += factor[c] * values[c]


@inlined
def blend_segment(scratch, count, active, curve, node, weight):  # type: ignore[no-untyped-def]
    """scratch[a, c] = Σ_k weight[k, c] curve[node[c] + k, a] for all active species a."""
    for c in range(count, count + LANES):  # the rest of the last block
        node[c] = 0
    for lane in range(0, active, LANES):
        for cell in range(0, count, LANES):
            blend_block(scratch, lane, cell, curve, node, weight)


@inlined
def _row_segment(iy, x, y, cutoff, spacing, nx, ny):  # type: ignore[no-untyped-def]
    """Cells of row iy within the cutoff of (x, y): first (may be outside), number, and y - Y."""
    dy = (iy + 0.5) * spacing - y
    side = ny * spacing
    if dy > 0.5 * side:
        dy -= side
    elif dy < -0.5 * side:
        dy += side
    half_width = math.sqrt(max(cutoff * cutoff - dy * dy, 0.0))
    first, count = covered(x, half_width, spacing, nx)
    return first, count, dy


def lipid_force(
    density: Quanta,  # (S, rows, nx) in quanta, the rows of a slab
    quantum: float,  # nm^-2
    first_row: int,
    total_rows: int,
    spacing_nm: float,
    table: PotentialTable,  # float64
    position: NDArray[np.float64],  # (2P, 2) nm
    state: NDArray[np.int8],  # (2P,) -1 absent
) -> NDArray[np.int64]:
    """-dU/dR of the given rows in units of FORCE_QUANTUM, (2P, 2); zero where a bead is absent.

    Each row's share is rounded to an integer, so the sum over ranks is exact: times FORCE_QUANTUM
    it is the force in kT/nm whatever the cut. Raises OverflowError where a row pulls with more
    than 10^5 kT/nm or with NaN, ValueError for a table of another type.
    """
    if table.coefficient.dtype != np.float64:
        raise ValueError(f"forces need a table of float64, got {table.coefficient.dtype}")
    force = np.zeros((len(state), 2), np.int64)
    given = (first_row, total_rows, spacing_nm, table, position, state)
    # a tuple of whole planes tells the compiler that rows are contiguous, also in a view
    planes = tuple(density[i] for i in table.species)
    worst = _add_lipid_force(force, planes, quantum, *given) if planes else -1
    if worst >= 0:
        raise OverflowError(f"the lipid force on bead {worst} must be finite and below 1e5 kT/nm")
    return force


@kernel
def _add_lipid_force(
    force: NDArray[np.int64],
    planes: tuple[Quanta, ...],  # (rows, nx) of each active species
    quantum: float,
    first_row: int,
    total_rows: int,
    spacing_nm: float,
    table: PotentialTable,
    position: NDArray[np.float64],
    state: NDArray[np.int8],
) -> int:
    """Add 2 h² Σ_cells (x - R) Σ_i n_i du_i/ds; returns a bead whose sum is too large, or -1."""
    rows, nx = planes[0].shape
    active = len(planes)
    scale = 2.0 * spacing_nm**2 * quantum * table.per_spacing / FORCE_QUANTUM
    limit = 1e5 / FORCE_QUANTUM
    node = np.empty(nx + LANES, np.int64)
    weight = np.zeros((4, nx + LANES))
    scratch = np.empty((table.coefficient.shape[2], nx + LANES))
    line = np.empty(nx)
    offset, bead = beads_by_row(
        position, state, table.cutoff_nm, spacing_nm, first_row, rows, total_rows
    )
    for row in range(rows):
        for p in bead[offset[row] : offset[row + 1]]:
            x = position[p, 0]
            first, count, dy = _row_segment(
                first_row + row, x, position[p, 1], table.cutoff_nm, spacing_nm, nx, total_rows
            )
            for c in range(count):
                dx = (first + c + 0.5) * spacing_nm - x
                q = (dx * dx + dy * dy) * table.per_spacing
                node[c] = int(q)
                weight[0, c], weight[1, c], weight[2, c], weight[3, c] = _slopes(q - int(q))
                line[c] = 0.0
            blend_segment(scratch, count, active, table.coefficient[state[p]], node, weight)
            start = first % nx
            whole = min(count, nx - start)
            for a in range(active):
                cells = planes[a][row]
                _add_product(line[:whole], cells[start : start + whole], scratch[a, :whole])
                _add_product(line[whole:count], cells[: count - whole], scratch[a, whole:count])
            along = 0.0
            total = 0.0
            for c in range(count):
                along += line[c] * ((first + c + 0.5) * spacing_nm - x)
                total += line[c]
            fx = scale * along
            fy = scale * total * dy
            if not (abs(fx) < limit and abs(fy) < limit):
                return int(p)
            force[p, 0] += np.int64(math.floor(fx + 0.5))
            force[p, 1] += np.int64(math.floor(fy + 0.5))
    return -1


def lipid_energy(
    density: Quanta,  # (S, ny, nx) in quanta, the whole membrane
    quantum: float,
    spacing_nm: float,
    table: PotentialTable,
    position: NDArray[np.float64],
    state: NDArray[np.int8],
) -> float:
    """U = h² Σ_i Σ_cells n_i Σ_p u_{s(p),i}, in kT: what `lipid_force` is the gradient of."""
    _, ny, nx = density.shape
    active = len(table.species)
    dtype = table.coefficient.dtype
    offset, bead = beads_by_row(position, state, table.cutoff_nm, spacing_nm, 0, ny, ny)
    energy = 0.0
    for iy in range(ny):
        row = np.zeros((active, nx), dtype)
        beads = bead[offset[iy] : offset[iy + 1]]
        add_protein_potential_row(row, iy, beads, position, state, table, spacing_nm, ny)
        energy += float(np.sum(row * density[table.species, iy].astype(np.float64)))
    return energy * quantum * spacing_nm**2
