"""Linear theory of a patch's composition, against closed forms and direct sums."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import erf

from campaign.analysis.decorrelation import PATCH_SIDE_NM
from campaign.analysis.histories import Histories
from campaign.analysis.linear_theory import composition_in_time, rise_of_means, rise_of_nodes
from continuum import load_model
from continuum.correlation import density_covariance, relaxation_matrix
from continuum.parameters import Correlation

LAGS_US = np.array([0.05, 0.5, 2.0, 10.0])
DIFFUSIVITY = 40.0


@pytest.fixture(scope="module")
def model():
    return load_model("laptop-post-campaign")


@pytest.fixture(scope="module")
def ideal(model):
    """Lipids that do not see each other, all of one diffusivity, under nearly unfiltered noise."""
    lipids = replace(model.lipids, diffusivity=np.full(model.lipids.count, DIFFUSIVITY))
    none = Correlation(couplings=(), repulsion=None)
    numerics = replace(model.numerics, noise_range_nm=0.5)
    return replace(model, lipids=lipids, correlation=none, numerics=numerics)


def test_means_of_ideal_lipids_are_forgotten_as_a_box_that_diffuses(ideal):
    """C = c(s)² / c(0)², with c the overlap of a side and itself smeared by 4 (l² + D s)."""
    side = PATCH_SIDE_NM * 37 / 36

    def overlap(lag_us):
        width = np.sqrt(4 * (0.5**2 + (DIFFUSIVITY + 15.0) * lag_us))
        edge = -np.expm1(-((side / width) ** 2))
        return erf(side / width) - width / (side * np.sqrt(np.pi)) * edge

    found = rise_of_means(ideal, LAGS_US, 15.0)
    np.testing.assert_allclose(found, 1 - overlap(LAGS_US) ** 2 / overlap(0.0) ** 2, atol=5e-3)


def test_nodes_of_ideal_lipids_are_forgotten_at_the_scale_of_the_noise(ideal):
    """∫ exp(-k² l² - D k² s) k dk: C = l² / (l² + D s)."""
    found = rise_of_nodes(ideal, LAGS_US, 15.0)
    np.testing.assert_allclose(found, 1 - 0.25 / (0.25 + 55.0 * LAGS_US), atol=1e-3)


def test_lipids_that_see_each_other_decay_by_the_matrix_exponential(model):
    k = np.linspace(0, 4 / model.numerics.noise_range_nm, 802)[1:]
    decay = relaxation_matrix(model.lipids, model.correlation, k)
    noise = (model.numerics.noise_amplitude, model.numerics.noise_range_nm)
    covariance = density_covariance(model.lipids, model.correlation, k, *noise)
    kept = [
        sum(
            q * np.exp(-15.0 * q**2 * lag) * np.trace(expm(-a * lag) @ c)
            for q, a, c in zip(k, decay, covariance, strict=True)
        )
        for lag in (0.0, *LAGS_US)
    ]
    expected = 1 - np.array(kept[1:]) / kept[0]
    np.testing.assert_allclose(rise_of_nodes(model, LAGS_US, 15.0), expected, atol=1e-4)


def test_a_patch_as_a_whole_is_forgotten_within_the_papers_half_microsecond(model):
    lag_us = np.linspace(0.1, 2.0, 96)
    assert 0.5 < np.interp(1 - np.exp(-1), rise_of_nodes(model, lag_us, 15.0), lag_us) < 0.65


def test_histories_are_compared_with_the_diffusivity_of_their_proteins(model):
    generator = np.random.default_rng(0)
    state = np.zeros((60, 5), np.int8)
    state[:, 1:] = 3
    histories = Histories(
        z=generator.standard_normal((60, 5, 2)).astype(np.float32),
        mean_density=generator.standard_normal((60, 5, 14)).astype(np.float32),
        state=state,
        time_us=0.1 * np.arange(60),
        parameter_version=np.zeros(60, np.int64),
        encoder_version="abc",
    )
    found = composition_in_time(model, histories, resamples=20, threads=1)
    states = model.proteins.states
    mean = (states[0].diffusivity_nm2_per_us + 4 * states[3].diffusivity_nm2_per_us) / 5
    np.testing.assert_allclose(found.theory, rise_of_means(model, found.lag_us, mean))
    np.testing.assert_allclose(found.measured, 1.0, atol=0.1)  # white noise
    assert ((found.low <= found.measured) & (found.measured <= found.high)).all()
    assert found.largest_difference > 0.5
