"""How many independent frames a correlated series is worth: integrated autocorrelation time.

τ = ½ + Σ_{k >= 1} ρ(k) frames, the sum cut at the first window of 5 τ (Sokal 1997); the mean of N
correlated frames varies as that of N / 2τ independent ones.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WINDOW_TIMES = 5.0


def autocorrelation_times(series: Array) -> Array:
    """τ in frames of each observable of (frames, observables), ½ to frames / 2.

    One that never changes has been seen once, whatever the number of frames. Raises ValueError for
    another shape.
    """
    if series.ndim != 2 or len(series) == 0:
        raise ValueError(f"series must be of (frames, observables), got shape {series.shape}")
    frames = len(series)
    longest = frames / 2.0
    deviation = series - series.mean(axis=0)
    variance = np.mean(deviation**2, axis=0)
    times = np.full(series.shape[1], longest)
    moving = np.flatnonzero(variance > 0)
    size = 1 << (2 * frames - 1).bit_length()
    spectrum = np.fft.rfft(deviation[:, moving], size, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=0)[:frames]
    sums = np.cumsum(covariance / covariance[0], axis=0) - 0.5  # (frames, moving)
    wide_enough = np.arange(frames)[:, None] >= WINDOW_TIMES * sums
    window = np.where(wide_enough.any(axis=0), wide_enough.argmax(axis=0), frames - 1)
    times[moving] = sums[window, np.arange(len(moving))]
    return np.asarray(np.clip(times, min(0.5, longest), longest))


def slowest_time(series: Array) -> float:
    """The longest τ among observables that change at all, in frames; half of them if none does."""
    moving = series[:, (series != series[:1]).any(axis=0)]
    return float(autocorrelation_times(moving).max(initial=0.5)) if moving.size else len(series) / 2
