import numpy as np
import pytest

from continuum.correlation import relaxation_matrix
from continuum.step_stability import amplification, check_step, stable_step_us, wavenumbers
from tests.continuum.laboratory import (
    LipidTank,
    correlation,
    lipids,
    model_of,
    preset_model,
    wave,
)

# The stiff repulsion written as a smooth coupling is extrapolated, which limits the step.
STIFF_LIPIDS = lipids([50.0, 30.0], [1.0, 0.5])
STIFF = correlation((1.7, np.full((2, 2), -2.0)))
H = 0.8


def growth_per_step(dt_us, steps=300, window=60, cells=64):
    """Mean factor per step of the deviation from uniform lipids, from faint white noise."""
    tank = LipidTank(model_of(STIFF_LIPIDS, STIFF, cells=cells, spacing_nm=H, dt_us=dt_us))
    bulk = STIFF_LIPIDS.bulk_density[:, None, None]
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, cells, cells))
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    tank.density = bulk * (1 + 1e-9 * noise)
    # crowding only: whatever composition remains decays slower than the stiff mode
    size = []
    for _ in range(steps):
        tank.advance()
        size.append(np.linalg.norm((tank.density - bulk).sum(axis=0)))
        if size[-1] > 1e-2:
            break
    window = min(window, len(size) // 2)
    return (size[-1] / size[-1 - window]) ** (1 / window)


def test_a_step_above_the_limit_blows_up_and_one_below_does_not():
    limit_us = stable_step_us(STIFF_LIPIDS, STIFF, H)
    assert 1e-4 < limit_us < 0.01
    assert growth_per_step(0.95 * limit_us) < 1
    assert growth_per_step(1.10 * limit_us) > 1.02


def test_a_step_above_the_limit_is_refused_with_the_limit():
    limit_us = stable_step_us(STIFF_LIPIDS, STIFF, H)
    check_step(STIFF_LIPIDS, STIFF, H, 0.98 * limit_us)
    expected = rf"time_step_us must be at most {limit_us:.4g}, the stability limit .* grow by"
    with pytest.raises(ValueError, match=expected):
        check_step(STIFF_LIPIDS, STIFF, H, 1.03 * limit_us)


def test_the_published_set_has_no_limit():
    model = preset_model()
    h = model.membrane.spacing_nm
    assert stable_step_us(model.lipids, model.correlation, h) == np.inf
    for dt_us in (0.001, 0.01, 0.04, 0.3):
        radius = amplification(model.lipids, model.correlation, h, dt_us, wavenumbers(h))
        assert radius.max() < 1
    check_step(model.lipids, model.correlation, h, 0.04)


@pytest.mark.parametrize("dt_us", [0.005, 0.01, 0.04])
@pytest.mark.parametrize(("kx", "ky"), [(1, 0), (0, 2), (2, 1), (3, 3)])
def test_the_slowest_mode_decays_by_the_predicted_factor_a_step(dt_us, kx, ky):
    cells, side_nm = 48, 20.0
    model = preset_model(
        "numerics.precision=double", f"numerics.time_step_us={dt_us}", side_nm=side_nm, cells=cells
    )
    k = np.array([2 * np.pi / side_nm * np.hypot(kx, ky)])
    predicted = amplification(model.lipids, model.correlation, side_nm / cells, dt_us, k)[0]
    rate, mode = np.linalg.eig(relaxation_matrix(model.lipids, model.correlation, k)[0])
    slowest = mode[:, np.argmin(rate)]
    bulk, shape = model.lipids.bulk_density[:, None, None], wave(cells, kx, ky)
    tank = LipidTank(model)
    tank.density = bulk + 1e-4 * slowest[:, None, None] * shape
    amplitudes = []
    for _ in range(12):
        tank.advance()
        amplitudes.append(np.abs((shape * (tank.density - bulk)).mean(axis=(1, 2))).max())
    measured = (amplitudes[-1] / amplitudes[5]) ** (1 / 6)
    # the prediction decays lipids as exp(-D k² dt), the sweeps do so to second order
    assert np.log(measured) == pytest.approx(np.log(predicted), rel=0.05)


@pytest.mark.parametrize(("kx", "ky"), [(3, 0), (0, 4), (4, 4)])
def test_a_stiff_wave_oscillates_by_the_predicted_factor_a_step(kx, ky):
    cells = 48
    lipid, stiff = lipids([50.0], [1.0]), correlation((1.7, [[-2.0]]))
    dt_us = 0.95 * stable_step_us(lipid, stiff, H)
    k = np.array([2 * np.pi / cells / H * np.hypot(kx, ky)])
    predicted = amplification(lipid, stiff, H, dt_us, k)[0]
    shape = wave(cells, kx, ky)
    tank = LipidTank(model_of(lipid, stiff, cells=cells, spacing_nm=H, dt_us=dt_us))
    tank.density = 1 + 1e-4 * shape[None]
    amplitudes = []
    for _ in range(40):
        tank.advance()
        amplitudes.append(abs((shape * (tank.density[0] - 1)).mean()))
    measured = (amplitudes[-1] / amplitudes[9]) ** (1 / 30)
    assert measured == pytest.approx(predicted, abs=0.05)
