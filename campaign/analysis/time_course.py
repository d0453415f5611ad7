"""Proteins and a lipid per patch against time: the course of a run, and means by period."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from campaign.molecular_dynamics.frame_statistics import autocorrelation_times
from campaign.report_data import NEIGHBOUR_NM, PatchHistory
from continuum.atomic_file import atomic_path

Array = NDArray[np.float64]

COLOURS = ("0.35", "C3", "C0", "C2")
_WINDOWS = 20  # of the running mean, in the longest run


def period_means(history: PatchHistory, periods: int) -> list[dict[str, float]]:
    """Means of snapshots over `periods` stretches of equally many, with standard errors.

    Errors allow for the correlation of snapshots. Raises ValueError for fewer snapshots than
    periods.
    """
    count = len(history.time_us)
    if count < periods:
        raise ValueError(f"{periods} periods need as many snapshots, got {count}")
    found = []
    for part in np.array_split(np.arange(count), periods):
        values: dict[str, float] = {
            "from_us": history.time_us[part[0]],
            "to_us": history.time_us[part[-1]],
            "most_proteins": float(max(history.largest_proteins[i] for i in part)),
        }
        for name in ("mean_proteins", "largest_proteins", "lipid", "neighbours"):
            series = np.asarray(getattr(history, name), dtype=np.float64)[part]
            values[name] = float(series.mean())
            values[f"{name}_error"] = standard_error(series)
        found.append(values)
    return found


def standard_error(series: Array) -> float:
    """Of the mean of a correlated series (n,): s √(2τ / n)."""
    tau = float(autocorrelation_times(series[:, None])[0])
    return float(series.std() * np.sqrt(2.0 * tau / len(series)))


def running_mean(values: Sequence[float], window: int) -> Array:
    """Means over up to `window` neighbouring values around each, fewer at the ends; (n,)."""
    ones = np.ones(max(1, min(window, len(values))))
    total = np.convolve(values, ones, mode="same")
    return np.asarray(total / np.convolve(np.ones(len(values)), ones, mode="same"))


def draw_time_courses(
    path: Path, courses: Mapping[str, PatchHistory], *, lipid: str, bulk_per_nm2: float
) -> None:
    """Proteins in patches, near neighbours and the lipid against time, for each run."""
    figure = Figure(figsize=(10.0, 7.2), layout="constrained")
    (mean, largest), (neighbours, enrichment) = figure.subplots(2, 2)
    window = -(-max(len(history.time_us) for history in courses.values()) // _WINDOWS)
    for (name, history), colour in zip(courses.items(), COLOURS, strict=False):
        _course(mean, history.time_us, history.mean_proteins, window, colour, name)
        _course(largest, history.time_us, history.largest_proteins, window, colour, name)
        _course(neighbours, history.time_us, history.neighbours, window, colour, name)
        ratio = np.asarray(history.lipid) / bulk_per_nm2
        _course(enrichment, history.time_us, ratio.tolist(), window, colour, name)
    mean.set_ylabel("proteins per patch, mean of a snapshot")
    largest.set_ylabel("proteins in the fullest patch of a snapshot")
    neighbours.set_ylabel(f"neighbours within {NEIGHBOUR_NM:g} nm of a central protein")
    enrichment.set_ylabel(f"{lipid} in patches / in the membrane")
    for axes in (mean, largest, neighbours, enrichment):
        axes.set_xlabel("simulated time (µs)")
        axes.grid(alpha=0.25)
    mean.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png")


def _course(
    axes: Axes,
    time_us: Sequence[float],
    values: Sequence[float],
    window: int,
    colour: str,
    name: str,
) -> None:
    axes.plot(time_us, values, ".", ms=2, alpha=0.35, color=colour)
    smooth = running_mean(values, window)
    axes.plot(time_us, smooth, color=colour, lw=1.6, label=name)


def course_lines(means: Mapping[str, Sequence[Mapping[str, Any]]], lipid: str) -> list[str]:
    """Lines for a terminal: first and last period of each run."""
    lines = []
    for name, periods in means.items():
        for which in (periods[0], periods[-1]):
            lines.append(
                f"{name}, {which['from_us']:.0f} to {which['to_us']:.0f} µs: "
                f"{which['mean_proteins']:.2f} ± {which['mean_proteins_error']:.2f} proteins per "
                f"patch, {which['largest_proteins']:.1f} ± {which['largest_proteins_error']:.1f} "
                f"in the fullest of a snapshot (at most {which['most_proteins']:.0f}), "
                f"{which['neighbours']:.3f} ± {which['neighbours_error']:.3f} neighbours, {lipid} "
                f"{which['lipid']:.4f} ± {which['lipid_error']:.4f} nm⁻²"
            )
    return lines
