from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from continuum.configuration import load_model
from continuum.potential_inversion import (
    InversionLimits,
    inverse_potentials,
    radial_distribution,
    shell_areas,
    smoothed_g,
    updated_potentials,
)
from continuum.radial_equilibrium import equilibrium_profiles, potential_on, radial_correlation

START = load_model("published")
TRUTH = load_model("published", ["potentials.strength=1.2"])
OPERATOR = radial_correlation(START.lipids, START.correlation)
RADII = OPERATOR.radii_nm
INNER = START.lipids.leaflet == 0
RASB = 1
UNLIMITED = InversionLimits(largest_change_kt=100.0)


def equilibrium(model, operator=OPERATOR):
    return equilibrium_profiles(operator, potential_on(operator.radii_nm, model.potentials, RASB))


def expected_counts(g, frames):
    """Mean counts (8, 600) of `frames` independent frames with inner profiles g."""
    centre_nm = (np.arange(600) + 0.5) * 0.02
    density = START.lipids.bulk_density[INNER][:, None]
    return frames * density * shell_areas(600) * CubicSpline(RADII, g[INNER], axis=1)(centre_nm)


def of_one_state(counts):
    full = np.zeros((9, *counts.shape))
    full[RASB] = counts
    return full


def rms_error_kt(potentials):
    near = TRUTH.potentials.radii_nm < 4.0
    error = (potentials.u - TRUTH.potentials.u)[RASB][INNER][:, near]
    return float(np.sqrt(np.mean(error**2)))


def test_potential_to_profile_and_back_is_exact():
    u = potential_on(RADII, TRUTH.potentials, RASB)
    g = equilibrium_profiles(OPERATOR, u)
    back, complete = inverse_potentials(
        OPERATOR, np.where(INNER[:, None], g, np.nan), INNER, np.zeros_like(u)
    )
    assert np.abs(back - u).max() < 1e-8
    np.testing.assert_allclose(complete, g, rtol=0, atol=1e-9)


def test_the_round_trip_holds_across_two_quadratures():
    """The profile from a grid three times finer, so that no shared error can cancel."""
    fine = radial_correlation(START.lipids, START.correlation, spacing_nm=0.05 / 3)
    g = equilibrium(TRUTH, fine)[:, ::3]
    u = potential_on(RADII, TRUTH.potentials, RASB)
    back, _ = inverse_potentials(OPERATOR, g, INNER, np.zeros_like(u))
    assert np.abs(back - u).max() < 1e-4


def test_plain_boltzmann_inversion_is_wrong_by_the_known_amounts():
    g = equilibrium(TRUTH)
    u = potential_on(RADII, TRUTH.potentials, RASB)
    error = np.abs(-np.log(g[INNER, 0]) - u[INNER, 0])
    assert error.min() > 0.1
    assert 0.3 < error.max() < 0.7  # membrane-physics 0.6


def test_counts_of_a_uniform_membrane_give_one_everywhere():
    counts = 3.7 * shell_areas(600) * np.array([[0.2], [1.4]])
    assert shell_areas(600).sum() == pytest.approx(np.pi * 12.0**2, rel=1e-14)
    np.testing.assert_allclose(radial_distribution(counts), 1.0, rtol=1e-13)


def test_g_is_normalised_by_the_last_ten_bins_alone():
    counts = shell_areas(600)[None, :].copy()
    counts[:, :590] *= 2.5
    g = radial_distribution(counts)
    np.testing.assert_allclose(g[:, :590], 2.5, rtol=1e-13)
    np.testing.assert_allclose(g[:, 590:], 1.0, rtol=1e-13)


def test_potentials_that_explain_the_counts_stay():
    counts = of_one_state(expected_counts(equilibrium(TRUTH), 1e5))
    same = updated_potentials(TRUTH.potentials, counts, TRUTH.lipids, OPERATOR)
    assert np.abs(same.u - TRUTH.potentials.u).max() < 2e-6


def test_repeated_updates_find_the_truth_in_small_steps():
    counts = of_one_state(expected_counts(equilibrium(TRUTH), 1e5))
    potentials = START.potentials
    for _ in range(10):
        updated = updated_potentials(potentials, counts, START.lipids, OPERATOR)
        step = np.abs(updated.u - potentials.u)
        assert step.max() < 0.3 + 1e-3
        others = [state for state in range(9) if state != RASB]
        assert not step[others].any()
        assert not step[:, ~INNER].any()
        potentials = updated
    assert rms_error_kt(potentials) < 0.01


def test_frames_needed_for_an_accuracy():
    """rms errors over r < 4 nm after one unlimited update; 16 draws of Poisson frames gave

    u: 0.25 (0.08 to 0.64), 0.10 (0.05 to 0.18), 0.037 (0.013 to 0.073) kT for 300, 3000, 30000;
    ln g: 0.062, 0.021, 0.009. membrane-physics 4 has u: 0.07 to 0.21, 0.04 to 0.05, 0.03 to 0.04.
    Nearly all of it is noise of the leaflet's total density, which u answers to twenty times more
    than it acts on g.
    """
    g = equilibrium(TRUTH)
    rng = np.random.default_rng(11)
    for frames, of_u, of_g in ((300, 0.60, 0.08), (3000, 0.20, 0.03), (30000, 0.07, 0.013)):
        u_errors, g_errors = [], []
        for _ in range(4):
            counts = of_one_state(rng.poisson(expected_counts(g, frames)).astype(np.float64))
            updated = updated_potentials(
                START.potentials, counts, START.lipids, OPERATOR, UNLIMITED
            )
            u_errors.append(rms_error_kt(updated))
            got = equilibrium(replace(START, potentials=updated))
            g_errors.append(np.sqrt(np.mean(np.log(got / g)[INNER][:, RADII < 4.0] ** 2)))
        assert np.mean(u_errors) < of_u
        assert np.mean(g_errors) < of_g


def test_smoothing_has_no_bias_around_a_right_reference():
    g = equilibrium(TRUTH)[INNER]
    smooth = smoothed_g(expected_counts(equilibrium(TRUTH), 10.0), g, RADII, InversionLimits())
    np.testing.assert_allclose(smooth, g, rtol=1e-6)


def test_far_from_the_protein_the_reference_stays():
    g = equilibrium(TRUTH)[INNER]
    counts = np.random.default_rng(5).poisson(expected_counts(equilibrium(TRUTH), 50.0))
    smooth = smoothed_g(counts.astype(np.float64), g, RADII, InversionLimits())
    far = RADII >= 11.0
    np.testing.assert_array_equal(smooth[:, far], g[:, far])
    deviation = np.abs(smooth / g - 1.0).max(axis=0)
    assert deviation[RADII < 8.0].max() > 0.1
    assert deviation[RADII > 10.9].max() < 1e-3  # the taper is 0.003 there


def test_g_is_kept_from_zero():
    g = np.ones((1, RADII.size))
    counts = shell_areas(600)[None, :] * (np.arange(600) > 200)
    assert smoothed_g(counts, g, RADII, InversionLimits()).min() == 0.02


def test_a_lipid_with_few_counts_keeps_its_potential():
    counts = expected_counts(equilibrium(TRUTH), 1e5)
    counts[6] *= 199.0 / counts[6, :150].sum()
    updated = updated_potentials(START.potentials, of_one_state(counts), START.lipids, OPERATOR)
    np.testing.assert_array_equal(updated.u[RASB, 6], START.potentials.u[RASB, 6])
    assert np.abs(updated.u - START.potentials.u)[RASB, 5].max() > 0.05
    counts[6] *= 202.0 / 199.0
    updated = updated_potentials(START.potentials, of_one_state(counts), START.lipids, OPERATOR)
    assert np.abs(updated.u - START.potentials.u)[RASB, 6].max() > 0.05


def test_potentials_are_limited_smooth_and_end_at_the_cutoff():
    counts = expected_counts(equilibrium(TRUTH), 1e5)
    counts[6, :60] *= 200.0
    updated = updated_potentials(
        START.potentials, of_one_state(counts), START.lipids, OPERATOR, UNLIMITED
    )
    assert np.abs(updated.u).max() == 6.0
    assert not updated.u[:, :, -1].any()
    slope = np.diff(updated.u, axis=2) / updated.dr_nm
    assert np.abs(slope[:, :, -1]).max() < 1e-3


def test_bad_counts_are_refused():
    def update(counts):
        return updated_potentials(START.potentials, counts, START.lipids, OPERATOR)

    with pytest.raises(ValueError, match=r"counts must be of shape \(9, 8\) and at least 550 bins"):
        update(np.zeros((9, 14, 600)))
    with pytest.raises(ValueError, match=r"got \(9, 8, 500\)"):
        update(np.zeros((9, 8, 500)))
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="counts must be finite and >= 0"):
            update(np.full((9, 8, 600), wrong))
    with pytest.raises(ValueError, match="last 10 bins must hold counts"):
        radial_distribution(np.zeros((1, 600)))
    with pytest.raises(ValueError, match="a measured g must be > 0"):
        inverse_potentials(OPERATOR, np.zeros((14, RADII.size)), INNER, np.zeros((14, RADII.size)))


def test_no_counts_change_nothing():
    same = updated_potentials(START.potentials, np.zeros((9, 8, 600)), START.lipids, OPERATOR)
    np.testing.assert_array_equal(same.u, START.potentials.u)
