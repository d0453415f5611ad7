import math

import numpy as np
import pytest
from numba import njit

from continuum.exponential import exponential_pair


@njit
def exponentials(x, out, inverse):
    for i in range(x.size):
        out[i], inverse[i] = exponential_pair(x[i])


@pytest.mark.parametrize(
    ("real", "largest", "tolerance"), [(np.float32, 80.0, 3.5e-7), (np.float64, 700.0, 5.5e-16)]
)
def test_exp_is_right_to_the_last_digits_of_its_type(real, largest, tolerance):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-largest, largest, 20_000), rng.normal(size=20_000)])
    x = np.concatenate([x, [0.0, math.log(2) / 2, -math.log(2) / 2, largest, -largest]])
    x = x.astype(real)
    found, inverse = np.empty_like(x), np.empty_like(x)
    exponentials(x, found, inverse)
    exact = np.exp(x.astype(np.longdouble))
    assert np.abs(found / exact - 1).max() < tolerance
    assert np.abs(inverse * exact - 1).max() < tolerance
    assert found[-5] == inverse[-5] == 1


@pytest.mark.parametrize(("real", "largest"), [(np.float32, 80.0), (np.float64, 700.0)])
def test_exp_stays_finite_and_positive_beyond_its_range(real, largest):
    x = np.array([-1e30, -largest - 1, largest + 1, 1e30], real)
    found, inverse = np.empty_like(x), np.empty_like(x)
    exponentials(x, found, inverse)
    assert np.isfinite(found).all()
    assert (found > 0).all()
    ends = np.empty(2, real)
    exponentials(np.array([-largest, largest], real), ends, np.empty(2, real))
    np.testing.assert_array_equal(found, np.repeat(ends, 2))
    np.testing.assert_array_equal(inverse, np.repeat(ends[::-1], 2))


def test_exp_works_outside_of_kernels():
    for real in (np.float32, np.float64):
        for value, x in zip(exponential_pair(real(-1.5)), (-1.5, 1.5), strict=True):
            assert type(value) is real
            assert value == pytest.approx(math.exp(x), rel=1e-6)
