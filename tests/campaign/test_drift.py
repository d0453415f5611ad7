import numpy as np
import pytest

from campaign.analysis.drift import DriftDetector, shift


def test_a_shift_by_a_constant_is_its_wasserstein_distance():
    sample = np.random.default_rng(0).gamma(2.0, size=4000)
    found = shift(sample, sample + 0.7)
    assert found.wasserstein == pytest.approx(0.7)
    assert found.mean_after - found.mean_before == pytest.approx(0.7)
    assert found.ks_statistic > 0.2


def test_equal_samples_have_no_shift():
    sample = np.random.default_rng(1).normal(size=500)
    found = shift(sample, sample[::-1])
    assert (found.wasserstein, found.ks_statistic, found.ks_p_value) == (0.0, 0.0, 1.0)


def test_an_empty_sample_is_refused():
    with pytest.raises(ValueError, match="two samples are required, got 0 and 3"):
        shift(np.array([]), np.ones(3))


def test_the_share_outside_is_the_quantile_for_data_of_the_same_kind():
    generator = np.random.default_rng(2)
    detector = DriftDetector(generator.standard_normal((4000, 3)).astype(np.float32), quantile=0.95)
    outside = detector.outside(generator.standard_normal((4000, 3)).astype(np.float32))
    assert outside.mean() == pytest.approx(0.05, abs=0.015)
    assert not detector.alarm(outside.mean(), 4000)


def test_data_elsewhere_raises_the_alarm_and_nearer_data_does_not():
    generator = np.random.default_rng(3)
    detector = DriftDetector(generator.standard_normal((2000, 9)).astype(np.float32))
    far = detector.outside((generator.standard_normal((500, 9)) + 3.0).astype(np.float32))
    near = detector.outside((0.5 * generator.standard_normal((500, 9))).astype(np.float32))
    assert far.mean() > 0.9
    assert detector.alarm(far.mean(), 500)
    assert near.mean() < 0.01
    assert not detector.alarm(near.mean(), 500)


def test_a_reference_of_a_few_patches_is_refused():
    with pytest.raises(ValueError, match=r"more than 5 embeddings, got \(5, 9\)"):
        DriftDetector(np.zeros((5, 9), np.float32))
