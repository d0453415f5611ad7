"""Decorrelation time of patches: distance in the metric against time (section 3.3.4, fig. 7).

For one history z(t), msd(s) = <|z(t+s) - z(t)|²> rises from 0 to a plateau 2 sigma², and
C(s) = 1 - msd(s) / plateau is the autocorrelation of the embedding. An Ornstein-Uhlenbeck process
has C(s) = exp(-s / tau) in any number of dimensions, which is what is fitted; the integral of C is
the integrated autocorrelation time, which needs no form. Intervals come from a bootstrap whose
blocks are whole histories, the only samples that are independent.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from campaign.analysis.histories import HistoryError
from campaign.analysis.workers import shown

Array = NDArray[np.float64]

DIFFUSIVITY_NM2_PER_US = 43.36  # mean over lipids, Bhatia et al. 2022, appendix
PATCH_SIDE_NM = 30.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistanceCurve:
    """Moments of dz at each lag, one row a history."""

    lag_us: Array  # (lags,)
    pairs: NDArray[np.int64]  # (lags,) per history
    mean: Array  # (histories, lags) of dz
    square: Array  # (histories, lags) of dz²


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with the bounds of its central 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecorrelationTimes:
    """Decorrelation times, µs, and the plateau of the distance."""

    fitted_us: Estimate
    integrated_us: Estimate
    plateau_dz: Estimate  # root of the plateau of msd
    offset_dz: Estimate  # what the fit leaves at lag 0: motion faster than a frame


def diffusive_estimate_us(
    side_nm: float = PATCH_SIDE_NM, diffusivity_nm2_per_us: float = DIFFUSIVITY_NM2_PER_US
) -> float:
    """L² / (4 pi² D), µs: decay time of the slowest Fourier mode of a patch (appendix)."""
    return side_nm**2 / (4 * np.pi**2 * diffusivity_nm2_per_us)


def lags(frames: int, dense: int = 64, decades: int = 32) -> NDArray[np.int64]:
    """Lags in frames to half a history: every one to `dense`, then `decades` a factor of 10.

    Beyond half a history the pairs at one lag overlap so much that their mean says nothing new.
    """
    longest = frames // 2
    if longest < 1:
        raise HistoryError(f"histories need at least 2 frames, got {frames}")
    first = np.arange(1, min(dense, longest) + 1)
    if longest <= dense:
        return first
    count = int(np.ceil(decades * np.log10(longest / dense))) + 1
    rest = np.unique(np.geomspace(dense, longest, count).astype(np.int64))
    return np.concatenate([first, rest[rest > dense]])


def distance_curve(
    z: NDArray[np.float32],
    interval_us: float,
    lag: NDArray[np.int64] | None = None,
    *,
    threads: int = 1,
) -> DistanceCurve:
    """All pairs of z (frames, histories, d) at each lag: nothing is sampled.

    Lags are those of `lags` unless given; memory beside z is a few histories. Raises HistoryError
    for lags that are not between 1 and frames - 1.
    """
    lag = lags(len(z)) if lag is None else np.asarray(lag, dtype=np.int64)
    if len(lag) == 0 or lag.min() < 1 or lag.max() >= len(z):
        raise HistoryError(f"lags must be 1 to {len(z) - 1} frames, got {lag}")
    histories = z.shape[1]
    mean, square = np.zeros((histories, len(lag))), np.zeros((histories, len(lag)))

    def fill(history: int) -> None:
        one = np.ascontiguousarray(z[:, history], dtype=np.float32)
        _moments(one, lag, mean[history], square[history])

    with ThreadPoolExecutor(threads) as pool:
        for _ in shown(pool.map(fill, range(histories)), histories, "comparing histories"):
            pass
    return DistanceCurve(
        lag_us=lag.astype(np.float64) * interval_us, pairs=len(z) - lag, mean=mean, square=square
    )


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _moments(z: Any, lag: Any, mean: Any, square: Any) -> None:
    """Means of dz and dz² over all pairs of one history z (frames, d), at each lag."""
    frames, dimension = z.shape
    for j in range(len(lag)):
        pairs = frames - lag[j]
        first = second = 0.0
        for t in range(pairs):
            total = 0.0
            for c in range(dimension):
                step = np.float64(z[t + lag[j], c]) - np.float64(z[t, c])
                total += step * step
            first += np.sqrt(total)
            second += total
        mean[j] = first / pairs
        square[j] = second / pairs


def decorrelation_times(
    curve: DistanceCurve, *, resamples: int = 400, seed: int = 0
) -> DecorrelationTimes:
    """Fitted and integrated times with 95 % intervals from resampled histories.

    Raises HistoryError with fewer than 2 histories or 4 lags.
    """
    histories, count = curve.square.shape
    if histories < 2 or count < 4:
        raise HistoryError(
            f"an interval needs at least 2 histories and 4 lags, got {histories} and {count}"
        )
    generator = np.random.Generator(np.random.Philox(key=seed))
    values = _times(curve.lag_us, curve.square.mean(axis=0))
    rows = generator.integers(histories, size=(resamples, histories))
    samples = np.array([_times(curve.lag_us, curve.square[row].mean(axis=0)) for row in rows])
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    estimates = [
        Estimate(value=float(v), low=float(a), high=float(b))
        for v, a, b in zip(values, low, high, strict=True)
    ]
    return DecorrelationTimes(
        fitted_us=estimates[0],
        integrated_us=estimates[1],
        plateau_dz=estimates[2],
        offset_dz=estimates[3],
    )


def relaxing_square(lag_us: Array, plateau: float, tau_us: float, offset: float) -> Array:
    """offset + (plateau - offset) (1 - exp(-s / tau)): msd of an Ornstein-Uhlenbeck process, plus
    a part that decorrelates within a frame."""
    return offset + (plateau - offset) * -np.expm1(-lag_us / tau_us)


def _times(lag_us: Array, square: Array) -> tuple[float, float, float, float]:
    """(tau fitted, tau integrated, plateau dz, offset dz) of one mean-square curve."""
    guess = float(square[-1])
    rising = np.flatnonzero(square >= (1 - np.exp(-1)) * guess)
    tau_guess = float(lag_us[rising[0]]) if len(rising) else float(lag_us[-1])
    bounds = ([0.0, lag_us[0] * 0.1, 0.0], [guess * 20, lag_us[-1] * 20, guess])
    weight = np.sqrt(np.gradient(lag_us))
    (plateau, tau, offset), _ = curve_fit(
        relaxing_square,
        lag_us,
        square,
        p0=[guess, tau_guess, 0.05 * float(square[0])],
        bounds=bounds,
        sigma=np.full(len(lag_us), 1.0) / weight,
        x_scale=[guess, tau_guess, guess],
    )
    correlation = np.concatenate([[1.0], 1.0 - square / plateau])
    at = np.concatenate([[0.0], lag_us])
    ended = np.flatnonzero(correlation <= 0)
    end = ended[0] + 1 if len(ended) else len(at)
    integrated = float(np.trapezoid(correlation[:end], at[:end]))
    return float(tau), integrated, float(np.sqrt(plateau)), float(np.sqrt(offset))
