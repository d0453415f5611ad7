import numpy as np
import pytest

from continuum.lipid_flux import (
    FOURIER_LIMIT,
    check_steepness,
    fourier_limit,
    steepest_kt,
    substeps,
)
from continuum.parameters import RadialPotentials

H = 1000 / 2400
CELLS = 41


def core(height_kt, range_nm=0.6):
    radius = np.arange(601) * 0.02
    u = height_kt * np.exp(-0.5 * (radius / range_nm) ** 2)
    u[-1] = 0.0
    return RadialPotentials(u=u[None, None], dr_nm=0.02, cutoff_nm=12.0)


def sweep_matrix(height_kt, limit, dt_us=0.01, diffusivity=46.0):
    """P(M) of one sweep across a core, as a dense matrix on densities."""
    x = (np.arange(CELLS) - CELLS // 2) * H
    a = np.exp(-0.5 * height_kt * np.exp(-0.5 * (x / 0.6) ** 2))
    z = diffusivity * dt_us / H**2
    m = substeps(diffusivity, dt_us, H, limit)
    right, left = np.roll(np.eye(CELLS), 1, axis=1), np.roll(np.eye(CELLS), -1, axis=1)
    on_b = z / m * (right + left - np.diag((np.roll(a, -1) + np.roll(a, 1)) / a))
    power = np.linalg.matrix_power(np.eye(CELLS) + on_b, m + 1)
    polynomial = (m * power + np.eye(CELLS)) / (m + 1)
    return a[:, None] * polynomial / a[None, :]


@pytest.mark.parametrize("height_kt", [0.5, 2.0, 6.0, -6.0])
def test_a_sweep_keeps_every_density_positive_across_any_core(height_kt):
    matrix = sweep_matrix(height_kt, fourier_limit(core(height_kt), H))
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=1e-12)


def test_the_flat_limit_would_not():
    assert sweep_matrix(6.0, FOURIER_LIMIT).min() < -1e-3


def test_the_slope_is_that_of_the_curve():
    expected = 3.0 * np.exp(-0.5) / 0.6 * H
    assert steepest_kt(core(3.0), H) == pytest.approx(expected, rel=1e-3)


def test_a_version_too_steep_for_a_run_is_refused_with_both_numbers():
    check_steepness(core(1.0), H, FOURIER_LIMIT)
    with pytest.raises(ValueError, match=r"at most 1\.2\d kT .* got 3\.37 kT"):
        check_steepness(core(8.0), H, FOURIER_LIMIT)
