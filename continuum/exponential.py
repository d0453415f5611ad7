"""exp(x) in plain arithmetic, so that loops over cells vectorise (numba ships no vector libm).

Cody-Waite reduction x = k ln 2 + r, |r| <= ln(2)/2, then a Taylor polynomial of r; the relative
error is below 2.5e-7 in single and 4.5e-16 in double precision. |x| is limited to 80 (700).
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


def exponential(x: Any) -> Any:
    """exp(x) of a float32 or float64 scalar, of the same type."""
    return type(x)(math.exp(x))


def _exponential_32(x: Any) -> Any:
    x = min(max(x, -_LIMIT_32), _LIMIT_32)
    k = np.floor(x * _LOG2_E_32 + _HALF_32)
    r = x - k * _LN2_HIGH_32
    r = r - k * _LN2_LOW_32
    c = _COEFFICIENTS_32
    p = c[0] + r * (c[1] + r * (c[2] + r * (c[3] + r * (c[4] + r * (c[5] + r * c[6])))))
    power = np.int32(np.int32(k) + _BIAS_32) << _SHIFT_32
    return p * _bits_as_float32(np.int32(power))  # type: ignore[call-arg]


def _exponential_64(x: Any) -> Any:
    x = min(max(x, -700.0), 700.0)
    k = np.floor(x * _LOG2_E + 0.5)
    r = x - k * _LN2_HIGH_64
    r = r - k * _LN2_LOW_64
    c = _COEFFICIENTS_64
    high = c[7] + r * (c[8] + r * (c[9] + r * (c[10] + r * (c[11] + r * c[12]))))
    low = c[0] + r * (c[1] + r * (c[2] + r * (c[3] + r * (c[4] + r * (c[5] + r * c[6])))))
    r2 = r * r
    power = (np.int64(k) + _BIAS_64) << _SHIFT_64
    return (low + r2 * r2 * r2 * r * high) * _bits_as_float64(power)  # type: ignore[call-arg]


@overload(exponential, inline="always")
def _overload_exponential(x: Any) -> Any:
    if x == types.float32:
        return _exponential_32
    if x == types.float64:
        return _exponential_64
    return None
