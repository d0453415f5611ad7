"""Relaxation of a distance towards its plateau: one exponential, or two where one will not do.

The share of the plateau that is reached at lag s,

    1 - (1 - offset) ((1 - share) exp(-s / fast) + share exp(-s / slow)),

has one exponential for an Ornstein-Uhlenbeck process. Lipids of a patch relax within a microsecond,
its proteins (binding, states, neighbours) within ten, which makes two; what relaxes within a frame
is the offset.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import curve_fit

Array = NDArray[np.float64]

# A second exponential fits noise of an Ornstein-Uhlenbeck process: it divided the misfit by more
# than 10 in one of 40 sets of 30 histories of 12 times, by 2 at most in 52 sets of 40 times. With
# metrics of membranes it is 14 to 52.
MISFIT = 10.0
WINDOW = 5.0  # beyond that many integrated times the curve is mostly noise (Sokal 1997, section 3)
SEPARATE = 3.0  # exponentials whose times are nearer to each other cannot be told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The formula above; `share` is 0 and the times are one where there is one exponential."""

    offset: float
    fast_us: float
    slow_us: float
    share: float
    two: bool

    def at(self, lag_us: Array) -> Array:
        """Share of the plateau reached at each lag (n,)."""
        return _rise(lag_us, self.offset, self.fast_us, self.share, self.slow_us)


def fit_relaxation(lag_us: Array, rise: Array, *, two: bool | None = None) -> Relaxation:
    """The least-squares fit of `rise` (n,), each factor of the lag counting alike.

    Two exponentials if `two`, or if it is None and they leave less than 1 / MISFIT of the squares.
    """
    one, misfit = _one(lag_us, rise)
    if two is False:
        return one
    both, left = min(
        (_two(lag_us, rise, one, factor) for factor in (0.3, 0.05)), key=lambda found: found[1]
    )
    return both if two or MISFIT * left < misfit else one


def integrated_time_us(lag_us: Array, rise: Array, fit: Relaxation) -> float:
    """∫ (1 - rise) ds: of the curve to WINDOW times the integral, and from there on as fitted."""
    correlation, at = np.concatenate([[1.0], 1.0 - rise]), np.concatenate([[0.0], lag_us])
    integral = cumulative_trapezoid(correlation, at, initial=0.0)
    beyond = np.flatnonzero(at[1:] >= WINDOW * integral[1:])
    end = int(beyond[0]) + 1 if len(beyond) else len(at) - 1
    fast = (1 - fit.share) * fit.fast_us * np.exp(-at[end] / fit.fast_us)
    slow = fit.share * fit.slow_us * np.exp(-at[end] / fit.slow_us)
    return float(integral[end] + (1 - fit.offset) * (fast + slow))


def _rise(lag_us: Array, offset: float, fast_us: float, share: float, slow_us: float) -> Array:
    kept = (1 - share) * np.exp(-lag_us / fast_us) + share * np.exp(-lag_us / slow_us)
    return np.asarray(1 - (1 - offset) * kept)


def _one(lag_us: Array, rise: Array) -> tuple[Relaxation, float]:
    rising = np.flatnonzero(rise >= 1 - np.exp(-1))
    guess = float(lag_us[rising[0] if len(rising) else -1])
    values, misfit = _fitted(
        lambda lag, offset, fast: _rise(lag, offset, fast, 0.0, 1.0),
        lag_us,
        rise,
        start=[0.05, guess],
        bounds=([0.0, lag_us[0] * 0.1], [1.0, lag_us[-1] * 100]),
    )
    offset, fast = values
    return Relaxation(offset=offset, fast_us=fast, slow_us=fast, share=0.0, two=False), misfit


def _two(lag_us: Array, rise: Array, one: Relaxation, factor: float) -> tuple[Relaxation, float]:
    """Begun at `factor` of the time of the one."""
    guess = float(np.clip(factor * one.fast_us, lag_us[0], lag_us[-1]))
    values, misfit = _fitted(
        lambda lag, offset, fast, share, ratio: _rise(lag, offset, fast, share, ratio * fast),
        lag_us,
        rise,
        start=[min(one.offset, 0.1), guess, 0.5, 10.0],
        bounds=([0.0, lag_us[0] * 0.1, 0.0, SEPARATE], [1.0, lag_us[-1] * 10, 1.0, 1000.0]),
    )
    offset, fast, share, ratio = values
    return (
        Relaxation(offset=offset, fast_us=fast, slow_us=ratio * fast, share=share, two=True),
        misfit,
    )


def _fitted(
    form: Callable[..., Array],
    lag_us: Array,
    rise: Array,
    *,
    start: list[float],
    bounds: tuple[list[float], list[float]],
) -> tuple[list[float], float]:
    """Parameters, and the squares left."""
    weight = np.gradient(np.log(lag_us))
    values, _ = curve_fit(
        form, lag_us, rise, p0=start, sigma=1 / np.sqrt(weight), bounds=bounds, x_scale=start,
        max_nfev=5000,
    )  # fmt: skip
    left = float((weight * np.square(form(lag_us, *values) - rise)).sum())
    return [float(value) for value in values], left
