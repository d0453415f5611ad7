import itertools

import numpy as np
import pytest

from continuum.parameters import RadialPotentials
from continuum.protein_lipid_coupling import (
    FORCE_QUANTUM,
    LANES,
    add_protein_potential_row,
    beads_by_row,
    lipid_energy,
    lipid_force,
    potential_table,
)

QUANTUM = 2.0**-27
CUTOFF_NM = 6.0
SPECIES = 11  # 9 feel proteins, so two vectors of lanes are in use
SILENT = (3, 10)
STATES = 3
RNG = np.random.default_rng


def exact_u(r):
    """(STATES, SPECIES, ...) kT: wells, a core of 0.6 nm and a smooth end at the cutoff."""
    rng = RNG(8)
    shape = (STATES, SPECIES, *(1,) * np.ndim(r))
    depth, width = rng.uniform(-2.5, 1.0, shape), rng.uniform(1.2, 2.2, shape)
    core = rng.uniform(0.5, 1.2, shape)
    depth[:, SILENT, ...], core[:, SILENT, ...] = 0.0, 0.0
    end = np.clip(1 - (r / CUTOFF_NM) ** 2, 0, None) ** 3
    return (depth * np.exp(-0.5 * (r / width) ** 2) + core * np.exp(-0.5 * (r / 0.6) ** 2)) * end


def potentials(dr_nm=0.02):
    r = np.arange(round(CUTOFF_NM / dr_nm) + 3) * dr_nm
    return RadialPotentials(u=exact_u(r), dr_nm=dr_nm, cutoff_nm=CUTOFF_NM)


TABLE = potential_table(potentials())
SINGLE_TABLE = potential_table(potentials(), np.float32)
CELLS, SPACING_NM = 36, 0.5
SIDE_NM = CELLS * SPACING_NM


def beads(seed=1, count=8):
    """Primaries, some with ligands, some at the very border."""
    rng = RNG(seed)
    position = np.full((2 * count, 2), np.nan)
    state = np.full(2 * count, -1, np.int8)
    present = np.concatenate([np.arange(count), count + np.arange(1, count, 3)])
    position[present] = rng.uniform(0, SIDE_NM, (len(present), 2))
    position[0] = [0.0, SIDE_NM - 1e-9]
    position[1] = [SIDE_NM / 2, 0.25]
    state[present] = rng.integers(0, STATES, len(present))
    return position, state


def densities(seed=2, cells=CELLS, dtype=np.int32):
    quanta = RNG(seed).uniform(0.01, 0.8, (SPECIES, cells, cells)) / QUANTUM
    return quanta.astype(dtype)


def slow_potential(position, state, cells=CELLS, spacing_nm=SPACING_NM):
    """(SPECIES, y, x): every cell, every bead, the nearest image, the exact u(r)."""
    centre = (np.arange(cells) + 0.5) * spacing_nm
    side_nm = cells * spacing_nm
    total = np.zeros((SPECIES, cells, cells))
    for p in np.flatnonzero(state >= 0):
        dx, dy = (np.abs(centre - position[p, axis]) for axis in (0, 1))
        dx, dy = np.minimum(dx, side_nm - dx), np.minimum(dy, side_nm - dy)
        total += exact_u(np.hypot(dy[:, None], dx[None, :]))[state[p]]
    return total


def deposited(position, state, table, dtype=np.float64, cells=CELLS, spacing_nm=SPACING_NM):
    """(active, y, x) row by row, on top of ones."""
    potential = np.ones((len(table.species), cells, cells), dtype)
    offset, bead = beads_by_row(position, state, table.cutoff_nm, spacing_nm, 0, cells, cells)
    for iy in range(cells):
        row = np.ascontiguousarray(potential[:, iy])
        near = bead[offset[iy] : offset[iy + 1]]
        add_protein_potential_row(row, iy, near, position, state, table, spacing_nm, cells)
        potential[:, iy] = row
    return potential - 1


@pytest.mark.parametrize(
    ("table", "dtype", "tolerance_kt"),
    [(TABLE, np.float64, 1e-4), (SINGLE_TABLE, np.float32, 1.02e-4)],
)
def test_the_rows_hold_the_potentials_of_all_nearest_images(table, dtype, tolerance_kt):
    position, state = beads()
    expected = slow_potential(position, state)
    assert np.abs(expected).max() > 2
    found = deposited(position, state, table, dtype)
    overlapping = 6
    np.testing.assert_allclose(found, expected[table.species], atol=overlapping * tolerance_kt)


def test_the_table_follows_u_to_its_tolerance_and_says_by_how_much():
    assert TABLE.error_kt <= 1e-4
    radius = RNG(0).uniform(0, CUTOFF_NM, 2000)
    radius[:5] = 0.0, 1e-6, CUTOFF_NM, CUTOFF_NM - 1e-9, CUTOFF_NM / 2
    cells, spacing_nm = 4, 4.0
    position = np.stack([0.5 * spacing_nm - radius, np.full(2000, 0.5 * spacing_nm)], axis=1)
    position = position % (cells * spacing_nm)
    errors = []
    for p in range(2000):
        for s in range(STATES):
            one, state = position[[p, p]].copy(), np.array([s, -1], np.int8)
            row = np.zeros((len(TABLE.species), cells))
            add_protein_potential_row(row, 0, np.array([0]), one, state, TABLE, spacing_nm, cells)
            errors.append(np.abs(row[:, 0] - exact_u(radius[p])[s, TABLE.species]).max())
    assert max(errors) <= 1.2 * TABLE.error_kt + 1e-9


def test_finer_tables_are_used_for_smaller_tolerances():
    errors = [potential_table(potentials(), tolerance_kt=t).error_kt for t in (1e-2, 1e-4, 1e-6)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_species_that_feel_no_protein_are_left_out():
    assert TABLE.species.tolist() == [i for i in range(SPECIES) if i not in SILENT]
    assert TABLE.coefficient.shape[2] == 2 * LANES
    assert SINGLE_TABLE.coefficient.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_force_is_the_slope_of_the_discrete_energy(dtype):
    position, state = beads()
    density = densities(dtype=dtype)
    given = (QUANTUM, SPACING_NM, TABLE)
    whole = lipid_force(density, QUANTUM, 0, CELLS, SPACING_NM, TABLE, position, state)
    force = whole * FORCE_QUANTUM
    step = 1e-5
    for p in np.flatnonzero(state >= 0):
        for axis in range(2):
            energies = []
            for sign in (1, -1):
                moved = position.copy()
                moved[p, axis] = (moved[p, axis] + sign * step) % SIDE_NM
                energies.append(lipid_energy(density, *given, moved, state))
            slope = (energies[0] - energies[1]) / (2 * step)
            assert force[p, axis] == pytest.approx(-slope, rel=1e-6, abs=1e-7)
    assert np.all(whole[state < 0] == 0)


def test_the_energy_is_its_definition():
    position, state = beads()
    density = densities()
    expected = np.sum(slow_potential(position, state) * density) * QUANTUM * SPACING_NM**2
    found = lipid_energy(density, QUANTUM, SPACING_NM, TABLE, position, state)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("borders", [(0, 4, 36), (0, 12, 24, 36), (0, 8, 20, 24, 36)])
def test_the_force_is_the_same_integer_for_any_cut_into_slabs(borders):
    position, state = beads()
    halo = 3
    density = densities()
    given = (CELLS, SPACING_NM, TABLE, position, state)
    whole = lipid_force(density, QUANTUM, 0, *given)
    assert np.abs(whole).max() > 2**40
    parts = np.zeros_like(whole)
    for low, high in itertools.pairwise(borders):
        rows = np.arange(low - halo, high + halo) % CELLS
        stored = density[:, rows]
        parts += lipid_force(stored[:, halo : halo + high - low], QUANTUM, low, *given)
    assert np.array_equal(parts, whole)


def test_moving_everything_by_whole_cells_changes_no_bit():
    position, state = beads()
    position = np.round(position * 2**20) / 2**20 % SIDE_NM
    density = densities()
    before = lipid_force(density, QUANTUM, 0, CELLS, SPACING_NM, TABLE, position, state)
    potential = deposited(position, state, TABLE)
    for dy, dx in ((1, 0), (0, 1), (-9, 17)):
        moved = (position + SPACING_NM * np.array([dx, dy])) % SIDE_NM
        shifted = np.roll(density, (dy, dx), axis=(1, 2))
        after = lipid_force(shifted, QUANTUM, 0, CELLS, SPACING_NM, TABLE, moved, state)
        assert np.array_equal(after, before)
        rolled = np.roll(potential, (dy, dx), axis=(1, 2))
        assert np.array_equal(deposited(moved, state, TABLE), rolled)


def test_the_smallest_membrane_counts_every_cell_once():
    cells = 24  # side = twice the cutoff
    position, state = np.array([[3.25, 0.25], [np.nan] * 2]), np.array([1, -1], np.int8)
    expected = slow_potential(position, state, cells)
    np.testing.assert_allclose(
        deposited(position, state, TABLE, cells=cells), expected[TABLE.species], atol=1e-4
    )
    offset, _ = beads_by_row(position, state, CUTOFF_NM, SPACING_NM, 0, cells, cells)
    assert np.array_equal(offset, np.arange(cells + 1))


def test_beads_are_listed_by_row_in_ascending_order_also_beyond_the_border():
    position, state = beads()
    first, rows = -5, CELLS + 10
    offset, bead = beads_by_row(position, state, CUTOFF_NM, SPACING_NM, first, rows, CELLS)
    for row in range(rows):
        y = ((first + row) % CELLS + 0.5) * SPACING_NM
        distance = np.abs(position[:, 1] - y)
        distance = np.minimum(distance, SIDE_NM - distance)
        expected = np.flatnonzero((state >= 0) & (distance <= CUTOFF_NM))
        assert bead[offset[row] : offset[row + 1]].tolist() == expected.tolist()


def test_a_force_beyond_the_integers_is_refused():
    position, state = beads()
    huge = TABLE._replace(coefficient=TABLE.coefficient * 1e8)
    with pytest.raises(OverflowError, match="lipid force on bead"):
        lipid_force(densities(), QUANTUM, 0, CELLS, SPACING_NM, huge, position, state)
    broken = TABLE._replace(coefficient=TABLE.coefficient * np.nan)
    with pytest.raises(OverflowError, match="lipid force on bead"):
        lipid_force(densities(), QUANTUM, 0, CELLS, SPACING_NM, broken, position, state)


def test_forces_are_not_computed_from_a_single_precision_table():
    position, state = beads()
    with pytest.raises(ValueError, match="forces need a table of float64, got float32"):
        lipid_force(densities(), QUANTUM, 0, CELLS, SPACING_NM, SINGLE_TABLE, position, state)


def test_a_potential_too_rough_for_the_table_is_refused():
    rough = potentials()
    rough.u[0, 0, :20:2] += 3.0
    with pytest.raises(ValueError, match="must vary smoothly up to the cutoff"):
        potential_table(rough)


def test_a_membrane_without_coupling_has_neither_potential_nor_force():
    none = RadialPotentials(u=np.zeros((STATES, SPECIES, 601)), dr_nm=0.01, cutoff_nm=CUTOFF_NM)
    table = potential_table(none)
    position, state = beads()
    assert len(table.species) == 0
    force = lipid_force(densities(), QUANTUM, 0, CELLS, SPACING_NM, table, position, state)
    assert not force.any()
