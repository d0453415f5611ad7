"""Pearson correlation of dz with time (figure 7 b, c: R = 0.81 in the paper).

The paper does not say over which pairs; so the correlation is given for pairs of one history up to
several limits of the lag, with time and with its logarithm, the two axes of the figure.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr

LIMITS_US = (0.5, 1.0, 2.0)


def correlation_with_time(
    z: NDArray[np.float32], interval_us: float, *, pairs_per_lag: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """R by the largest lag (µs), of dz against time and log time, over sampled pairs of each lag.

    z is (frames, histories, d). Each lag up to the limit has the same number of pairs, drawn with
    replacement, keyed by (seed, lag); the standard error of R is below 1 / sqrt(pairs).
    """
    frames = len(z)
    result: dict[str, Any] = {}
    for limit_us in LIMITS_US:
        longest = min(int(limit_us / interval_us + 1e-9), frames - 1)
        if longest < 2:
            continue
        chosen = np.unique(np.linspace(1, longest, 50).astype(np.int64))
        samples = [_distances(z, int(lag), pairs_per_lag, seed) for lag in chosen]
        chosen_us = chosen.astype(np.float64) * interval_us
        lag_us = np.repeat(chosen_us, pairs_per_lag)
        dz = np.concatenate(samples)
        result[f"up_to_{limit_us:g}_us"] = {
            "linear": float(pearsonr(lag_us, dz).statistic),
            "logarithmic": float(pearsonr(np.log(lag_us), dz).statistic),
            "of_mean_dz_linear": _of_means(chosen_us, samples),
            "of_mean_dz_logarithmic": _of_means(np.log(chosen_us), samples),
            "pairs": len(dz),
        }
    return result


def _of_means(axis: NDArray[np.float64], samples: list[NDArray[np.float64]]) -> float:
    return float(pearsonr(axis, [sample.mean() for sample in samples]).statistic)


def _distances(z: NDArray[np.float32], lag: int, count: int, seed: int) -> NDArray[np.float64]:
    frames, histories = z.shape[:2]
    generator = np.random.Generator(np.random.Philox(key=(seed << 32) + lag))
    start = generator.integers(frames - lag, size=count)
    history = generator.integers(histories, size=count)
    step = z[start + lag, history].astype(np.float64) - z[start, history]
    return np.asarray(np.linalg.norm(step, axis=1))
