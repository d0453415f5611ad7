"""Figure 7 b and c: distance against time within histories, logarithmic and linear."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campaign.analysis.decorrelation import (
    DecorrelationTimes,
    DistanceCurve,
    diffusive_estimate_us,
    relaxing_square,
)
from continuum.atomic_file import atomic_path

BLUE, ORANGE, GREY = "#2b6ca3", "#d9772b", "0.45"


def draw_decorrelation(
    path: Path, curve: DistanceCurve, times: DecorrelationTimes, modes_us: Sequence[float] = ()
) -> None:
    """Mean dz with one standard deviation over all pairs, the fit, and what theory expects: the
    diffusive estimate, and ticks at `modes_us`."""
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    logarithmic, linear = figure.subplots(1, 2, sharey=True)
    for axes, scale in ((logarithmic, "log"), (linear, "linear")):
        _draw(axes, curve, times)
        if modes_us:
            top = axes.get_ylim()[1]
            axes.plot(modes_us, [0.02 * top] * len(modes_us), "|", color=GREY, ms=9,
                      label="modes of linear theory")  # fmt: skip
        axes.set_xscale(scale)
        axes.set_xlabel("time between patches of one history (µs)")
    linear.set_xlim(0, min(curve.lag_us[-1], 8 * times.fitted_us.value))
    logarithmic.set_ylabel("distance dz (embedding units)")
    logarithmic.legend(fontsize=8, loc="upper left")
    histories, pairs = len(curve.mean), int(curve.pairs.sum()) * len(curve.mean)
    figure.suptitle(f"{histories} histories, {pairs:,} pairs")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png")


def _draw(axes: Axes, curve: DistanceCurve, times: DecorrelationTimes) -> None:
    mean = curve.mean.mean(axis=0)
    spread = np.sqrt(np.maximum(curve.square.mean(axis=0) - mean**2, 0.0))
    axes.fill_between(
        curve.lag_us, mean - spread, mean + spread, color=BLUE, alpha=0.18, lw=0, label="± 1 s.d."
    )
    axes.plot(curve.lag_us, mean, color=BLUE, lw=1.6, label="mean dz")
    square = relaxing_square(
        curve.lag_us,
        times.plateau_dz.value**2,
        times.fitted_us.value,
        times.offset_dz.value**2,
    )
    ratio = mean[-1] / np.sqrt(square[-1])
    axes.plot(
        curve.lag_us,
        ratio * np.sqrt(square),
        color=ORANGE,
        ls="--",
        lw=1.2,
        label="exponential fit",
    )
    fitted = times.fitted_us
    axes.axvspan(fitted.low, fitted.high, color=ORANGE, alpha=0.25, lw=0)
    axes.axvline(
        fitted.value,
        color=ORANGE,
        lw=1.0,
        label=f"τ = {fitted.value:.2f} µs ({fitted.low:.2f} to {fitted.high:.2f})",
    )
    axes.axvline(diffusive_estimate_us(), color=GREY, ls=":", lw=1.2, label="L²/4π²D = 0.526 µs")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
