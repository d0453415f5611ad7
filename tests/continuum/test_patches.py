import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.control_patches import place_controls
from continuum.patch_batch import CENTRE_NODE, NODE_SPACING_NM, NODES
from continuum.patch_sampling import sample_patches
from continuum.patches import assemble_patches, kind_of, patch_centres

QUANTUM = 2.0**-56
SETTINGS = {
    "control_count": 4,
    "control_distance_nm": 20.0,
    "seed": 3,
    "snapshot_index": 5,
}


def quanta(density):
    return np.rint(density / QUANTUM).astype(np.int64)


def rough_membrane(species=3, cells=48, seed=0):
    """Densities between 0.5 and 1: the cubic never undershoots 0."""
    return 0.5 + 0.5 * np.random.default_rng(seed).random((species, cells, cells))


def slow_node(field, side_nm, x_nm, y_nm):
    """The value of the cubic through the 4 x 4 nearest cells, by Lagrange's formula."""
    cells = len(field)
    gx, gy = x_nm / (side_nm / cells) - 0.5, y_nm / (side_nm / cells) - 0.5
    ix, iy = int(np.floor(gx)), int(np.floor(gy))
    stencil = (-1, 0, 1, 2)

    def basis(k, t):
        return np.prod([(t - m) / (k - m) for m in stencil if m != k])

    return sum(
        basis(a, gy - iy) * basis(b, gx - ix) * field[(iy + a) % cells, (ix + b) % cells]
        for a in stencil
        for b in stencil
    )


def slow_patch(field, side_nm, centre, angle):
    patch = np.empty((NODES, NODES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for iy in range(NODES):
        for ix in range(NODES):
            offset = np.array([ix - CENTRE_NODE, iy - CENTRE_NODE]) * NODE_SPACING_NM
            patch[iy, ix] = slow_node(field, side_nm, *(centre + turn @ offset))
    return patch


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_nodes_equal_the_slow_definition_across_every_border(angle):
    density, side_nm = rough_membrane(species=2), 50.0
    centres = np.array([[25.0, 25.0], [0.1, 49.9], [48.0, 3.0]])
    found = sample_patches(quanta(density), QUANTUM, centres, side_nm, rotation=angle)
    for n, s in ((0, 1), (1, 0), (2, 1)):
        expected = slow_patch(density[s], side_nm, centres[n], angle)
        np.testing.assert_allclose(found[n, s], expected, rtol=0, atol=1e-7)


def test_a_cubic_polynomial_is_sampled_exactly():
    side_nm, cells = 64.0, 96
    place = (np.arange(cells) + 0.5) * side_nm / cells - 32
    y, x = place[:, None], place[None, :]

    def cubic(x, y):
        return 5 + 1e-4 * (x**3 - 20 * y**3 + x**2 * y - 3 * x * y) / 8 + 2e-8 * x**3 * y**3 / 8

    centre = np.array([[31.3, 33.8]])
    found = sample_patches(quanta(cubic(x, y)[None] / 8), QUANTUM, centre, side_nm)[0, 0]
    node = (np.arange(NODES) - CENTRE_NODE) * NODE_SPACING_NM
    expected = cubic(centre[0, 0] - 32 + node[None, :], centre[0, 1] - 32 + node[:, None]) / 8
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)


def test_a_plane_wave_is_sampled_to_fourth_order():
    side_nm, wavenumber = 60.0, 2 * np.pi * 6 / 60
    centres = np.random.default_rng(0).random((20, 2)) * side_nm
    node = (np.arange(NODES) - CENTRE_NODE) * NODE_SPACING_NM
    phase = wavenumber * (centres.sum(axis=1)[:, None, None] + node[:, None] + node[None, :])
    errors = []
    for cells in (76, 152, 304):
        place = (np.arange(cells) + 0.5) * side_nm / cells
        wave = 0.6 + 0.5 * np.cos(wavenumber * (place[None, :] + place[:, None]))
        found = sample_patches(quanta(wave[None]), QUANTUM, centres, side_nm)[:, 0]
        errors.append(np.sqrt(np.mean((found - 0.6 - 0.5 * np.cos(phase)) ** 2)))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 4, atol=0.1)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_quarter_turn_of_the_patch_is_rot90_of_its_nodes(quarter_turns):
    density, centres = quanta(rough_membrane()), np.array([[25.0, 24.0], [11.17, 48.3]])
    straight = sample_patches(density, QUANTUM, centres, 50.0)
    turned = sample_patches(density, QUANTUM, centres, 50.0, rotation=quarter_turns * np.pi / 2)
    expected = np.rot90(straight, quarter_turns, axes=(2, 3))
    np.testing.assert_allclose(turned, expected, rtol=0, atol=2e-7)


def test_each_patch_may_have_its_own_angle():
    density, centres = quanta(rough_membrane()), np.array([[25.0, 24.0], [11.17, 48.3]])
    both = sample_patches(density, QUANTUM, centres, 50.0, rotation=np.array([0.0, 0.4]))
    np.testing.assert_array_equal(both[:1], sample_patches(density, QUANTUM, centres[:1], 50.0))
    turned = sample_patches(density, QUANTUM, centres[1:], 50.0, rotation=0.4)
    np.testing.assert_array_equal(both[1:], turned)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("angle", [0.0, 0.7])
@pytest.mark.parametrize("cut", [(48,), (20, 28), (16, 12, 20), (4, 40, 4)])
def test_the_sum_over_slabs_is_bitwise_the_whole(dtype, angle, cut):
    quantum = 2.0**-27
    density = np.rint(rough_membrane() / quantum).astype(dtype)
    centres = np.random.default_rng(1).random((6, 2)) * 50.0
    whole = sample_patches(density, quantum, centres, 50.0, rotation=angle)
    total = np.zeros_like(whole)
    first_row = 0
    for rows in cut:
        wanted = np.arange(first_row - 2, first_row + rows + 2) % 48
        part = sample_patches(
            density[:, wanted], quantum, centres, 50.0,
            first_row=first_row, halo=2, rotation=angle,
        )  # fmt: skip
        assert not np.any((total != 0) & (part != 0))
        total += part
        first_row += rows
    assert np.all(whole > 0)
    np.testing.assert_array_equal(total, whole)


def test_shifting_the_membrane_by_whole_cells_shifts_nothing_in_the_patch():
    density, centre = rough_membrane(), np.array([[25.3, 24.1]])
    there = sample_patches(quanta(density), QUANTUM, centre, 50.0)
    moved = np.roll(density, (7, -13), axis=(1, 2))
    shifted = (centre + np.array([-13, 7]) * 50 / 48) % 50
    here = sample_patches(quanta(moved), QUANTUM, shifted, 50.0)
    np.testing.assert_allclose(here, there, rtol=0, atol=2e-7)


def test_a_patch_as_wide_as_the_membrane_repeats_its_first_row_and_column():
    density = quanta(rough_membrane(cells=36))
    patch = sample_patches(density, QUANTUM, np.array([[3.3, 29.0]]), 30.0)[0]
    np.testing.assert_allclose(patch[:, 0], patch[:, -1], rtol=0, atol=2e-7)
    np.testing.assert_allclose(patch[:, :, 0], patch[:, :, -1], rtol=0, atol=2e-7)


def test_densities_never_undershoot_zero():
    field = np.zeros((1, 48, 48))
    field[0, 24, 24] = 1.0
    for angle in (0.0, 0.7):
        patch = sample_patches(
            quanta(field), QUANTUM, np.array([[25.1, 25.0]]), 50.0, rotation=angle
        )
        assert patch.min() == 0
        assert patch.max() > 0.5


def test_a_halo_too_thin_for_the_stencil_is_refused():
    with pytest.raises(ValueError, match="2 halo rows"):
        sample_patches(quanta(rough_membrane())[:, :20], QUANTUM, np.zeros((1, 2)), 50.0)
    with pytest.raises(ValueError, match="2 halo rows"):
        sample_patches(quanta(rough_membrane())[:, :20], QUANTUM, np.zeros((1, 2)), 50.0, halo=1)


def proteins(primaries=5, side_nm=100.0, seed=2):
    """Primaries 0, 2, 4, ... carry a ligand about 2 nm away."""
    rng = np.random.default_rng(seed)
    position = np.full((2 * primaries, 2), np.nan)
    state = np.full(2 * primaries, -1, dtype=np.int8)
    position[:primaries] = rng.random((primaries, 2)) * side_nm
    state[:primaries] = np.arange(primaries) % 3
    bound = np.arange(0, primaries, 2)
    position[primaries + bound] = (position[bound] + rng.normal(0, 2, (len(bound), 2))) % side_nm
    state[primaries + bound] = 7
    return position, state


def cut(position, state, side_nm=100.0, rotation=0.0, **changes):
    centres = patch_centres(position, state, side_nm, **{**SETTINGS, **changes})
    density = np.ones((len(centres.slot), 2, NODES, NODES), dtype=np.float32)
    return assemble_patches(
        centres, density, position, state, side_nm, rotation=rotation,
        time_us=1.0, snapshot_index=SETTINGS["snapshot_index"], parameter_version=0,
    )  # fmt: skip


@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_neighbours_equal_the_slow_definition_over_all_images(angle):
    side_nm = 60.0
    position, state = proteins(primaries=24, side_nm=side_nm)
    batch = cut(position, state, side_nm, rotation=angle, control_count=0)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for n, centre in enumerate(batch.centre_nm):
        expected = []
        for slot in np.flatnonzero(state >= 0):
            for image in np.ndindex(3, 3):
                away = axes @ (position[slot] + (np.array(image) - 1) * side_nm - centre)
                if np.all(np.abs(away) <= 15):
                    expected.append((slot < 24, state[slot], *away))
        beads = slice(batch.bead_offset[n], batch.bead_offset[n + 1])
        found = np.column_stack([batch.bead_state[beads], batch.bead_position_nm[beads]])
        expected_rows = sorted(row[1:] for row in expected)
        np.testing.assert_allclose(sorted(map(tuple, found)), expected_rows, atol=1e-12)
        assert batch.n_ras[n] == sum(row[0] for row in expected)
        assert batch.n_raf[n] == sum(not row[0] for row in expected)
        np.testing.assert_allclose(batch.bead_position_nm[batch.bead_offset[n]], 0, atol=1e-12)
        distance = np.hypot(*batch.bead_position_nm[beads].T)
        assert np.all(np.diff(distance) >= 0)


def test_the_square_is_closed_at_15_nm_and_counts_across_the_corner():
    position = np.array([[1.0, 1.0], [86.0, 16.0], [86.0, 85.5]])
    state = np.array([0, 0, 0], dtype=np.int8)
    position = np.concatenate([position, np.full((3, 2), np.nan)])
    state = np.concatenate([state, np.full(3, -1, dtype=np.int8)])
    batch = cut(position, state, control_count=0)
    assert batch.n_ras.tolist() == [2, 2, 1]
    np.testing.assert_allclose(batch.bead_position_nm[1], [-15, 15])


def test_kinds_are_those_of_the_paper():
    counts = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (1, 2), (0, 1), (5, 3)]
    kinds = kind_of(*np.array(counts).T)
    assert kinds.tolist() == [0, 1, 2, 3, 3, 3, 3, 3]


def test_ids_are_snapshot_and_slot_and_controls_follow_the_primaries():
    position, state = proteins()
    batch = cut(position, state, side_nm=400.0)
    assert batch.patch_id.tolist() == [(5 << 20) + slot for slot in range(5 + 4)]
    assert batch.central_state.tolist() == [*state[:5].tolist(), -1, -1, -1, -1]
    assert batch.kind[5:].tolist() == [0, 0, 0, 0]
    assert batch.n_ras[:5].min() >= 1


def test_a_control_that_finds_no_room_leaves_a_gap_and_shifts_no_other():
    side_nm = 140.0
    lattice = np.stack(np.meshgrid(*[np.arange(0, 140, 20.0)] * 2), -1).reshape(-1, 2)
    protein = lattice[np.hypot(*(lattice - 70).T) > 26]
    points, placed = place_controls(
        protein, side_nm, window_nm=30, count=12, distance_nm=5, seed=4, snapshot_index=0
    )
    assert 0 < placed.sum() < 12
    assert not placed[: np.flatnonzero(placed)[-1]].all()
    away = np.abs((protein[None] - points[:, None] + 70) % side_nm - 70)
    assert np.array_equal(placed, ~(away <= 15).all(axis=2).any(axis=1))

    primaries = len(protein)
    position = np.concatenate([protein, np.full_like(protein, np.nan)])
    state = np.repeat(np.array([0, -1], dtype=np.int8), primaries)
    centres = patch_centres(
        position, state, side_nm,
        control_count=12, control_distance_nm=5, seed=4, snapshot_index=0,
    )  # fmt: skip
    np.testing.assert_array_equal(centres.slot[primaries:], primaries + np.flatnonzero(placed))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2**44 - 1), count=st.integers(10, 14))
def test_controls_keep_their_distance_and_depend_on_nothing_but_the_arguments(seed, index, count):
    protein = np.random.default_rng(0).random((6, 2)) * 600
    arguments = {"window_nm": 30.0, "distance_nm": 50.0, "seed": seed, "snapshot_index": index}
    points, placed = place_controls(protein, 600.0, count=count, **arguments)
    assert placed.all()
    everything = np.concatenate([protein, points])
    for j in range(count):
        away = everything[: 6 + j] - points[j]
        away -= 600 * np.rint(away / 600)
        assert np.hypot(*away.T).min() >= 50
    fewer, _ = place_controls(protein, 600.0, count=count // 2, **arguments)
    np.testing.assert_array_equal(fewer, points[: count // 2])


def test_other_seeds_and_snapshots_give_other_controls():
    def first(seed, index):
        points, _ = place_controls(
            np.zeros((0, 2)), 600.0,
            window_nm=30.0, count=1, distance_nm=50.0, seed=seed, snapshot_index=index,
        )  # fmt: skip
        return tuple(points[0])

    draws = {first(s, i) for s in (0, 1, 1 << 40) for i in (0, 1, 1 << 32, 1 << 40)}
    assert len(draws) == 12


def test_a_crowded_membrane_gives_the_farthest_of_the_trials():
    protein = np.array([[50.0, 50.0]])
    points, placed = place_controls(
        protein, 100.0, window_nm=30, count=1, distance_nm=500.0, seed=0, snapshot_index=0
    )
    away = np.abs(points[0] - protein[0])
    assert placed[0]
    assert np.hypot(*away) > 60  # the farthest point is 70.7 nm away; of 100 trials, 9 pass 60 nm


def test_no_proteins_and_no_controls_give_an_empty_batch():
    batch = cut(np.zeros((0, 2)), np.zeros(0, dtype=np.int8), control_count=0)
    assert len(batch) == 0
    assert batch.bead_offset.tolist() == [0]


def test_bad_arguments_are_refused_with_what_was_given():
    position, state = proteins()
    with pytest.raises(ValueError, match=r"at least 30.0 nm, got 29"):
        cut(position, state, side_nm=29.0)
    with pytest.raises(ValueError, match=r"needs a membrane of 42.43 nm, got 40"):
        cut(position % 40, state, side_nm=40.0, rotation=np.pi / 4)
    with pytest.raises(ValueError, match="got -1"):
        cut(position, state, control_count=-1)
    with pytest.raises(ValueError, match="control_distance_nm must be >= 0, got nan"):
        cut(position, state, control_distance_nm=float("nan"))
    with pytest.raises(ValueError, match="1048576 patches"):
        cut(position, state, control_count=1 << 20)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("density", np.zeros((9, 2, 37, 36), dtype=np.float32), r"density .* got float32"),
        ("kind", np.zeros(9, dtype=np.int64), "kind must be uint8"),
        ("bead_state", np.zeros(1, dtype=np.int8), "bead_position_nm must be float64"),
        ("snapshot_index", 4, "snapshot 4"),
        ("time_us", float("nan"), "time_us must be finite"),
        ("patch_id", np.full(9, 5 << 20, dtype=np.uint64), "given twice"),
    ],
)
def test_a_batch_whose_parts_do_not_fit_is_refused(field, value, message):
    batch = cut(*proteins(), side_nm=400.0)
    fields = {name: getattr(batch, name) for name in batch.__slots__}
    with pytest.raises(ValueError, match=message):
        type(batch)(**{**fields, field: value})
