import numpy as np
import pytest
from scipy import fft

from continuum.gaussian_filter import filter_along_x, gaussian_taps


@pytest.mark.parametrize("sigma", [0.45, 0.6, 1.0, 1.2, 2.4, 3.7])
def test_taps_sum_to_one_with_the_variance_asked_for(sigma):
    taps = gaussian_taps(sigma)
    offset = np.arange(1, len(taps))
    assert taps[0] + 2 * taps[1:].sum() == pytest.approx(1, abs=1e-15)
    assert 2 * (taps[1:] * offset**2).sum() == pytest.approx(sigma**2, rel=1e-9)
    assert (np.diff(taps) < 0).all()
    assert taps.min() > 0


def test_a_filter_of_no_width_changes_nothing():
    np.testing.assert_array_equal(gaussian_taps(0.0), [1.0])


@pytest.mark.parametrize("sigma", [0.01, 0.2, 0.44])
def test_below_the_narrowest_gaussian_three_taps_hold_the_variance(sigma):
    centre, side = gaussian_taps(sigma)
    assert centre + 2 * side == pytest.approx(1, abs=1e-15)
    assert 2 * side == pytest.approx(sigma**2, rel=1e-12)
    assert min(centre, side) > 0


@pytest.mark.parametrize("sigma", [-1.0, np.nan])
def test_a_width_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match=f"a standard deviation must be >= 0, got {sigma}"):
        gaussian_taps(sigma)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 2.4, 8.0])
def test_rows_are_convolved_periodically_with_a_gaussian(sigma):
    cells, halo = 24, 3
    field = np.random.default_rng(0).normal(size=(2, 4 + 2 * halo, cells))
    taps = gaussian_taps(sigma)
    kernel = np.zeros(cells)
    for t in range(-len(taps) + 1, len(taps)):
        kernel[t % cells] += taps[abs(t)]
    slow = sum(np.roll(field, t, 2) * kernel[t % cells] for t in range(cells))
    filtered = field.copy()
    filter_along_x(filtered, halo, taps)
    own = slice(halo, -halo)
    np.testing.assert_allclose(filtered[:, own], slow[:, own], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(filtered[:, :halo], field[:, :halo])
    np.testing.assert_array_equal(filtered[:, -halo:], field[:, -halo:])


@pytest.mark.parametrize(("sigma", "tolerance"), [(0.8, 6e-2), (1.2, 2e-3), (2.4, 1e-4)])
def test_taps_have_the_spectrum_of_a_gaussian(sigma, tolerance):
    taps = gaussian_taps(sigma)
    k = 2 * np.pi * fft.rfftfreq(64)
    spectrum = taps[0] + 2 * (taps[1:, None] * np.cos(np.arange(1, len(taps))[:, None] * k)).sum(0)
    np.testing.assert_allclose(spectrum, np.exp(-0.5 * (k * sigma) ** 2), rtol=0, atol=tolerance)
