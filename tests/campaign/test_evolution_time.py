import json

import numpy as np
import pytest

from campaign.analysis.decorrelation import DecorrelationTimes, DistanceCurve, Estimate
from campaign.analysis.evolution_time import EvolutionTime, evolution_time

TAU_US = 0.5
TIMES = DecorrelationTimes(
    fitted_us=Estimate(value=TAU_US, low=0.45, high=0.55),
    slow_us=None,
    slow_share=None,
    integrated_us=Estimate(value=TAU_US, low=0.45, high=0.55),
    plateau_dz=Estimate(value=3.0, low=2.9, high=3.1),
    offset_dz=Estimate(value=0.0, low=0.0, high=0.0),
    reached=1.0,
)


def known_curve(spread=0.2):
    lag = np.arange(1, 400) * 0.01
    mean = 3.0 * np.sqrt(-np.expm1(-lag / TAU_US))
    return DistanceCurve(
        lag_us=lag,
        pairs=np.full(len(lag), 100),
        mean=np.stack([mean, mean]),
        square=np.stack([mean**2 + spread**2] * 2),
        apart_square=np.full((2, 2), 9.0),
    )


def test_the_map_inverts_the_curve_it_came_from():
    inverse = evolution_time(known_curve(), TIMES, "abc")
    lag = np.array([0.05, 0.2, 0.5, 0.9])
    time, low, high = inverse(3.0 * np.sqrt(-np.expm1(-lag / TAU_US)))
    np.testing.assert_allclose(time, lag, rtol=0.03)
    assert (low < time).all()
    assert (time < high).all()


def test_a_wider_spread_gives_wider_bounds():
    distance = np.array([1.0, 1.5, 2.0])
    _, low, high = evolution_time(known_curve(0.1), TIMES, "abc")(distance)
    _, lower, higher = evolution_time(known_curve(0.4), TIMES, "abc")(distance)
    assert (lower < low).all()
    assert (higher > high).all()


def test_beyond_the_plateau_there_is_only_a_lower_bound():
    inverse = evolution_time(known_curve(), TIMES, "abc")
    time, low, high = inverse(np.array([inverse.limit_dz * 1.01]))
    assert np.isinf(time)
    assert np.isinf(high)
    assert low == pytest.approx(2 * TAU_US, rel=0.02)


def test_zero_distance_is_no_time_and_the_map_rises():
    inverse = evolution_time(known_curve(), TIMES, "abc")
    assert inverse(np.array(0.0))[0] == 0.0
    assert (np.diff(inverse.time_us) >= 0).all()


def test_a_map_survives_json():
    inverse = evolution_time(known_curve(), TIMES, "abc")
    again = EvolutionTime.from_json(json.loads(json.dumps(inverse.as_json())))
    np.testing.assert_array_equal(again.time_us, inverse.time_us)
    assert again.encoder_version == "abc"
