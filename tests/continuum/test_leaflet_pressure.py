import numpy as np
import pytest
from scipy import fft

from continuum.correlation import relaxation_matrix
from continuum.pressure_relaxation import implicit_relaxation, pressure_relaxation
from tests.continuum.laboratory import (
    LipidTank,
    correlation,
    lipids,
    model_of,
    preset_model,
    wave,
)

PUBLISHED = preset_model()


def pressure_of(tank):
    return dict((name, field) for name, field, _ in tank.fields.state_arrays())["pressure"]


@pytest.mark.parametrize("precision", ["single", "double"])
def test_at_rest_the_pressure_is_exactly_that_of_the_crowding(precision):
    """ψ = A exp(-r²/2 s²) * Σ w Δn, whatever route led there."""
    radius = np.arange(402) * 0.02
    well = -1.5 * np.exp(-0.5 * (radius / 2.0) ** 2) * np.clip(1 - (radius / 8) ** 2, 0, None) ** 2
    mixture = lipids([40.0, 60.0, 50.0], [1.0, 0.6, 1.4], [0, 0, 1], [1.2, 0.7, 1.0])
    model = model_of(
        mixture,
        correlation((1.7, np.diag([0.02, 0.05, 0.0])), repulsion=(0.9, (3.0, 2.0))),
        cells=24,
        dt_us=0.01,
        precision=precision,
        u=well,
    )
    tank = LipidTank(model)
    tank.place([[9.3, 8.8], [3.0, 17.1]])
    tank.advance(800)
    density = tank.density
    tank.advance(10)
    assert np.abs(tank.density - density).max() < 3e-6
    k = 2 * np.pi * fft.fftfreq(24, 0.8)
    gaussian = 2 * np.pi * 0.81 * np.exp(-0.5 * 0.81 * (k[:, None] ** 2 + k[None, :] ** 2))
    for leaflet, strength in enumerate((3.0, 2.0)):
        own = mixture.leaflet == leaflet
        deviation = density[own] - mixture.bulk_density[own, None, None]
        crowding = np.tensordot(mixture.area_weight[own], deviation, 1)
        exact = strength * fft.ifft2(fft.fft2(crowding) * gaussian).real
        assert np.ptp(exact) > 0.3
        # discrete taps have the variance, not every moment, of a Gaussian
        np.testing.assert_allclose(pressure_of(tank)[leaflet], exact, rtol=0, atol=2e-3)


@pytest.mark.parametrize("dt_us", [0.0025, 0.005, 0.01, 0.02, 0.04])
def test_waves_of_crowding_die_out_at_any_step(dt_us):
    model = preset_model("numerics.precision=double", f"numerics.time_step_us={dt_us}")
    bulk = model.lipids.bulk_density[:, None, None]
    weight = np.where(model.lipids.leaflet == 0, model.lipids.area_weight, 0)
    for kx, ky in ((1, 0), (0, 3), (6, 5), (12, 0), (24, 24)):
        tank = LipidTank(model)
        tank.density = bulk * (1 + 0.01 * wave(48, kx, ky))
        crowding = []
        for _ in range(40):
            tank.advance()
            deviation = np.tensordot(weight, tank.density - bulk, 1)
            crowding.append(np.abs(deviation).max())
        start = 0.01 * (weight @ model.lipids.bulk_density)
        assert max(crowding) < 30 * start
        assert crowding[-1] < 1e-3 * start


def test_the_pressure_relaxes_crowding_at_its_own_rate_when_steps_resolve_it():
    lipid = lipids([50.0], [1.5])
    repel = correlation(repulsion=(1.0, (2.0, 2.0)))
    cells, h, dt_us = 40, 0.8, 0.00025
    model = model_of(lipid, repel, cells=cells, spacing_nm=h, dt_us=dt_us)
    rate = relaxation_matrix(lipid, repel, np.array([2 * np.pi / cells / h]))[0, 0, 0]
    shape = wave(cells, 1, 0)
    tank = LipidTank(model)
    tank.density = 1.5 + 1e-3 * shape[None]
    tank.advance(4)
    before = (shape * tank.density[0]).mean()
    tank.advance(40)
    after = (shape * tank.density[0]).mean()
    assert np.log(before / after) / (40 * dt_us) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("dt_us", [0.0005, 0.0025, 0.005, 0.01, 0.02, 0.04])
@pytest.mark.parametrize(("spacing_nm", "factor"), [(1000 / 2400, 1), (1000 / 2400, 2)])
def test_the_fitted_relaxation_keeps_its_bounds(dt_us, spacing_nm, factor):
    """0 < R <= 1.3 / (1 + κ (1 - E)) up to the corner of the grid, and R(0) = 1."""
    lipids_, repulsion = PUBLISHED.lipids, PUBLISHED.correlation.repulsion
    fitted = pressure_relaxation(lipids_, repulsion, spacing_nm, factor, dt_us)
    k = np.linspace(0.0, np.pi * np.sqrt(2) / spacing_nm, 2001)
    relaxation = fitted.relaxation(k)
    assert relaxation.shape == (2001, 2)
    np.testing.assert_allclose(relaxation[0], 1.0, rtol=1e-9)
    for leaflet in (0, 1):
        own = lipids_.leaflet == leaflet
        strength = repulsion.strength[leaflet] * 2 * np.pi * repulsion.range_nm**2
        modulus = strength * (lipids_.area_weight[own] ** 2 * lipids_.bulk_density[own]).sum()
        implicit = implicit_relaxation(
            k, modulus, repulsion.range_nm, fitted.diffusivity_nm2_per_us, dt_us
        )
        assert (relaxation[:, leaflet] > 0).all()
        assert (relaxation[:, leaflet] <= 1.3 * implicit).all()


def test_without_a_repulsion_there_is_no_pressure():
    tank = LipidTank(model_of(lipids([40.0]), correlation(), cells=24))
    tank.density = 1 + 0.2 * wave(24, 1, 1)[None]
    tank.advance(3)
    assert not pressure_of(tank).any()


def test_a_repulsion_too_narrow_for_the_grid_is_refused():
    repel = correlation(repulsion=(0.3, (2.0, 2.0)))
    with pytest.raises(ValueError, match=r"range_nm of the repulsion must be at least 0.36 .* 0.3"):
        LipidTank(model_of(lipids([40.0]), repel))
