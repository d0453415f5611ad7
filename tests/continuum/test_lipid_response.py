import numpy as np
import pytest
from scipy.integrate import quad

from continuum.lipid_response import MOMENTS, moments, response_rates, response_shares, seen
from continuum.parameters import RadialPotentials
from tests.continuum.laboratory import lipids


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("z", [1e-12, 0.3, 2.0, 30.0])
def test_shares_average_over_the_step_as_a_relaxing_mode_does(z, power):
    """n' = -ν (n - s^power) from rest to s = 1, in units of the step, against its integral."""
    fraction = np.linspace(0, 1, 2001)
    share = response_shares(fraction, np.array([z]))[:, 0]
    assert share.sum() == pytest.approx(1, abs=1e-12)
    assert (share >= 0).all()
    end, _ = quad(lambda s: z * np.exp(-z * (1 - s)) * s**power, 0, 1)
    assert share @ fraction**power == pytest.approx(end / -np.expm1(-z), abs=1e-5)


def test_lipids_that_relax_at_once_see_the_end_of_the_step():
    share = response_shares(np.array([0.0, 0.4, 1.0]), np.array([1e6]))
    np.testing.assert_allclose(share[:, 0], [0, 0, 1], rtol=0, atol=1e-12)


def test_the_mean_moment_is_that_of_the_exponential_integrator():
    z = np.array([0.1, 1.0, 10.0])
    fraction = np.linspace(0, 1, 4001)
    mean = fraction @ response_shares(fraction, z)
    np.testing.assert_allclose(mean, 1 / -np.expm1(-z) - 1 / z, rtol=0, atol=1e-6)
    assert (mean > 0.5).all()


@pytest.mark.parametrize("substeps", range(2, 41))
def test_moments_lie_evenly_about_the_middle_of_the_step(substeps):
    chosen = moments(substeps)
    assert len(chosen) == min(MOMENTS, substeps) + (substeps % 2 if substeps < MOMENTS else 0)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen + chosen[::-1], substeps)
    fraction = chosen / substeps
    assert fraction @ response_shares(fraction, np.zeros(1))[:, 0] == pytest.approx(0.5)


def test_a_resting_bead_is_seen_where_it_is():
    path = np.broadcast_to(np.array([[3.0, 4.0]]), (11, 1, 2))
    position, share = seen(path, np.array([0.5, 3.0]))
    np.testing.assert_array_equal(position, path[: len(position)])
    np.testing.assert_allclose(share.sum(axis=0), 1)


def test_the_rate_of_a_gaussian_is_that_of_its_mean_square_wavenumber():
    """exp(-r²/2a²) drives by |k u_k|² ~ k² exp(-k² a²), whose mean k² in the plane is 2/a²."""
    r, widths = np.arange(2003) * 0.01, np.array([1.0, 2.0])
    u = np.array([[-0.3], [0.7]])[..., None] * np.exp(-(r**2) / 2 / widths[:, None] ** 2)
    u = np.concatenate([u, np.zeros((2, 1, r.size))], axis=1)
    u[:, :, r >= 20.0 - 1e-9] = 0
    potentials = RadialPotentials(u=u, dr_nm=0.01, cutoff_nm=20.0)
    rates = response_rates(potentials, lipids([40.0, 50.0, 60.0]))
    np.testing.assert_allclose(rates, [40.0 * 2, 50.0 * 2 / 4, 0.0], rtol=1e-3)
