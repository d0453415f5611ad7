import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.chebyshev import Chebyshev

from continuum.parameters import RadialPotentials
from continuum.sweep_polynomial import (
    LARGEST_ERROR,
    LEAST_W,
    bead_w,
    check_steepness,
    largest_w,
    sweep_polynomial,
)

H = 1000 / 2400
FLAT = 2.0
FOURIER = (0.01, 0.3, 2.65, 10.0, 40.0)
BOUNDS = (FLAT, 2.1, 2.4, 3.0)
SIDE = 40


def core(height_kt, range_nm=0.6):
    radius = np.arange(601) * 0.02
    u = height_kt * np.exp(-0.5 * (radius / range_nm) ** 2)
    u[-1] = 0.0
    return RadialPotentials(u=u[None, None], dr_nm=0.02, cutoff_nm=12.0)


def operator(potential, fourier):
    """M on b as a dense matrix, and exp(-V/2)."""
    a = np.exp(-0.5 * potential)
    near = np.roll(np.eye(len(a)), 1, axis=1) + np.roll(np.eye(len(a)), -1, axis=1)
    return fourier * (near - np.diag(near @ a / a)), a


def applied(polynomial, matrix):
    """P(M) = 1 + M Q(M) by its stages."""
    one = np.eye(len(matrix))
    y = one
    for own, near in polynomial.stages:
        y = one + own * y + near / polynomial.fourier * matrix @ y
    return one + polynomial.weight * matrix @ y


def largest_ratio(potential):
    """The largest w of a periodic row."""
    a = np.exp(-0.5 * potential)
    return ((np.roll(a, 1) + np.roll(a, -1)) / a).max()


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("fourier", FOURIER)
def test_shares_are_not_negative_and_agree_with_exp_to_second_order(fourier, bound):
    polynomial = sweep_polynomial(fourier, bound)
    p = Chebyshev(polynomial.shares)
    assert polynomial.shares.min() >= 0
    for order in range(3):
        derivative = p.deriv(order)(bound / 2) / (2 * fourier) ** order
        assert derivative == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("fourier", FOURIER)
def test_no_wave_grows_and_each_decays_nearly_as_it_should(fourier, bound):
    polynomial = sweep_polynomial(fourier, bound)
    decay = np.linspace(0, 2 * fourier * bound, 2000)
    found = Chebyshev(polynomial.shares)(bound / 2 - decay / (2 * fourier))
    assert np.abs(found).max() <= 1 + 1e-12
    met = decay <= fourier * (2 + bound)
    assert np.abs(found - np.exp(-decay))[met].max() < 1.05 * LARGEST_ERROR
    np.testing.assert_allclose(polynomial(decay[met]), found[met], rtol=0, atol=1e-8)


def test_the_degree_grows_as_the_root_of_the_step():
    degrees = [sweep_polynomial(fourier, FLAT).degree for fourier in (0.2, 2.65, 10.6, 42.4)]
    assert degrees == [3, 6, 12, 22]
    assert [sweep_polynomial(fourier, 2.4).degree for fourier in (0.2, 2.65, 10.6)] == [3, 7, 17]


@pytest.mark.parametrize("fourier", [0.3, 2.65, 10.0])
def test_stages_apply_the_polynomial(fourier):
    rng = np.random.default_rng(0)
    polynomial = sweep_polynomial(fourier, 2.5)
    matrix, _ = operator(rng.normal(size=SIDE) * 0.2, fourier)
    decay, wave = np.linalg.eigh(-matrix)
    expected = wave @ np.diag(polynomial(decay)) @ wave.T
    np.testing.assert_allclose(applied(polynomial, matrix), expected, rtol=0, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from((0.3, 2.07, 2.65, 3.22, 10.0)),
    st.sampled_from(BOUNDS[1:]),
    st.integers(0, 12),
)
def test_a_sweep_keeps_every_density_positive_on_any_potential_within_the_bound(
    seed, fourier, bound, smoothness
):
    rough = np.random.default_rng(seed).normal(size=SIDE)
    for _ in range(smoothness):
        rough = (np.roll(rough, 1) + 2 * rough + np.roll(rough, -1)) / 4
    low, high = 0.0, 40.0  # kT; scaled until w reaches its bound somewhere
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if largest_ratio(middle * rough) <= bound else (low, middle)
    polynomial = sweep_polynomial(fourier, bound)
    matrix, a = operator(low * rough, fourier)
    sweep = a[:, None] * applied(polynomial, matrix) / a[None, :]
    np.testing.assert_allclose(sweep.sum(axis=0), 1, rtol=1e-9)
    assert largest_ratio(low * rough) == pytest.approx(bound, rel=1e-6)
    assert sweep.min() > -1e-12 * np.abs(sweep).max()
    # Σ n² / exp(-V) never rises
    assert np.linalg.norm(applied(polynomial, matrix), 2) <= 1 + 1e-10


@pytest.mark.parametrize("height_kt", [0.5, 2.0, -3.0])
def test_the_bound_holds_wherever_two_beads_stand_in_one_place(height_kt):
    bound = largest_w(core(height_kt), H)
    cells = np.arange(64) * H
    found = 0.0
    for x in np.linspace(10, 10 + H, 15):
        for y in (0.0, 0.2, 0.5):
            r = np.hypot(cells - x, y)
            found = max(found, largest_ratio(2 * height_kt * np.exp(-0.5 * (r / 0.6) ** 2)))
    assert found <= bound * (1 + 1e-3)
    assert found == pytest.approx(bound, rel=0.01)


def test_a_flat_potential_has_w_two_and_leaves_room_for_lipids():
    assert bead_w(core(0.0), H, 1) == 2
    assert largest_w(core(0.0), H) == LEAST_W
    shallow = bead_w(core(0.1), H, 1)  # a tip, where w = 2 exp(δ/2)
    slope = 0.1 * math.exp(-0.5) / 0.6 * H
    assert 2 * math.cosh(slope / 2) < shallow < 2.03


def test_a_version_too_steep_for_a_run_is_refused_with_both_numbers():
    check_steepness(core(1.0), H, 2.4)
    with pytest.raises(ValueError, match=r"at most 2\.4, got 5\.\d+"):
        check_steepness(core(8.0), H, 2.4)


def test_a_step_beyond_all_degrees_is_refused():
    with pytest.raises(ValueError, match="time_step_us"):
        sweep_polynomial(5000.0, FLAT)
