from itertools import pairwise

import numpy as np
import pytest

from continuum.correlation import relaxation_matrix
from continuum.radial_equilibrium import protein_profiles
from tests.continuum.laboratory import (
    LipidTank,
    bumps,
    correlation,
    lipids,
    model_of,
    preset_model,
    wave,
)
from tests.continuum.reference_solver import ReferenceMembrane, relative_error

STRONG = "potentials.strength=1.2"


def moving_beads(t_us):
    """Two beads on a 40 nm membrane at 20 nm/µs, five times as fast as they diffuse there."""
    return np.array([[12.0 + 20 * t_us, 20.0], [28.0, 18.0 - 20 * t_us]])


def run_past_moving_beads(model, state, duration_us=0.04):
    """Densities after settling around still beads, and then after they moved."""
    dt_us = model.numerics.time_step_us
    tank = LipidTank(model)
    tank.place(moving_beads(0.0), state)
    tank.advance(round(0.4 / dt_us))
    settled = tank.density
    for step in range(round(duration_us / dt_us)):
        path = [moving_beads((step + instant / 10) * dt_us) for instant in range(11)]
        tank.lead(np.stack(path), state)
        tank.advance()
    return settled, tank.density


def on_forty_nm(*overrides):
    return preset_model(*overrides, side_nm=40.0, cells=96)


@pytest.mark.slow
def test_the_published_step_is_within_a_thousandth_of_a_fine_reference():
    double = on_forty_nm("numerics.precision=double")
    state = double.proteins.index_of("RASb")
    settled, moved = run_past_moving_beads(double, state)
    reference = ReferenceMembrane(double)
    exact = reference.advance(
        settled, lambda t: reference.protein_potential(moving_beads(t), state), 0.04, 0.0005
    )
    assert relative_error(exact, settled) > 3e-3  # the beads did something
    assert relative_error(moved, exact) < 1e-3
    _, single = run_past_moving_beads(on_forty_nm("numerics.precision=single"), state)
    assert relative_error(single, moved) < 1e-6
    _, smaller_steps = run_past_moving_beads(
        on_forty_nm("numerics.precision=double", "numerics.time_step_us=0.0025"), state
    )
    assert relative_error(smaller_steps, exact) < 2e-4


def test_long_steps_leave_no_lipids_behind_a_moving_bead():
    """Of the soft set, whose species relax within a step: the middle of it would be too early."""
    model = preset_model(
        "numerics.precision=double",
        "numerics.time_step_us=0.036",
        "numerics.protein_substep_us=0.0012",
        "output.snapshot_interval_us=0.36",
        "numerics.noise.amplitude=0.0",
        preset="soft-prototype",
        side_nm=40.0,
        cells=96,
    )
    state = model.proteins.index_of("RASb")
    settled, moved = run_past_moving_beads(model, state, 0.072)
    reference = ReferenceMembrane(model)

    def external(t_us):
        return reference.protein_potential(moving_beads(t_us), state)

    exact = reference.advance(settled, external, 0.072, 0.0006)
    assert relative_error(exact, settled) > 1e-2
    assert relative_error(moved, exact) < 1e-3
    tank = LipidTank(model)
    tank.density = settled
    for step in range(2):
        tank.place(moving_beads((step + 0.5) * 0.036), state)
        tank.advance()
    assert relative_error(tank.density, exact) > 3e-3


def test_steps_converge_in_time_with_moving_beads():
    """First order, that of the pressure."""
    found = []
    for dt_us in (0.01, 0.005, 0.0025, 0.00125):
        model = on_forty_nm(STRONG, "numerics.precision=double", f"numerics.time_step_us={dt_us}")
        found.append(run_past_moving_beads(model, model.proteins.index_of("RASb"))[1])
    changes = [np.linalg.norm(b - a) for a, b in pairwise(found)]
    assert (np.array(changes[:-1]) / changes[1:]).min() > 1.5


def test_smooth_couplings_alone_converge_faster_than_first_order():
    couple = [[0.10, -0.06], [-0.06, 0.04]]
    found = []
    for dt_us in (0.02, 0.01, 0.005, 0.0025):
        model = model_of(lipids([40.0, 60.0]), correlation((1.7, couple)), cells=24, dt_us=dt_us)
        tank = LipidTank(model)
        tank.density = bumps(24, 2)
        tank.advance(round(0.16 / dt_us))
        found.append(tank.density)
    changes = [np.linalg.norm(b - a) for a, b in pairwise(found)]
    assert np.log2(np.array(changes[:-1]) / changes[1:]).min() > 1.3


def test_a_membrane_comes_to_rest_in_the_profiles_of_the_liquid_theory():
    """From uniform lipids of the same amount, all species, within 6 nm of one protein."""
    model = preset_model(STRONG, "numerics.precision=double", side_nm=30.0, cells=72)
    state = model.proteins.index_of("RASb")
    radii, profiles = protein_profiles(model)
    centre = (np.arange(72) + 0.5) * 30.0 / 72
    bead = np.array([[15.1, 14.8]])
    distance = np.hypot(centre[:, None] - bead[0, 1], centre[None, :] - bead[0, 0])
    g = np.array([np.interp(distance, radii, profile) for profile in profiles[state]])
    bulk = model.lipids.bulk_density[:, None, None]
    tank = LipidTank(model)
    tank.place(bead, state)
    tank.density = np.broadcast_to((bulk * g).mean(axis=(1, 2), keepdims=True), g.shape)
    tank.advance(800)
    deviation = np.abs(tank.density / bulk - g)[:, distance < 6.0]
    assert g.max() > 6.5
    assert np.abs(g[8:] - 1).max() > 0.1  # the outer leaflet answers
    assert (deviation.max(axis=1) < 1e-3 * g.max(axis=(1, 2))).all()


def without_crowding(model, density):
    """The density with each leaflet's crowding Σ w Δn taken out, in proportion to bulk."""
    bulk, weight = model.lipids.bulk_density, model.lipids.area_weight
    deviation = density - bulk[:, None, None]
    for leaflet in (0, 1):
        own = model.lipids.leaflet == leaflet
        crowding = np.tensordot(weight[own], deviation[own], 1)
        deviation[own] -= (bulk[own] / (weight[own] @ bulk[own]))[:, None, None] * crowding
    return bulk[:, None, None] + deviation


@pytest.mark.parametrize(
    ("dt_us", "crowded", "start_uniform"),
    [(0.01, False, False), (0.01, False, True), (0.005, True, False)],
)
def test_free_energy_never_rises_without_noise(dt_us, crowded, start_uniform):
    cells = 60
    model = preset_model(
        STRONG,
        "numerics.precision=double",
        f"numerics.time_step_us={dt_us}",
        side_nm=25.0,
        cells=cells,
    )
    state = model.proteins.index_of("RASb")
    beads = np.array([[12.1, 11.8], [3.0, 20.0]])
    reference = ReferenceMembrane(model)
    potential = reference.protein_potential(beads, state)
    tank = LipidTank(model)
    tank.place(beads, state)
    start = model.lipids.bulk_density[:, None, None] * bumps(cells, 14)
    if start_uniform:
        start = np.broadcast_to(model.lipids.bulk_density[:, None, None], start.shape)
    elif not crowded:
        start = without_crowding(model, start)
    tank.density = start
    energy = [reference.free_energy(tank.density, potential)]
    for _ in range(round(0.8 / dt_us)):
        tank.advance()
        energy.append(reference.free_energy(tank.density, potential))
    assert energy[0] - energy[-1] > 5
    assert np.diff(energy).max() < 0


@pytest.mark.parametrize(("dt_us", "total_density_lag"), [(0.005, 0.08), (0.01, 0.16)])
def test_modes_decay_in_the_times_of_linear_theory(dt_us, total_density_lag):
    """Eigenmodes of 30 nm: twelve of composition, two of total density, which the step damps."""
    side_nm, cells, k = 30.0, 72, 2 * np.pi / 30.0
    model = preset_model(
        "numerics.precision=double", f"numerics.time_step_us={dt_us}", side_nm=side_nm, cells=cells
    )
    matrix = relaxation_matrix(model.lipids, model.correlation, np.array([k]))[0]
    rate, mode = np.linalg.eig(matrix)
    order = np.argsort(rate)
    rate, mode = rate[order], mode[:, order]
    project = np.linalg.inv(mode)
    times_us = 1 / rate
    assert times_us[0] == pytest.approx(1.26, abs=0.01)
    assert times_us[11] == pytest.approx(0.33, abs=0.01)
    assert times_us[12:] == pytest.approx(0.024, abs=0.001)
    shape = wave(cells, 1, 0)
    bulk = model.lipids.bulk_density
    for i in (0, 1, 5, 10, 11, 12, 13):
        tank = LipidTank(model)
        amplitude = 1e-4 * bulk.min() / np.abs(mode[:, i]).max()
        tank.density = bulk[:, None, None] + amplitude * mode[:, i, None, None] * shape
        tank.advance()
        steps = max(2, round(0.5 / rate[i] / dt_us))
        before = project[i] @ (shape * tank.density).mean(axis=(1, 2))
        tank.advance(steps)
        after = project[i] @ (shape * tank.density).mean(axis=(1, 2))
        measured = np.log(before / after) / (steps * dt_us)
        allowed = 2e-3 if i < 12 else total_density_lag
        assert measured == pytest.approx(rate[i], rel=allowed)


def test_the_published_set_is_stable_at_forty_ns():
    model = preset_model("numerics.precision=double", "numerics.time_step_us=0.04")
    bulk = model.lipids.bulk_density[:, None, None]
    tank = LipidTank(model)
    tank.density = bulk * (1 + 0.03 * wave(48, 3, 2) + 0.03 * wave(48, 1, 0))
    deviations = []
    for _ in range(50):
        tank.advance()
        deviations.append(np.abs(tank.density / bulk - 1).max())
    assert max(deviations) < 1
    assert deviations[-1] < 1e-3


def test_mass_of_every_species_is_exact_with_noise_and_moving_proteins():
    for precision in ("single", "double"):
        model = preset_model(
            STRONG, "numerics.noise.amplitude=0.3", f"numerics.precision={precision}", side_nm=25.0
        )
        tank = LipidTank(model)
        before, start = tank.quanta(), tank.density
        for step in range(30):
            tank.place([[6.0 + 0.2 * step, 7.0], [24.9, 0.1 * step]])
            tank.advance()
        np.testing.assert_array_equal(tank.quanta(), before)
        assert tank.density.min() > 0
        assert np.abs(tank.density - start).max() > 0.05
