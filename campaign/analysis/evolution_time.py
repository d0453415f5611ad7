"""How long one patch needs to become another: the inverse of distance against time (section 3.3.4).

Below the plateau the mean dz at a lag grows with the lag, so a measured dz has an evolution time.
The map is the isotonic regression of the mean curve, with the spread of lags at which that dz is
usual; at and beyond the plateau the answer is "at least the decorrelation time", never a number.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from campaign.analysis.decorrelation import DecorrelationTimes, DistanceCurve
from campaign.analysis.embedding import AnalysisError, EmbeddedSnapshot

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvolutionTime:
    """dz -> µs; valid to `limit_dz`."""

    dz: Array  # (n,) rising
    time_us: Array  # (n,)
    low_us: Array  # (n,) where one standard deviation above the mean curve reaches dz
    high_us: Array
    limit_dz: float
    limit_us: float
    encoder_version: str

    def __call__(self, dz: Array) -> tuple[Array, Array, Array]:
        """Time and its bounds, µs, for distances of any shape; infinite beyond `limit_dz`."""
        distance = np.asarray(dz, dtype=np.float64)
        beyond = distance > self.limit_dz
        curves = (self.time_us, self.low_us, self.high_us)
        time, low, high = (
            np.where(beyond, np.inf, np.interp(distance, self.dz, c)) for c in curves
        )
        return time, np.where(beyond, self.limit_us, low), high

    def as_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same map."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        limits = {"limit_dz": self.limit_dz, "limit_us": self.limit_us}
        return {**arrays, **limits, "encoder_version": self.encoder_version}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "EvolutionTime":
        """Raises KeyError where a field is missing."""
        arrays = {name: np.array(content[name], dtype=np.float64) for name in _ARRAYS}
        return cls(
            **arrays,
            limit_dz=float(content["limit_dz"]),
            limit_us=float(content["limit_us"]),
            encoder_version=str(content["encoder_version"]),
        )


_ARRAYS = ("dz", "time_us", "low_us", "high_us")


def evolution_time(
    curve: DistanceCurve, times: DecorrelationTimes, encoder_version: str
) -> EvolutionTime:
    """The inverse map from a curve, up to twice the slowest decorrelation time."""
    mean = curve.mean.mean(axis=0)
    spread = np.sqrt(np.maximum(curve.square.mean(axis=0) - mean**2, 0.0))
    limit_us = min(2 * times.slowest_us, float(curve.lag_us[-1]))
    used = curve.lag_us <= limit_us
    if used.sum() < 2:
        used[:2] = True
    lag = np.concatenate([[0.0], curve.lag_us[used]])
    rising = [
        IsotonicRegression().fit_transform(lag, np.concatenate([[0.0], values[used]]))
        for values in (mean, mean + spread, np.maximum(mean - spread, 0.0))
    ]
    grid = np.linspace(0.0, rising[0][-1], 201)
    return EvolutionTime(
        dz=grid,
        time_us=_inverse(rising[0], lag, grid),
        low_us=_inverse(rising[1], lag, grid),
        high_us=_inverse(rising[2], lag, grid),
        limit_dz=float(grid[-1]),
        limit_us=limit_us,
        encoder_version=encoder_version,
    )


def _inverse(values: Array, lag: Array, grid: Array) -> Array:
    """The lag at which a rising curve reaches each grid value, the last lag where it does not."""
    distinct = np.concatenate([[True], np.diff(values) > 0])
    return np.asarray(np.interp(grid, values[distinct], lag[distinct]))


def estimated_between_snapshots(
    inverse: EvolutionTime, snapshots: Iterable[EmbeddedSnapshot]
) -> dict[str, Any]:
    """What the map says of each protein's patches in successive snapshots, beside the true times.

    Raises AnalysisError where no protein is in two successive snapshots.
    """
    distance: list[NDArray[np.float32]] = []
    true_us: list[float] = []
    for one, next_one in pairwise(snapshots):
        _, here, there = np.intersect1d(one.slot, next_one.slot, return_indices=True)
        distance.append(np.linalg.norm(next_one.z[there] - one.z[here], axis=1))
        true_us += [next_one.time_us - one.time_us] * len(here)
    if not true_us:
        raise AnalysisError("evolution times need proteins that are in two successive snapshots")
    passed_us = np.array(true_us)
    estimated_us, low_us, high_us = inverse(np.concatenate(distance).astype(np.float64))
    return {
        "pairs": len(passed_us),
        "true_us": float(np.median(passed_us)),
        "estimated_us": float(np.median(estimated_us)),
        "within_bounds": float(np.mean((low_us <= passed_us) & (passed_us <= high_us))),
        "beyond_the_map": float(np.mean(np.isinf(estimated_us))),
        "limit_us": inverse.limit_us,
    }
