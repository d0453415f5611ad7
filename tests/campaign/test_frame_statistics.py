import numpy as np
import pytest

from campaign.molecular_dynamics.frame_statistics import autocorrelation_times, slowest_time


def autoregressive(rng, memory, frames):
    """x(t + 1) = memory x(t) + noise, from its stationary state: ρ(k) = memory^k."""
    noise = rng.standard_normal(frames) * np.sqrt(1.0 - memory**2)
    series = np.empty(frames)
    series[0] = rng.standard_normal()
    for t in range(1, frames):
        series[t] = memory * series[t - 1] + noise[t]
    return series


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_time_of_an_autoregressive_series_is_its_closed_form(memory):
    series = autoregressive(np.random.default_rng(1), memory, 100_000)[:, None]
    closed_form = 0.5 * (1.0 + memory) / (1.0 - memory)
    assert autocorrelation_times(series)[0] == pytest.approx(closed_form, rel=0.05)


def test_means_of_correlated_frames_vary_as_the_time_says():
    rng = np.random.default_rng(2)
    runs = np.array([autoregressive(rng, 0.8, 1000) for _ in range(300)])
    predicted = np.mean([2.0 * autocorrelation_times(run[:, None])[0] / 1000 for run in runs])
    assert runs.mean(axis=1).var() == pytest.approx(predicted, rel=0.2)


def test_the_slowest_observable_that_moves_decides():
    rng = np.random.default_rng(3)
    fast, slow = autoregressive(rng, 0.1, 5000), autoregressive(rng, 0.9, 5000)
    series = np.stack([fast, slow, np.full(5000, 7.0)], axis=1)
    assert slowest_time(series) == autocorrelation_times(series)[1]
    assert slowest_time(series) > 5.0


def test_what_never_moves_was_seen_once():
    assert slowest_time(np.ones((40, 3))) == 20.0
    assert autocorrelation_times(np.ones((1, 1)))[0] == 0.5
    with pytest.raises(ValueError, match="got shape"):
        autocorrelation_times(np.ones(5))
