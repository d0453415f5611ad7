"""exp(x) and exp(-x) in plain arithmetic, so that loops over cells vectorise (numba has no libm).

Cody-Waite reduction x = k ln 2 + r, |r| <= ln(2)/2, then a Taylor polynomial of r; the relative
error is below 3.5e-7 in single and 5.5e-16 in double precision. |x| is limited to 80 (700).
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_LOG2_E = 1.4426950408889634
_LN2_HIGH_32, _LN2_LOW_32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LN2_HIGH_64, _LN2_LOW_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG2_E_32 = np.float32(_LOG2_E)
_HALF_32, _LIMIT_32 = np.float32(0.5), np.float32(80.0)
_COEFFICIENTS_32 = tuple(np.float32(1 / math.factorial(n)) for n in range(7))
_COEFFICIENTS_64 = tuple(1 / math.factorial(n) for n in range(13))
_BIAS_32, _SHIFT_32 = np.int32(127), np.int32(23)
_BIAS_64, _SHIFT_64 = np.int64(1023), np.int64(52)


@intrinsic
def _bits_as_float32(typing_context: Any, bits: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


@intrinsic
def _bits_as_float64(typing_context: Any, bits: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), build


def exponential_pair(x: Any) -> Any:
    """exp(x) and exp(-x) of a float32 or float64 scalar, for little more than one of them."""
    return type(x)(math.exp(x)), type(x)(math.exp(-x))


def _exponential_pair_32(x: Any) -> Any:
    x = min(max(x, -_LIMIT_32), _LIMIT_32)
    k = np.floor(x * _LOG2_E_32 + _HALF_32)
    r = x - k * _LN2_HIGH_32
    r = r - k * _LN2_LOW_32
    c = _COEFFICIENTS_32
    r2 = r * r
    even = c[0] + r2 * (c[2] + r2 * (c[4] + r2 * c[6]))
    odd = r * (c[1] + r2 * (c[3] + r2 * c[5]))
    power = np.int32(np.int32(k) << _SHIFT_32)
    one = np.int32(_BIAS_32 << _SHIFT_32)
    up, down = np.int32(one + power), np.int32(one - power)
    rise: Any = _bits_as_float32(up)  # type: ignore[call-arg]
    fall: Any = _bits_as_float32(down)
    return (even + odd) * rise, (even - odd) * fall


def _exponential_pair_64(x: Any) -> Any:
    x = min(max(x, -700.0), 700.0)
    k = np.floor(x * _LOG2_E + 0.5)
    r = x - k * _LN2_HIGH_64
    r = r - k * _LN2_LOW_64
    c = _COEFFICIENTS_64
    r2 = r * r
    even = c[8] + r2 * (c[10] + r2 * c[12])
    even = c[0] + r2 * (c[2] + r2 * (c[4] + r2 * (c[6] + r2 * even)))
    odd = r * (c[1] + r2 * (c[3] + r2 * (c[5] + r2 * (c[7] + r2 * (c[9] + r2 * c[11])))))
    power = np.int64(k) << _SHIFT_64
    one = _BIAS_64 << _SHIFT_64
    rise: Any = _bits_as_float64(one + power)  # type: ignore[call-arg]
    fall: Any = _bits_as_float64(one - power)
    return (even + odd) * rise, (even - odd) * fall


@overload(exponential_pair, inline="always")
def _overload_exponential_pair(x: Any) -> Any:
    if x == types.float32:
        return _exponential_pair_32
    if x == types.float64:
        return _exponential_pair_64
    return None
