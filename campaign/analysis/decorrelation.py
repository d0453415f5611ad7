"""Decorrelation time of patches: distance in the metric against time (section 3.3.4, fig. 7).

For one history z(t), msd(s) = <|z(t+s) - z(t)|²> rises from 0 to the plateau P that patches of
different histories have, whose mean square distance needs no fit: C(s) = 1 - msd(s) / P is the
autocorrelation of the embedding, whose times `relaxation` fits. Intervals come from a bootstrap
whose blocks are whole histories, the only samples that are independent.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from campaign.analysis.bootstrap import central_interval, resampled_weights
from campaign.analysis.histories import HistoryError
from campaign.analysis.relaxation import Relaxation, fit_relaxation, integrated_time_us
from campaign.analysis.workers import shown

Array = NDArray[np.float64]

DIFFUSIVITY_NM2_PER_US = 43.36  # mean over lipids, Bhatia et al. 2022, appendix
PATCH_SIDE_NM = 30.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistanceCurve:
    """Moments of dz at each lag, one row a history, and those of patches of two histories."""

    lag_us: Array  # (lags,)
    pairs: NDArray[np.int64]  # (lags,) per history
    mean: Array  # (histories, lags) of dz
    square: Array  # (histories, lags) of dz²
    apart_square: Array  # (histories, histories) of dz² over all frames of the one and the other


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with the bounds of its central 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecorrelationTimes:
    """Decorrelation times, µs, and the plateau of the distance."""

    fitted_us: Estimate  # of the only relaxation, or the faster one
    slow_us: Estimate | None  # of the slower one, where there are two
    slow_share: Estimate | None  # of the plateau less the offset
    integrated_us: Estimate
    plateau_dz: Estimate  # root of P
    offset_dz: Estimate  # what the fit leaves at lag 0: motion faster than a frame
    reached: float  # msd / P at the longest lag

    @property
    def slowest_us(self) -> float:
        """The time after which nothing is remembered."""
        return (self.slow_us or self.fitted_us).value

    def notes(self, lag_us: Array) -> list[str]:
        """What the histories are too short or their frames too far apart for."""
        told = []
        if fitted_square(lag_us[:1], self)[0] > self.plateau_dz.value**2 / 2:
            told.append(
                f"most of the distance is there after one frame of {lag_us[0]:g} µs: a time needs "
                "frames nearer to each other"
            )
        if self.reached < 1 - np.exp(-1):
            told.append(
                f"after {lag_us[-1]:g} µs, half a history, the square of dz is at "
                f"{100 * self.reached:.0f} % of that of unrelated patches: the longest time is "
                "extrapolated and needs longer histories"
            )
        return told


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
        lag_us=lag.astype(np.float64) * interval_us,
        pairs=len(z) - lag,
        mean=mean,
        square=square,
        apart_square=_apart_square(z),
    )


def _apart_square(z: NDArray[np.float32]) -> Array:
    """Mean dz² of all frames of one history and all of another, (histories, histories)."""
    middle = z.mean(axis=(0, 1), dtype=np.float64)
    centre = np.empty((z.shape[1], z.shape[2]))
    size = np.empty(z.shape[1])
    for history in range(z.shape[1]):
        moved = z[:, history] - middle
        centre[history], size[history] = moved.mean(axis=0), np.square(moved).sum(axis=1).mean()
    return np.asarray(size[:, None] + size - 2 * centre @ centre.T)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    two: bool
    values: tuple[float, ...]  # fast and slow µs, share of the slow, integrated µs, P ** ½, offset


def decorrelation_times(
    curve: DistanceCurve, *, resamples: int = 400, seed: int = 0
) -> DecorrelationTimes:
    """Times with 95 % intervals from resampled histories.

    Resamples are fitted as the whole is, with one relaxation or two. Raises HistoryError with
    fewer than 2 histories or 4 lags, and where histories do not differ from each other.
    """
    histories, count = curve.square.shape
    if histories < 2 or count < 4:
        raise HistoryError(
            f"an interval needs at least 2 histories and 4 lags, got {histories} and {count}"
        )
    if not _plateau(curve, np.ones(histories)) > 0:
        raise HistoryError("the histories are all alike, so that nothing comes apart in time")
    found = _times(curve, np.ones(histories))
    samples = np.array(
        [
            _times(curve, weight, two=found.two).values
            for weight in resampled_weights(histories, resamples, seed)
        ]
    )
    low, high = central_interval(samples)
    fitted, slow, share, integrated, plateau, offset = (
        Estimate(value=float(v), low=float(a), high=float(b))
        for v, a, b in zip(found.values, low, high, strict=True)
    )
    return DecorrelationTimes(
        fitted_us=fitted,
        slow_us=slow if found.two else None,
        slow_share=share if found.two else None,
        integrated_us=integrated,
        plateau_dz=plateau,
        offset_dz=offset,
        reached=float(_rise(curve, np.ones(histories))[-1]),
    )


def rise_with_interval(
    curve: DistanceCurve, *, resamples: int = 400, seed: int = 0
) -> tuple[Array, Array, Array]:
    """msd / P at each lag, with the bounds of its 95 % interval from resampled histories."""
    histories = len(curve.square)
    samples = [_rise(curve, weight) for weight in resampled_weights(histories, resamples, seed)]
    low, high = central_interval(np.array(samples))
    return _rise(curve, np.ones(histories)), low, high


def _rise(curve: DistanceCurve, weight: Array) -> Array:
    """msd / P, each history counted `weight` times."""
    return np.asarray(weight @ curve.square / weight.sum() / _plateau(curve, weight))


def _plateau(curve: DistanceCurve, weight: Array) -> float:
    """Mean dz² of patches of different histories, each history counted `weight` times."""
    pairs = np.outer(weight, weight)
    np.fill_diagonal(pairs, 0.0)
    return float((pairs * curve.apart_square).sum() / pairs.sum())


def fitted_square(lag_us: Array, times: DecorrelationTimes) -> Array:
    """msd as fitted."""
    plateau = times.plateau_dz.value**2
    fit = Relaxation(
        offset=times.offset_dz.value**2 / plateau,
        fast_us=times.fitted_us.value,
        slow_us=times.slowest_us,
        share=0.0 if times.slow_share is None else times.slow_share.value,
        two=times.slow_us is not None,
    )
    return plateau * fit.at(lag_us)


def _times(curve: DistanceCurve, weight: Array, *, two: bool | None = None) -> _Found:
    """The fit of the mean curve, each history counted `weight` times; `two` None: as it asks."""
    plateau, rise = _plateau(curve, weight), _rise(curve, weight)
    fit = fit_relaxation(curve.lag_us, rise, two=two)
    integrated_us = integrated_time_us(curve.lag_us, rise, fit)
    dz, offset_dz = np.sqrt([plateau, fit.offset * plateau])
    return _Found(
        two=fit.two,
        values=(fit.fast_us, fit.slow_us, fit.share, integrated_us, float(dz), float(offset_dz)),
    )
