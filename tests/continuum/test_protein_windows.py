import numpy as np
import pytest

from continuum.decomposition import Slab, cut_into_slabs
from continuum.lipid_flux import add_windows
from continuum.parameters import RadialPotentials
from continuum.protein_lipid_coupling import add_protein_potential_row, potential_table
from continuum.protein_windows import ProteinWindows, add_weighted_windows

CELLS, H, CUTOFF_NM, HALO = 32, 0.5, 5.0, 3
SIDE_NM = CELLS * H
SPECIES, SILENT = 6, 2


def exact_u(r):
    """(2 states, SPECIES, ...) kT."""
    rng = np.random.default_rng(3)
    shape = (2, SPECIES, *(1,) * np.ndim(r))
    depth, width = rng.uniform(-2, 2, shape), rng.uniform(1.0, 2.0, shape)
    depth[:, SILENT] = 0
    end = np.clip(1 - (r / CUTOFF_NM) ** 2, 0, None) ** 3
    return depth * np.exp(-0.5 * (r / width) ** 2) * end


RADII = np.arange(round(CUTOFF_NM / 0.02) + 3) * 0.02
POTENTIALS = RadialPotentials(u=exact_u(RADII), dr_nm=0.02, cutoff_nm=CUTOFF_NM)
TABLE = potential_table(POTENTIALS)

# In the middle, on every border, and in a corner; one slot empty.
POSITION = np.array(
    [[7.3, 8.1], [0.0, 3.0], [SIDE_NM - 1e-9, 0.1], [4.4, SIDE_NM - 0.2], [np.nan, np.nan], [9, 9]]
)
STATE = np.array([0, 1, 0, 1, -1, 1], np.int8)
# Where the beads go during a step, over borders too, and how much each moment weighs.
PATH = (POSITION + np.array([[[0.0, 0.0]], [[-0.9, 0.3]], [[0.4, -1.7]]])) % SIDE_NM
SHARE = np.random.default_rng(8).dirichlet(np.ones(3), SPECIES).T


def slow_potential():
    """(SPECIES, y, x), every cell and the nearest image of every bead at every moment."""
    centre = (np.arange(CELLS) + 0.5) * H
    total = np.zeros((SPECIES, CELLS, CELLS))
    for position, share in zip(PATH, SHARE, strict=True):
        for (x, y), state in zip(position, STATE, strict=True):
            if state >= 0:
                dx = (centre - x + SIDE_NM / 2) % SIDE_NM - SIDE_NM / 2
                dy = (centre - y + SIDE_NM / 2) % SIDE_NM - SIDE_NM / 2
                u = exact_u(np.hypot(dy[:, None], dx[None, :]))[state]
                total += share[:, None, None] * u
    return total


def windows_of(slab, dtype=np.float64, table=TABLE):
    windows = ProteinWindows(slab, HALO, H, dtype)
    windows.refresh(PATH, SHARE, STATE, table)
    return windows


def potential_on(slab, dtype=np.float64, table=TABLE):
    """(SPECIES, halo + rows + halo, x) by windows, on top of ones."""
    windows = windows_of(slab, dtype, table)
    field = np.ones((SPECIES, slab.rows + 2 * HALO, CELLS), dtype)
    for s in range(SPECIES):
        window, start, bead = windows.of_species(s)
        for line in range(slab.rows + 2 * HALO):
            near = bead[start[line] : start[line + 1]]
            row = slab.first_row - HALO + line
            add_windows(field[s, line], window, windows.corners, near, row)
    return field - 1


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance_kt"), [(np.float64, 3e-4), (np.float32, 3.1e-4)])
def test_windows_hold_the_potentials_of_all_nearest_images(ranks, dtype, tolerance_kt):
    expected = slow_potential()
    assert np.abs(expected).max() > 1
    for slab in cut_into_slabs(CELLS, ranks, HALO):
        rows = np.arange(slab.first_row - HALO, slab.first_row + slab.rows + HALO) % CELLS
        found = potential_on(slab, dtype, potential_table(POTENTIALS, dtype))
        np.testing.assert_allclose(found, expected[:, rows], rtol=0, atol=tolerance_kt)
        assert not found[SILENT].any()


def test_windows_equal_the_rows_of_the_coupling_that_gives_the_forces():
    whole = Slab(cells=CELLS, first_row=0, rows=CELLS)
    found = potential_on(whole)[:, HALO:-HALO]
    near = np.flatnonzero(STATE >= 0)
    for row in range(CELLS):
        expected = np.zeros((len(TABLE.species), CELLS))
        for position, share in zip(PATH, SHARE, strict=True):
            once = np.zeros_like(expected)
            add_protein_potential_row(once, row, near, position, STATE, TABLE, H, CELLS)
            expected += share[TABLE.species, None] * once
        np.testing.assert_allclose(found[TABLE.species, row], expected, rtol=0, atol=1e-14)


def test_every_cut_holds_the_same_bits():
    whole = potential_on(Slab(cells=CELLS, first_row=0, rows=CELLS))[:, HALO:-HALO]
    for ranks in (2, 3, 4):
        for slab in cut_into_slabs(CELLS, ranks, HALO):
            rows = np.arange(slab.first_row - HALO, slab.first_row + slab.rows + HALO) % CELLS
            np.testing.assert_array_equal(potential_on(slab), whole[:, rows])


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_weighted_sum_over_species_is_that_of_the_potentials(ranks):
    weight = np.random.default_rng(1).uniform(0.2, 1.0, SPECIES)
    expected = np.tensordot(weight, slow_potential(), 1)
    for slab in cut_into_slabs(CELLS, ranks, HALO):
        windows = windows_of(slab)
        field = np.ones((HALO + slab.rows + HALO, CELLS))
        add_weighted_windows(
            windows.windows,
            weight[windows.species],
            windows.corners,
            slab.first_row,
            field,
            HALO,
        )
        own = expected[slab.first_row : slab.first_row + slab.rows]
        np.testing.assert_allclose(field[HALO:-HALO] - 1, own, rtol=0, atol=2e-3)
        np.testing.assert_array_equal(field[:HALO], 1)


@pytest.mark.parametrize("way_nm", [0.0, 0.9, -4.0])
def test_a_window_as_wide_as_the_membrane_adds_each_cell_once(way_nm):
    cells = 20
    slab = Slab(cells=cells, first_row=0, rows=cells)
    windows = ProteinWindows(slab, 0, H, np.float64)
    for x in (0.01, 3.3, 5.0, 9.99):
        path = np.array([[[x, 5.2]], [[(x + way_nm) % 10, (5.2 - way_nm) % 10]]])
        windows.refresh(path, np.full((2, SPECIES), 0.5), np.zeros(1, np.int8), TABLE)
        window, start, bead = windows.of_species(0)
        row = np.zeros(cells)
        add_windows(row, window, windows.corners, bead[start[10] : start[11]], 10)
        centre = (np.arange(cells) + 0.5) * H
        dx = (centre - path[:, 0, :1] + 5) % 10 - 5
        dy = 5.25 - path[:, 0, 1:]
        expected = exact_u(np.hypot(dx, dy))[0, 0].mean(axis=0)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4)


def test_no_beads_leave_no_trace():
    slab = Slab(cells=CELLS, first_row=0, rows=CELLS)
    windows = ProteinWindows(slab, HALO, H, np.float64)
    windows.refresh(PATH, SHARE, STATE, TABLE)
    windows.refresh(np.empty((3, 0, 2)), SHARE, np.empty(0, np.int8), TABLE)
    _, start, bead = windows.of_species(0)
    assert not start.any()
    assert bead.size == 0


def test_windows_are_no_wider_than_the_way_of_a_bead_over_a_border():
    windows = windows_of(Slab(cells=CELLS, first_row=0, rows=CELLS))
    still = 2 * CUTOFF_NM / H + 1
    way_nm = 1.7 + 0.3
    assert windows.windows.shape[-1] <= still + way_nm / H + 1


@pytest.mark.parametrize("towards", [1, -1])
def test_a_bead_that_comes_near_during_the_step_is_felt(towards):
    cells, rows = 96, 8
    slab = Slab(cells=cells, first_row=40, rows=rows)
    middle_nm = (40 + rows / 2) * H
    reach_nm = (rows / 2 + HALO) * H + CUTOFF_NM
    ways_nm = middle_nm - towards * np.array([reach_nm + 3.0, reach_nm - 2.0])
    path = np.stack([[[20.0, y]] for y in ways_nm])
    found = []
    for moments in (path, path[1:]):
        windows = ProteinWindows(slab, HALO, H, np.float64)
        share = np.ones((len(moments), SPECIES)) / len(path)
        windows.refresh(moments, share, np.zeros(1, np.int8), TABLE)
        _, start, _ = windows.of_species(0)
        found.append(np.flatnonzero(np.diff(start)))
    np.testing.assert_array_equal(*found)
    assert len(found[0]) >= 4
