import numpy as np
import pytest
from scipy.stats import pearsonr

from campaign.analysis.decorrelation import (
    decorrelation_times,
    diffusive_estimate_us,
    distance_curve,
    lags,
)
from campaign.analysis.histories import HistoryError, check_gaps
from campaign.analysis.relaxation import Relaxation, fit_relaxation, integrated_time_us
from campaign.analysis.time_correlation import correlation_with_time

TAU_US = 0.5
SLOW_US = 6.0
INTERVAL_US = 0.02


def ornstein_uhlenbeck(frames, histories, dimension, seed, noise=0.0, tau_us=TAU_US):
    """Exact samples at INTERVAL_US of a stationary process with unit variance and time tau."""
    generator = np.random.default_rng(seed)
    keep = np.exp(-INTERVAL_US / tau_us)
    kicks = generator.standard_normal((frames, histories, dimension)) * np.sqrt(1 - keep**2)
    z = np.empty_like(kicks)
    z[0] = generator.standard_normal((histories, dimension))
    for t in range(1, frames):
        z[t] = keep * z[t - 1] + kicks[t]
    return (z + noise * generator.standard_normal(z.shape)).astype(np.float32)


def two_processes(frames, histories, seed):
    """A share of 0.6 of dz² with SLOW_US, the rest with TAU_US: plateau 2 (4 + 6)."""
    fast = ornstein_uhlenbeck(frames, histories, 4, seed)
    slow = ornstein_uhlenbeck(frames, histories, 3, seed + 10_000, tau_us=SLOW_US)
    return np.concatenate([fast, np.float32(np.sqrt(2.0)) * slow], axis=2)


def test_a_curve_is_the_mean_over_all_pairs():
    z = ornstein_uhlenbeck(40, 3, 9, 1)
    curve = distance_curve(z, INTERVAL_US, np.array([1, 7, 39]))
    for j, lag in enumerate([1, 7, 39]):
        for history in range(3):
            pairs = [z[t + lag, history].astype(float) - z[t, history] for t in range(40 - lag)]
            squares = np.array([step @ step for step in pairs])
            assert curve.square[history, j] == pytest.approx(squares.mean(), rel=1e-12)
            assert curve.mean[history, j] == pytest.approx(np.sqrt(squares).mean(), rel=1e-12)
        assert curve.pairs[j] == 40 - lag


def test_the_mean_square_of_an_ornstein_uhlenbeck_process_is_its_closed_form():
    z = ornstein_uhlenbeck(2000, 60, 9, 2)
    curve = distance_curve(z, INTERVAL_US)
    exact = 2 * 9 * -np.expm1(-curve.lag_us / TAU_US)
    near = curve.lag_us < 2.0
    np.testing.assert_allclose(curve.square.mean(axis=0)[near], exact[near], rtol=0.03)


def test_unrelated_patches_are_all_pairs_of_two_histories():
    z = ornstein_uhlenbeck(30, 4, 3, 7) + np.arange(4, dtype=np.float32)[:, None]
    apart = distance_curve(z, INTERVAL_US).apart_square
    for a in range(4):
        for b in set(range(4)) - {a}:
            steps = z[:, None, a].astype(float) - z[None, :, b]
            assert apart[a, b] == pytest.approx(np.square(steps).sum(axis=2).mean(), rel=1e-6)
    different = ~np.eye(4, dtype=bool)
    times = decorrelation_times(distance_curve(z, INTERVAL_US), resamples=2)
    assert times.plateau_dz.value**2 == pytest.approx(apart[different].mean(), rel=1e-9)


def test_a_history_drawn_twice_is_not_unrelated_to_itself():
    """Two histories: every resample has both, and so the same unrelated patches."""
    curve = distance_curve(ornstein_uhlenbeck(200, 2, 3, 8), INTERVAL_US)
    plateau = decorrelation_times(curve, resamples=20).plateau_dz
    assert plateau.low == pytest.approx(plateau.value) == plateau.high


def test_exact_curves_give_their_exponentials_and_integrals():
    lag_us = INTERVAL_US * lags(400)
    for share, slow in ((0.0, TAU_US), (0.6, SLOW_US)):
        exact = Relaxation(offset=0.1, fast_us=TAU_US, slow_us=slow, share=share, two=share > 0)
        found = fit_relaxation(lag_us, exact.at(lag_us))
        assert found.two == exact.two
        for name in ("offset", "fast_us", "slow_us", "share"):
            assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-3)
        whole = 0.9 * ((1 - share) * TAU_US + share * slow)
        assert integrated_time_us(lag_us, exact.at(lag_us), found) == pytest.approx(whole, rel=0.01)


def test_an_integral_hardly_depends_on_the_fit():
    lag_us = INTERVAL_US * lags(400)
    exact = Relaxation(offset=0.0, fast_us=TAU_US, slow_us=TAU_US, share=0.0, two=False)
    wrong = Relaxation(offset=0.0, fast_us=TAU_US / 20, slow_us=TAU_US / 20, share=0.0, two=False)
    assert integrated_time_us(lag_us, exact.at(lag_us), wrong) == pytest.approx(TAU_US, rel=0.02)


def test_times_of_an_ornstein_uhlenbeck_process_have_little_bias():
    fitted, integrated, widths = [], [], []
    for seed in range(12):
        curve = distance_curve(ornstein_uhlenbeck(1000, 30, 9, 100 + seed), INTERVAL_US)
        times = decorrelation_times(curve, resamples=40)
        assert times.slow_us is None
        assert times.notes(curve.lag_us) == []
        fitted.append(times.fitted_us.value)
        integrated.append(times.integrated_us.value)
        widths.append(times.fitted_us.high - times.fitted_us.low)
    assert 0.5 < np.mean(widths) / (2 * 1.96 * np.std(fitted, ddof=1)) < 2
    assert np.mean(fitted) == pytest.approx(TAU_US, rel=0.03)
    assert np.mean(integrated) == pytest.approx(TAU_US, rel=0.05)


def test_two_times_are_told_apart_with_little_bias():
    found = []
    for seed in range(12):
        curve = distance_curve(two_processes(800, 60, 200 + seed), INTERVAL_US)
        times = decorrelation_times(curve, resamples=2)
        assert times.slow_us is not None
        found.append((times.fitted_us.value, times.slow_us.value, times.slow_share.value))
    fast, slow, share = np.mean(found, axis=0)
    assert fast == pytest.approx(TAU_US, rel=0.05)
    assert slow == pytest.approx(SLOW_US, rel=0.1)
    assert share == pytest.approx(0.6, rel=0.05)


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(40):
        curve = distance_curve(ornstein_uhlenbeck(600, 30, 3, 500 + seed), INTERVAL_US)
        times = decorrelation_times(curve, resamples=60, seed=seed)
        inside.append(times.fitted_us.low <= TAU_US <= times.fitted_us.high)
    assert 0.83 <= np.mean(inside) <= 1.0


@pytest.mark.slow
def test_intervals_of_two_times_cover_the_truth():
    inside = []
    for seed in range(20):
        curve = distance_curve(two_processes(600, 40, 1700 + seed), INTERVAL_US)
        times = decorrelation_times(curve, resamples=100, seed=seed)
        fast, slow = times.fitted_us, times.slow_us
        inside.append((fast.low <= TAU_US <= fast.high, slow.low <= SLOW_US <= slow.high))
    assert np.mean(inside, axis=0).min() >= 0.8


def test_what_histories_are_too_short_or_coarse_for_is_told():
    short = distance_curve(ornstein_uhlenbeck(20, 30, 9, 9, tau_us=SLOW_US), INTERVAL_US)
    (told,) = decorrelation_times(short, resamples=2).notes(short.lag_us)
    assert "after 0.2 µs, half a history" in told
    assert "needs longer histories" in told
    coarse = distance_curve(ornstein_uhlenbeck(100, 30, 9, 10, tau_us=0.01), INTERVAL_US)
    (told,) = decorrelation_times(coarse, resamples=2).notes(coarse.lag_us)
    assert "after one frame of 0.02 µs: a time needs frames nearer" in told


def test_histories_that_never_differ_are_refused():
    with pytest.raises(HistoryError, match="all alike"):
        decorrelation_times(distance_curve(np.ones((20, 3, 2), np.float32), INTERVAL_US))


def test_motion_within_a_frame_is_the_offset_and_does_not_move_the_time():
    curve = distance_curve(ornstein_uhlenbeck(1500, 60, 9, 3, noise=0.5), INTERVAL_US)
    times = decorrelation_times(curve, resamples=2)
    assert times.offset_dz.value == pytest.approx(np.sqrt(2 * 9 * 0.25), rel=0.05)
    assert times.fitted_us.value == pytest.approx(TAU_US, rel=0.06)


def test_times_scale_with_the_clock_and_not_with_the_metric():
    z = ornstein_uhlenbeck(400, 20, 9, 4)
    once = decorrelation_times(distance_curve(z, 0.02), resamples=10)
    slow = decorrelation_times(distance_curve(z, 0.04), resamples=10)
    wide = decorrelation_times(distance_curve(4 * z, 0.02), resamples=10)
    assert slow.fitted_us.value == pytest.approx(2 * once.fitted_us.value, rel=1e-4)
    assert wide.fitted_us.value == pytest.approx(once.fitted_us.value, rel=1e-4)
    assert wide.plateau_dz.value == pytest.approx(4 * once.plateau_dz.value, rel=1e-4)


def test_the_order_of_histories_does_not_matter():
    z = ornstein_uhlenbeck(300, 12, 5, 5)
    turned = distance_curve(z[:, ::-1], INTERVAL_US)
    np.testing.assert_allclose(
        turned.square.mean(axis=0), distance_curve(z, INTERVAL_US).square.mean(axis=0)
    )


def test_the_diffusive_estimate_is_the_papers():
    assert diffusive_estimate_us() == pytest.approx(0.526, abs=5e-4)


def test_lags_are_dense_then_sparse_and_end_at_half_a_history():
    lag = lags(10_000)
    np.testing.assert_array_equal(lag[:64], np.arange(1, 65))
    assert lag[-1] == 5000
    assert (np.diff(lag) > 0).all()
    assert len(lag) < 150
    np.testing.assert_array_equal(lags(7), [1, 2, 3])


def test_gaps_are_named_with_the_longest_stretch_without():
    check_gaps(np.array([3, 5, 7]), np.arange(3.0))
    times_us = np.array([0.3, 0.5, 0.8, 1.0, 1.2])
    with pytest.raises(HistoryError, match="after snapshot 5 the next is 8 where 7 was") as error:
        check_gaps(np.array([3, 5, 8, 10, 12]), times_us)
    assert "3 snapshots, is --first-us 0.8 --last-us 1.2" in str(error.value)


def test_one_history_has_no_interval():
    curve = distance_curve(ornstein_uhlenbeck(50, 1, 2, 6), INTERVAL_US)
    with pytest.raises(HistoryError, match="at least 2 histories"):
        decorrelation_times(curve)


def test_sampled_correlation_with_time_is_that_of_all_pairs():
    z = ornstein_uhlenbeck(400, 20, 9, 11)
    found = correlation_with_time(z, INTERVAL_US, pairs_per_lag=4000)
    lag = np.arange(1, 26)  # up to 0.5 µs
    dz = [np.linalg.norm(z[k:] - z[:-k], axis=2).ravel() for k in lag]
    fewest = min(len(each) for each in dz)
    lag_us = np.repeat(INTERVAL_US * lag, fewest)
    all_pairs = np.concatenate([each[:fewest] for each in dz])
    near = found["up_to_0.5_us"]
    assert near["pairs"] == 25 * 4000
    assert near["linear"] == pytest.approx(pearsonr(lag_us, all_pairs).statistic, abs=0.02)
    logarithmic = pearsonr(np.log(lag_us), all_pairs).statistic
    assert near["logarithmic"] == pytest.approx(logarithmic, abs=0.02)
    means = [each.mean() for each in dz]
    expected = pearsonr(INTERVAL_US * lag, means).statistic
    assert near["of_mean_dz_linear"] == pytest.approx(expected, abs=0.01)
    assert list(correlation_with_time(z[:80], INTERVAL_US)) == [
        "up_to_0.5_us", "up_to_1_us", "up_to_2_us"
    ]  # fmt: skip
    assert correlation_with_time(z[:2], INTERVAL_US) == {}


def test_correlation_with_time_is_of_the_axis_it_says_and_of_all_starts():
    frame = np.arange(200, dtype=np.float32)
    line = np.repeat(frame[:, None, None], 3, axis=1)
    found = correlation_with_time(line, INTERVAL_US)["up_to_1_us"]
    lag = np.arange(1, 51)
    assert found["linear"] == pytest.approx(1.0)
    assert found["of_mean_dz_linear"] == pytest.approx(1.0)
    for name in ("logarithmic", "of_mean_dz_logarithmic"):
        assert found[name] == pytest.approx(pearsonr(np.log(lag), lag).statistic)
    bent = correlation_with_time(line**2, INTERVAL_US)["up_to_1_us"]  # dz = 2 t s + s²
    assert bent["linear"] < 0.9 < bent["of_mean_dz_linear"]
