import numpy as np
import pytest

from continuum.sweep_polynomial import largest_w, sweep_polynomial
from tests.continuum.laboratory import LipidTank, bumps, correlation, lipids, model_of, wave

IDEAL = correlation()
QUANTUM = {"single": 2.0**-27, "double": 2.0**-56}


def amplification_of_one_sweep(polynomial, h, k):
    """P at the eigenvalue -4 D dt / h² sin²(k h / 2) of the three-point stencil."""
    return polynomial(np.array(4 * polynomial.fourier * np.sin(k * h / 2) ** 2))


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize(("kx", "ky"), [(1, 0), (0, 1), (2, 3), (-5, 7), (16, 16)])
def test_a_plane_wave_decays_at_the_exact_rate_of_the_scheme(precision, kx, ky):
    cells, h, dt_us = 32, 0.8, 0.01
    diffusivity = (20.0, 50.0, 170.0)
    model = model_of(
        lipids(diffusivity), IDEAL, cells=cells, spacing_nm=h, dt_us=dt_us, precision=precision
    )
    bound = largest_w(model.potentials, h)
    sweeps = [sweep_polynomial(d * dt_us / h**2, bound) for d in diffusivity]
    assert [sweep.degree for sweep in sweeps] == [3, 4, 6]
    tank = LipidTank(model)
    shape, steps = wave(cells, kx, ky), 3
    tank.density = np.repeat(1 + 0.5 * shape[None], 3, axis=0)

    tank.advance(steps)

    for density, sweep in zip(tank.density, sweeps, strict=True):
        factor = 1.0
        for waves in (kx, ky):
            factor *= amplification_of_one_sweep(sweep, h, 2 * np.pi * waves / cells / h)
        rounding = 40 * steps * QUANTUM[precision] + 1e-15
        expected = 1 + 0.5 * factor**steps * shape
        np.testing.assert_allclose(density, expected, rtol=0, atol=rounding)


def test_diffusion_is_second_order_in_time():
    cells, h, duration_us, d = 16, 0.8, 0.04, 40.0
    k = 2 * np.pi * 3 / cells / h
    # the stencil's own decay in continuous time, so that only the error in time remains
    rate = 4 * d / h**2 * np.sin(k * h / 2) ** 2
    exact = np.exp(-rate * duration_us)
    for steps in (10, 20, 40, 80, 160):
        dt_us = duration_us / steps
        model = model_of(lipids([d]), IDEAL, cells=cells, spacing_nm=h, dt_us=dt_us)
        tank = LipidTank(model)
        tank.density = 1 + 0.5 * wave(cells, 3, 0)[None]
        tank.advance(steps)
        amplitude = 2 * (wave(cells, 3, 0) * (tank.density[0] - 1)).mean()
        # the polynomial, and with it the error's constant, depends on the step
        assert (
            abs(amplitude / 0.5 - exact) < 0.25 * rate * duration_us * exact * (rate * dt_us) ** 2
        )


def test_alternating_the_axes_is_second_order_in_time_across_a_well():
    cells, duration_us = 20, 0.08
    radius = np.arange(402) * 0.02
    well = -2.5 * np.exp(-0.5 * (radius / 2.0) ** 2) * np.clip(1 - (radius / 8) ** 2, 0, None) ** 3
    found = []
    for steps in (8, 16, 32, 256):
        model = model_of(
            lipids([40.0]), IDEAL, cells=cells, spacing_nm=0.8, dt_us=duration_us / steps, u=well
        )
        tank = LipidTank(model)
        tank.place([[7.3, 8.1]])
        centre = 2 * np.pi * (np.arange(cells) + 0.5) / cells
        tank.density = (1 + 0.5 * np.cos(centre[:, None] + 2 * centre[None, :]))[None]
        tank.advance(steps)
        found.append(tank.density[0])
    errors = [np.linalg.norm(coarse - found[-1]) for coarse in found[:-1]]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[0] < 2e-3 * np.linalg.norm(found[-1])


@pytest.mark.parametrize("precision", ["single", "double"])
def test_the_boltzmann_profile_is_the_exact_steady_state(precision):
    radius = np.arange(402) * 0.02
    well = 3.0 * np.exp(-0.5 * (radius / 1.5) ** 2) * np.clip(1 - (radius / 8) ** 2, 0, None) ** 2
    model = model_of(lipids([20.0, 60.0]), IDEAL, cells=24, dt_us=0.01, precision=precision, u=well)
    beads = np.array([[5.0, 6.1], [11.9, 18.9]])
    tank = LipidTank(model)
    tank.place(beads)
    tank.advance(1500)
    settled = tank.density
    tank.advance(500)
    # fluxes round to whole quanta, so that the last fraction of one never moves
    still = 4000 * QUANTUM[precision] + 1e-12
    np.testing.assert_allclose(tank.density, settled, rtol=0, atol=still)
    potential = deposited(model, beads)
    for density in settled:
        work = np.log(density) + potential
        assert np.ptp(work) < (1e-3 if precision == "single" else 1e-9)
        assert np.ptp(potential) > 2.5


def deposited(model, beads):
    """Σ u at cell centres, from the same table that the membrane uses, evaluated row by row."""
    from continuum.protein_lipid_coupling import add_protein_potential_row, potential_table

    real = np.float32 if model.numerics.precision == "single" else np.float64
    table = potential_table(model.potentials, real)
    cells, h = model.membrane.cells, model.membrane.spacing_nm
    state = np.zeros(len(beads), np.int8)
    total = np.zeros((cells, cells))
    for row in range(cells):
        potential = np.zeros((len(table.species), cells), real)
        near = np.arange(len(beads))
        add_protein_potential_row(potential, row, near, beads, state, table, h, cells)
        total[row] = potential[0]
    return total


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_mass_is_exact_and_nothing_turns_negative_from_nearly_empty_cells(precision, noise):
    radius = np.arange(402) * 0.02
    well = -4.0 * np.exp(-0.5 * (radius / 2.0) ** 2) * np.clip(1 - (radius / 8) ** 2, 0, None)
    lattice = np.zeros((2, 24, 24))
    lattice[:, ::5, ::7] = 9.0
    lattice[:, 3, 3] = 1e-8
    model = model_of(
        lipids([20.0, 60.0], density=[0.2, 0.2]),
        IDEAL,
        cells=24,
        dt_us=0.01,
        precision=precision,
        noise=noise,
        u=well,
    )
    tank = LipidTank(model)
    tank.density = lattice
    before = tank.quanta()
    for step in range(60):
        tank.place([[6.0 + 0.1 * step, 7.0], [18.0, 19.0 - 0.1 * step]])
        tank.advance()
        np.testing.assert_array_equal(tank.quanta(), before)
        assert tank.density.min() >= 0
    assert np.abs(tank.density - lattice).max() > 6
    assert (tank.density > 0).mean() > 0.5


def test_fluxes_are_second_order_in_space():
    side_nm, dt_us, duration_us = 16.0, 0.002, 0.06
    radius = np.arange(402) * 0.02
    well = -1.5 * np.exp(-0.5 * (radius / 2.0) ** 2) * np.clip(1 - (radius / 8) ** 2, 0, None) ** 3
    found = []
    for cells in (16, 32, 64, 128):
        model = model_of(
            lipids([40.0]), IDEAL, cells=cells, spacing_nm=side_nm / cells, dt_us=dt_us, u=well
        )
        tank = LipidTank(model)
        tank.place([[7.3, 8.1]])
        centre = (np.arange(cells) + 0.5) / cells
        start = 1 + 0.3 * np.cos(2 * np.pi * centre)[:, None] * np.sin(2 * np.pi * centre)[None, :]
        tank.density = start[None]
        tank.advance(round(duration_us / dt_us))
        block = cells // 16
        found.append(tank.density[0].reshape(16, block, 16, block).mean(axis=(1, 3)))
    errors = [np.linalg.norm(coarse - found[-1]) for coarse in found[:-1]]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 1.85
    assert orders.max() < 2.6


def test_a_step_commutes_with_shifts_and_with_reflections_of_the_membrane():
    """Tiles, blocks and slab borders leave no mark."""
    cells = 40
    couple = [[0.05, -0.03], [-0.03, 0.02]]
    model = model_of(
        lipids([20.0, 60.0]),
        correlation((1.7, couple), repulsion=(0.8, (2.0, 2.0))),
        cells=cells,
        dt_us=0.01,
    )
    start = bumps(cells, 2)
    plain = LipidTank(model)
    plain.density = start
    plain.advance(4)
    for shift in ((6, 10), (34, 2)):
        moved = LipidTank(model)
        moved.density = np.roll(start, shift, (1, 2))
        moved.advance(4)
        expected = np.roll(plain.density, shift, (1, 2))
        np.testing.assert_allclose(moved.density, expected, rtol=0, atol=1e-13)
    mirrored = LipidTank(model)
    mirrored.density = start[:, ::-1, ::-1]
    mirrored.advance(4)
    np.testing.assert_allclose(mirrored.density, plain.density[:, ::-1, ::-1], rtol=0, atol=1e-13)
    assert np.abs(plain.density - start).max() > 1e-3
