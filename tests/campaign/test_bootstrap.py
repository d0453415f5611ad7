"""The bootstrap against the normal interval of a mean, and the draws it counts."""

import numpy as np
import pytest

from campaign.analysis.bootstrap import central_interval, resampled_weights


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    blocks = np.random.default_rng(0).exponential(size=400)
    means = [weight @ blocks / 400 for weight in resampled_weights(400, 4000, seed=1)]

    low, high = central_interval(np.array(means))

    error = blocks.std() / np.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert (high + low) / 2 == pytest.approx(blocks.mean(), abs=0.2 * error)


@pytest.mark.parametrize("blocks", [2, 3, 30])
def test_each_resample_draws_as_many_blocks_as_there_are_of_two_or_more(blocks):
    weights = np.array(list(resampled_weights(blocks, 200, seed=0)))

    assert weights.shape == (200, blocks)
    assert (weights.sum(axis=1) == blocks).all()
    assert ((weights > 0).sum(axis=1) >= 2).all()
    assert (weights == 0).any() == (blocks > 2)


def test_samples_without_a_value_are_left_out():
    samples = np.column_stack([np.linspace(0, 1, 1001), np.full(1001, np.nan)])
    samples[:1, 1] = 3.0

    low, high = central_interval(samples)

    np.testing.assert_allclose(low, [0.025, 3.0])
    np.testing.assert_allclose(high, [0.975, 3.0])
