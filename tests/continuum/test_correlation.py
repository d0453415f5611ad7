from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov

from continuum.configuration import load_model
from continuum.correlation import (
    c_of_k,
    check_stable,
    cutoff_nm,
    density_covariance,
    explicit_step_limit_us,
    least_stable,
    mode_times_us,
    relaxation_matrix,
    stability_matrix,
)
from continuum.parameters import Correlation, GaussianCoupling, LeafletRepulsion, Lipids

PUBLISHED = load_model("published")
LAPTOP = load_model("laptop")


def small_mixture() -> tuple[Lipids, Correlation]:
    lipids = Lipids(
        names=("A", "B", "A"),
        leaflet=np.array([0, 0, 1], dtype=np.int8),
        bulk_density=np.array([0.7, 0.4, 0.9]),
        diffusivity=np.array([20.0, 60.0, 40.0]),
        area_weight=np.array([1.2, 0.7, 1.0]),
    )
    matrix = np.array([[0.02, -0.05, 0.03], [-0.05, 0.04, 0.01], [0.03, 0.01, -0.02]])
    correlation = Correlation(
        couplings=(GaussianCoupling(range_nm=1.1, matrix=matrix),),
        repulsion=LeafletRepulsion(range_nm=0.6, strength=np.array([2.0, 3.0])),
    )
    return lipids, correlation


def test_c_of_k_is_the_fourier_transform_of_c_of_r():
    lipids, correlation = small_mixture()
    x = np.arange(-120, 120) * 0.05
    squared = x[:, None] ** 2 + x[None, :] ** 2
    k = np.array([0.0, 0.9, 2.3])
    transform = c_of_k(lipids, correlation, k)
    weight, strength = lipids.area_weight, correlation.repulsion.strength
    for i in range(3):
        for j in range(3):
            c = correlation.couplings[0].matrix[i, j] * np.exp(-squared / (2 * 1.1**2))
            if lipids.leaflet[i] == lipids.leaflet[j]:
                amplitude = strength[lipids.leaflet[i]] * weight[i] * weight[j]
                c = c - amplitude * np.exp(-squared / (2 * 0.6**2))
            slow = [0.05**2 * np.sum(c * np.cos(wave * x)[:, None]) for wave in k]
            np.testing.assert_allclose(transform[:, i, j], slow, rtol=0, atol=1e-6)


def test_the_least_stable_mode_of_the_reference_set():
    eigenvalue, wavenumber = least_stable(PUBLISHED.lipids, PUBLISHED.correlation, 1000 / 2400)
    assert eigenvalue == pytest.approx(0.399, abs=5e-4)  # membrane-physics 7.3.1
    assert wavenumber == 0.0
    highest = stability_matrix(PUBLISHED.lipids, PUBLISHED.correlation, np.zeros(1))
    assert np.linalg.eigvalsh(highest)[0, -1] == pytest.approx(21.8, abs=0.05)
    laptop, _ = least_stable(LAPTOP.lipids, LAPTOP.correlation, 250 / 300)
    assert laptop == pytest.approx(eigenvalue, abs=1e-12)  # integrals are kept


def test_a_minimum_between_sampled_wavenumbers_is_found():
    lipids, _ = small_mixture()
    narrow = GaussianCoupling(range_nm=0.5, matrix=np.diag([1.0, 0.0, 0.0]))
    wide = GaussianCoupling(range_nm=2.0, matrix=np.diag([-0.5, 0.0, 0.0]))
    correlation = Correlation(couplings=(narrow, wide), repulsion=None)
    # dc/dk² = 0 of a_1 s_1² e^{-k² s_1²/2} - a_2 s_2² e^{-k² s_2²/2}
    exact = np.sqrt(2 / (2.0**2 - 0.5**2) * np.log(0.5 * 2.0**4 / (1.0 * 0.5**4)))
    eigenvalue, wavenumber = least_stable(lipids, correlation, 0.7)
    assert wavenumber == pytest.approx(exact, abs=1e-4)
    c = c_of_k(lipids, correlation, np.array([exact]))[0, 0, 0]
    assert eigenvalue == pytest.approx(1 - 0.7 * c, rel=1e-9)


def test_unstable_interactions_are_refused_with_eigenvalue_and_wavenumber():
    lipids, correlation = PUBLISHED.lipids, PUBLISHED.correlation
    check_stable(lipids, correlation, 0.5)
    stronger = replace(
        correlation,
        couplings=tuple(replace(c, matrix=3.0 * c.matrix) for c in correlation.couplings),
    )
    with pytest.raises(ValueError, match=r"must be >= 0\.1, it is -0\.8\d* at k = 0 nm⁻¹"):
        check_stable(lipids, stronger, 0.5)
    with pytest.raises(ValueError, match=r"must be >= 0\.45, it is 0\.3986"):
        check_stable(lipids, correlation, 0.5, least_eigenvalue=0.45)


@pytest.mark.parametrize(
    ("model", "limit_ns"), [(PUBLISHED, 0.687), (LAPTOP, 1.82)], ids=["published", "laptop"]
)
def test_the_explicit_step_limit_is_that_of_the_whole_spectrum(model, limit_ns):
    spacing_nm = model.membrane.spacing_nm
    limit_us = explicit_step_limit_us(model.lipids, model.correlation, spacing_nm)
    assert 1000 * limit_us == pytest.approx(limit_ns, abs=6e-3 if limit_ns > 1 else 6e-4)
    angle = np.linspace(0, np.pi, 41)
    kx, ky = (axis.ravel() / spacing_nm for axis in np.meshgrid(angle, angle))
    stencil = (
        4 / spacing_nm**2 * (np.sin(kx * spacing_nm / 2) ** 2 + np.sin(ky * spacing_nm / 2) ** 2)
    )
    root = np.sqrt(model.lipids.diffusivity)
    mobility = stability_matrix(model.lipids, model.correlation, np.hypot(kx, ky))
    rate = stencil * np.linalg.eigvalsh(root[:, None] * mobility * root)[:, -1]
    assert limit_us == pytest.approx(2 / rate.max(), rel=2e-3)


def test_the_step_limit_is_where_explicit_euler_starts_to_grow():
    lipids, correlation = small_mixture()
    cells, spacing_nm = 32, 0.5
    limit_us = explicit_step_limit_us(lipids, correlation, spacing_nm)
    k = 2 * np.pi * np.fft.fftfreq(cells, spacing_nm)
    kx, ky = np.meshgrid(k, k)
    stencil = (
        4 / spacing_nm**2 * (np.sin(kx * spacing_nm / 2) ** 2 + np.sin(ky * spacing_nm / 2) ** 2)
    )
    response = np.eye(3) - lipids.bulk_density[:, None] * c_of_k(
        lipids, correlation, np.hypot(kx, ky).ravel()
    )
    generator = stencil.ravel()[:, None, None] * lipids.diffusivity[:, None] * response

    def largest_after(step_us: float) -> float:
        wave = np.random.default_rng(3).normal(size=(cells**2, 3))
        start = np.abs(wave).max()
        for _ in range(400):
            wave = wave - step_us * np.einsum("kij,kj->ki", generator, wave)
        return float(np.abs(wave).max() / start)

    assert largest_after(0.97 * limit_us) < 1.0
    assert largest_after(1.03 * limit_us) > 1e3


def test_decay_times_of_the_reference_set():
    times = mode_times_us(PUBLISHED.lipids, PUBLISHED.correlation, 2 * np.pi / 30)
    composition, total = times[:12], times[12:]
    # membrane-physics 7.9 g
    assert composition[0] == pytest.approx(1.26, abs=5e-3)
    assert composition[-1] == pytest.approx(0.33, abs=6e-3)
    assert np.median(composition) == pytest.approx(0.54, abs=6e-3)
    np.testing.assert_allclose(total, 0.024, rtol=0, atol=6e-4)


def test_decay_times_are_those_of_the_relaxation_matrix():
    lipids, correlation = small_mixture()
    rates = np.linalg.eigvals(relaxation_matrix(lipids, correlation, np.array([0.4]))[0])
    expected = np.sort(1 / rates.real)[::-1]
    np.testing.assert_allclose(mode_times_us(lipids, correlation, 0.4), expected, rtol=1e-12)


def test_free_lipids_decay_by_diffusion_alone():
    lipids, _ = small_mixture()
    free = Correlation(couplings=(), repulsion=None)
    expected = 1 / (0.3**2 * np.array([20.0, 40.0, 60.0]))
    np.testing.assert_allclose(mode_times_us(lipids, free, 0.3), expected, rtol=1e-13)


def test_the_covariance_solves_the_lyapunov_equation():
    lipids, correlation = small_mixture()
    k, amplitude, range_nm = np.array([0.3, 1.4]), 0.3, 1.5
    covariance = density_covariance(lipids, correlation, k, amplitude, range_nm)
    for wave, one in zip(k, covariance, strict=True):
        decay = relaxation_matrix(lipids, correlation, np.array([wave]))[0]
        noise = 2 * amplitude**2 * np.exp(-(wave**2) * range_nm**2) * wave**2
        drive = noise * np.diag(lipids.diffusivity * lipids.bulk_density)
        np.testing.assert_allclose(one, solve_continuous_lyapunov(decay, drive), rtol=1e-11)


def test_ideal_lipids_fluctuate_as_membrane_physics_says():
    lipids, _ = small_mixture()
    free = Correlation(couplings=(), repulsion=None)
    k = np.linspace(0.0, 8.0, 4001)
    variance = density_covariance(lipids, free, k, 0.3, 1.5)[:, 0, 0] * k / (2 * np.pi)
    relative = np.sqrt(np.trapezoid(variance, k)) / lipids.bulk_density[0]
    assert relative == pytest.approx(0.3 / np.sqrt(4 * np.pi * 1.5**2 * 0.7), rel=1e-5)


def test_the_cutoff_covers_the_widest_gaussian():
    assert cutoff_nm(PUBLISHED.correlation) == 4.5
    assert cutoff_nm(Correlation(couplings=(), repulsion=None)) == 0.0


def test_growing_modes_have_no_decay_time():
    lipids, _ = small_mixture()
    unstable = Correlation(
        couplings=(GaussianCoupling(range_nm=1.0, matrix=np.eye(3)),), repulsion=None
    )
    with pytest.raises(ValueError, match=r"a mode grows at k = 0\.1"):
        mode_times_us(lipids, unstable, 0.1)
    with pytest.raises(ValueError, match="k must be > 0, got 0"):
        mode_times_us(lipids, unstable, 0.0)
