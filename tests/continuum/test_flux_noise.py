import numpy as np
import pytest
from scipy import fft

from continuum.correlation import density_covariance, stability_matrix
from continuum.decomposition import Slab, cut_into_slabs
from continuum.flux_noise import FluxNoise
from tests.continuum.laboratory import LipidTank, correlation, lipids, model_of, preset_model

IDEAL = correlation()
RANGE_NM = 1.5


def noise_on(slab, *, dt_us=0.01, spacing_nm=0.8, seed=4, dtype=np.float32):
    return FluxNoise(
        slab=slab,
        sweep_halo=7,
        spacing_nm=spacing_nm,
        diffusivity=np.array([20.0, 50.0, 40.0]),
        amplitude=0.3,
        range_nm=RANGE_NM,
        dt_us=dt_us,
        seed=seed,
        dtype=dtype,
    )


@pytest.mark.parametrize(("spacing_nm", "dtype"), [(0.8, np.float32), (0.4, np.float64)])
def test_any_cut_of_the_membrane_draws_the_same_field(spacing_nm, dtype):
    cells = 64
    whole = noise_on(Slab(cells=cells, first_row=0, rows=cells), spacing_nm=spacing_nm, dtype=dtype)
    whole.draw(12)
    own = whole.fields[:, :, whole.halo : -whole.halo]
    assert own.std() > 0.01
    for ranks in (2, 3, 4):
        for slab in cut_into_slabs(cells, ranks, 8):
            part = noise_on(slab, spacing_nm=spacing_nm, dtype=dtype)
            part.draw(12)
            first = slab.first_row // part.factor
            rows = np.arange(first - part.halo, first + slab.rows // part.factor + part.halo)
            np.testing.assert_array_equal(part.fields, own[:, :, rows % (cells // part.factor)])


def test_a_field_is_decided_by_seed_and_step_alone():
    slab = Slab(cells=32, first_row=0, rows=32)
    first, again, other = noise_on(slab), noise_on(slab), noise_on(slab, seed=5)
    drawn = []
    for step in (0, 1, 1 << 32):
        first.draw(step)
        drawn.append(first.fields.copy())
    again.draw(1)
    np.testing.assert_array_equal(again.fields, drawn[1])
    other.draw(1)
    single_fields = [field for draw in (*drawn, other.fields) for pair in draw for field in pair]
    alike = np.corrcoef([field.ravel() for field in single_fields]) - np.eye(len(single_fields))
    assert np.abs(alike).max() < 0.4


def test_noise_switched_off_draws_nothing():
    slab = Slab(cells=32, first_row=0, rows=32)
    silent = FluxNoise(
        slab=slab,
        sweep_halo=7,
        spacing_nm=0.8,
        diffusivity=np.array([20.0]),
        amplitude=0.0,
        range_nm=RANGE_NM,
        dt_us=10.0,
        seed=1,
        dtype=np.float32,
    )
    silent.draw(0)
    assert not silent.fields.any()


def test_steps_that_blur_more_than_the_noise_are_refused_with_the_limit():
    slab = Slab(cells=32, first_row=0, rows=32)
    with pytest.raises(ValueError, match=r"time_step_us must be below 0.045 .* got 0.05"):
        noise_on(slab, dt_us=0.05)
    with pytest.raises(ValueError, match=r"noise_range_nm must be wide enough for a grid of 5 nm"):
        noise_on(slab, spacing_nm=5.0)


KICKED = [20.0] * 8 + [50.0] * 8


def kicks(steps, cells=32, spacing_nm=0.8, dt_us=0.01, amplitude=0.02):
    """Fourier modes (steps, species, ky, kx) that one step leaves of uniform ideal lipids."""
    model = model_of(
        lipids(KICKED), IDEAL, cells=cells, spacing_nm=spacing_nm, dt_us=dt_us, noise=amplitude
    )
    tank = LipidTank(model)
    found = []
    for _ in range(steps):
        tank.density = np.ones((len(KICKED), cells, cells))
        tank.advance()
        found.append(fft.fft2(tank.density - 1) / cells)
    return np.array(found)


def test_kicks_have_no_mean_and_no_memory_and_no_preferred_axis():
    modes = kicks(400)[..., (0, 1, 2, 3, -1), :][..., (0, 1, 2, 3)]
    power = (np.abs(modes) ** 2).mean(axis=(0, 1))
    steps, species = modes.shape[:2]
    standard_error = np.sqrt(power / (steps * species))
    assert not power[0, 0] > 1e-20  # mass
    power[0, 0] = 1
    mean = modes.mean(axis=(0, 1))
    assert (np.abs(mean) < 4 * standard_error + 1e-12).all()
    memory = (modes[1:] * modes[:-1].conj()).mean(axis=(0, 1))
    assert (np.abs(memory) < 4 * power / np.sqrt(steps * species)).all()
    between_species = (modes[:, 1:] * modes[:, :-1].conj()).mean(axis=(0, 1))
    assert (np.abs(between_species) < 4 * power / np.sqrt(steps * species)).all()
    for k in (1, 2, 3):
        # power varies by a relative sqrt(2) / sqrt(2 numbers) between two exponential averages
        assert power[0, k] == pytest.approx(power[k, 0], rel=4 * np.sqrt(2 / (steps * species)))
    assert power[1, 1] == pytest.approx(power[-1, 1], rel=4 * np.sqrt(2 / (steps * species)))


def test_a_kick_has_the_spectrum_of_filtered_flux_noise():
    """2 ε² n D dt k² exp(-k² (l² - D dt)) along an axis, less the decay in its own step."""
    cells, spacing_nm, dt_us = 32, 0.8, 0.01
    modes = kicks(300)
    for species, d in ((slice(0, 8), 20.0), (slice(8, 16), 50.0)):
        for waves in (1, 2, 3, 4):
            k = 2 * np.pi * waves / cells / spacing_nm
            along_x, along_y = modes[:, species, 0, waves], modes[:, species, waves, 0]
            power = (np.abs(along_x) ** 2 + np.abs(along_y) ** 2).mean() / 2 * spacing_nm**2
            spectrum = np.exp(-(k**2) * (RANGE_NM**2 - d * dt_us) - 2 * d * k**2 * dt_us)
            expected = 2 * 0.02**2 * d * dt_us * k**2 * spectrum
            assert power == pytest.approx(expected, rel=0.06)


@pytest.mark.slow
def test_ideal_lipids_fluctuate_as_linear_theory_says():
    """<|n(k)|²> / area = ε² n exp(-k² l²), for all directions of k and any diffusivity."""
    cells, spacing_nm, amplitude = 24, 0.8, 0.02
    model = model_of(
        lipids(KICKED), IDEAL, cells=cells, spacing_nm=spacing_nm, dt_us=0.01, noise=amplitude
    )
    tank = LipidTank(model)
    tank.advance(100)
    power, mean, samples = 0, 0, 600
    for _ in range(samples):
        tank.advance(4)
        modes = fft.fft2(tank.density - 1) * spacing_nm / cells
        power = power + np.abs(modes) ** 2 / samples
        mean = mean + (tank.density - 1) / samples
    for species in (slice(0, 8), slice(8, 16)):
        for kx, ky in ((1, 1), (2, 0), (0, 2), (2, 2), (3, 0), (0, 3), (3, 2), (2, 3)):
            k2 = (2 * np.pi / cells / spacing_nm) ** 2 * (kx**2 + ky**2)
            measured = (power[species, ky, kx] + power[species, ky, -kx]).mean() / 2
            theory = amplitude**2 * np.exp(-k2 * RANGE_NM**2)
            assert measured == pytest.approx(theory, rel=0.10)
    assert np.abs(mean).max() < 3 * tank.density.std() / np.sqrt(samples / 20)


@pytest.mark.slow
def test_the_mixture_fluctuates_as_linear_theory_says():
    """Composition modes against ε² exp(-k² l²) / λ(M); total density stays below ideal lipids."""
    amplitude, side_nm, cells = 0.05, 20.0, 48
    model = preset_model(
        f"numerics.noise.amplitude={amplitude}", "numerics.time_step_us=0.005", side_nm=side_nm
    )
    bulk, root = model.lipids.bulk_density, np.sqrt(model.lipids.bulk_density)
    tank = LipidTank(model)
    tank.advance(300)
    waves = ((1, 1), (1, -1), (2, 0), (0, 2), (2, 2), (2, -2))
    covariance, samples = np.zeros((3, 14, 14)), 400
    for _ in range(samples):
        tank.advance(6)
        modes = fft.fft2(tank.density - bulk[:, None, None]) * side_nm / cells**2
        for i, (kx, ky) in enumerate(waves):
            mode = modes[:, ky, kx]
            covariance[i // 2] += np.outer(mode, mode.conj()).real / samples / 2
    for (kx, ky), measured in zip(waves[::2], covariance, strict=True):
        k = np.array([2 * np.pi / side_nm * np.hypot(kx, ky)])
        softness, direction = np.linalg.eigh(
            np.linalg.inv(stability_matrix(model.lipids, model.correlation, k)[0])
        )
        scale = amplitude**2 * np.exp(-(k[0] ** 2) * RANGE_NM**2)
        along = np.diag(direction.T @ (measured / np.outer(root, root)) @ direction) / scale
        assert softness[:2].max() < 0.1 < softness[2]  # two crowding modes, twelve of composition
        assert (along[2:] / softness[2:]).mean() == pytest.approx(1, abs=0.08)
        assert along[-1] == pytest.approx(softness[-1], rel=0.3)
        assert along[-1] > 1.3
        assert along[:2].max() < 1
        theory = density_covariance(model.lipids, model.correlation, k, amplitude, RANGE_NM)[0]
        ratio = np.diag(measured) / np.diag(theory)
        assert ratio.mean() == pytest.approx(1, abs=0.12)
