import numpy as np
import pytest
from scipy import fft

from continuum.grid_transfer import (
    BLUR_VARIANCE,
    REACH,
    WEIGHTS,
    coarsen,
    cubic_b_spline,
    refine_rows_between,
)
from tests.continuum.laboratory import bumps

SPLINE = np.array(WEIGHTS)
HALO = 2


def gathered(fine):
    """P^T of periodic fields (layers, y, x)."""
    layers, rows, cells = fine.shape
    padded = np.concatenate([fine[:, -REACH:], fine, fine[:, :REACH]], axis=1)
    coarse = np.full((layers, rows // 2 + 2 * HALO, cells // 2), np.nan)
    coarsen(padded, SPLINE, HALO, coarse)
    return 4 * coarse[:, HALO:-HALO]


def spread(coarse):
    """P of a periodic field (y, x)."""
    padded = np.concatenate([coarse[-HALO:], coarse, coarse[:HALO]])
    rows, cells = 2 * coarse.shape[0], 2 * coarse.shape[1]
    fine, scratch = np.empty((rows, cells)), np.empty(cells // 2 + 4)
    for row in range(rows):
        refine_rows_between(padded, HALO, row, SPLINE, scratch, fine[row])
    return fine


def test_gathering_and_spreading_are_adjoint():
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(3, 24, 32)), rng.normal(size=(12, 16))
    for layer, sums in zip(fine, gathered(fine), strict=True):
        assert np.vdot(sums, coarse) == pytest.approx(np.vdot(layer, spread(coarse)), rel=1e-12)


def test_spreading_follows_the_definition_of_the_spline():
    coarse = np.random.default_rng(1).normal(size=(8, 10))
    fine_x, fine_y = (np.arange(20) + 0.5) / 2 - 0.5, (np.arange(16) + 0.5) / 2 - 0.5

    def matrix(position, nodes):
        away = (position[:, None] - np.arange(nodes) + nodes / 2) % nodes - nodes / 2
        return np.vectorize(cubic_b_spline)(away)

    slow = matrix(fine_y, 8) @ coarse @ matrix(fine_x, 10).T
    np.testing.assert_allclose(spread(coarse), slow, rtol=0, atol=1e-14)


def test_constants_are_kept_and_mass_is_gathered():
    np.testing.assert_allclose(spread(np.full((8, 8), 2.5)), 2.5, rtol=1e-15)
    np.testing.assert_allclose(gathered(np.full((1, 16, 16), 2.5)) / 4, 2.5, rtol=1e-15)
    fine = np.random.default_rng(2).uniform(size=(1, 16, 16))
    assert gathered(fine).sum() == pytest.approx(fine.sum(), rel=1e-13)


def test_a_transfer_blurs_by_the_variance_it_states():
    impulse = np.zeros((1, 32, 32))
    impulse[0, 13, 18] = 1.0
    density = gathered(impulse)[0]
    for axis, cell in ((1, 13), (0, 18)):
        marginal = density.sum(axis)
        place = np.arange(16)
        centre = (marginal * place).sum()
        assert centre == pytest.approx((cell + 0.5) / 2 - 0.5, abs=1e-13)
        variance = (marginal * (place - centre) ** 2).sum()
        assert variance == pytest.approx(BLUR_VARIANCE, abs=1e-13)


@pytest.mark.parametrize("sigma", [2.4, 3.0])
def test_a_gaussian_on_the_coarse_grid_equals_the_exact_convolution(sigma):
    """P G P^T against exp(-k² σ² / 2), σ in fine cells, on smooth fields."""
    cells = 48
    field = bumps(cells, 1)
    coarse_sigma = np.sqrt((sigma / 2) ** 2 - 2 * BLUR_VARIANCE)
    k = 2 * np.pi * fft.fftfreq(cells // 2)
    gaussian = np.exp(-0.5 * coarse_sigma**2 * (k[:, None] ** 2 + k[None, :] ** 2))
    found = spread(fft.ifft2(fft.fft2(gathered(field)[0] / 4) * gaussian).real)
    k = 2 * np.pi * fft.fftfreq(cells)
    exact = fft.ifft2(
        fft.fft2(field[0]) * np.exp(-0.5 * sigma**2 * (k[:, None] ** 2 + k[None, :] ** 2))
    ).real
    assert np.linalg.norm(found - exact) < 1e-3 * np.linalg.norm(exact - exact.mean())
