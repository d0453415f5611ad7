"""Figure 7 b and c: distance against time within histories, logarithmic and linear."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campaign.analysis.decorrelation import (
    DecorrelationTimes,
    DistanceCurve,
    Estimate,
    diffusive_estimate_us,
    fitted_square,
)
from campaign.analysis.linear_theory import CompositionInTime
from continuum.atomic_file import atomic_path

BLUE, ORANGE, GREY = "#2b6ca3", "#d9772b", "0.45"


def draw_decorrelation(
    path: Path,
    curve: DistanceCurve,
    times: DecorrelationTimes,
    modes_us: Sequence[float] = (),
    composition: CompositionInTime | None = None,
) -> None:
    """Mean dz with one standard deviation over all pairs, the fit, and what theory expects: the
    diffusive estimate, and ticks at `modes_us`. The level is that of patches of two histories.

    Mean concentrations and linear theory have a panel of their own.
    """
    panels = 2 if composition is None else 3
    figure = Figure(figsize=(4.8 * panels, 4.8), layout="constrained")
    axes = figure.subplots(1, panels)
    for panel, scale in zip(axes, ("log", "linear"), strict=False):
        _draw(panel, curve, times)
        if modes_us:
            top = panel.get_ylim()[1]
            panel.plot(modes_us, [0.02 * top] * len(modes_us), "|", color=GREY, ms=9,
                       label="modes of linear theory")  # fmt: skip
        panel.set_xscale(scale)
        panel.set_xlabel("time between patches of one history (µs)")
        panel.set_ylabel("distance dz (embedding units)")
    axes[1].set_xlim(0, min(curve.lag_us[-1], 8 * times.fitted_us.value))
    if composition is not None:
        _draw_composition(axes[2], composition)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  fontsize=8)  # fmt: skip
    histories, pairs = len(curve.mean), int(curve.pairs.sum()) * len(curve.mean)
    figure.suptitle(f"{histories} histories, {pairs:,} pairs")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png")


def _draw_composition(axes: Axes, found: CompositionInTime) -> None:
    axes.fill_between(found.lag_us, found.low, found.high, color=BLUE, alpha=0.25, lw=0)
    axes.plot(found.lag_us, found.measured, ".-", color=BLUE, label="measured, 95 %")
    axes.plot(found.lag_us, found.theory, color=ORANGE, label="linear theory, no fit")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("time between patches of one history (µs)")
    axes.set_ylabel("dμ² / that of two histories")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)


def _draw(axes: Axes, curve: DistanceCurve, times: DecorrelationTimes) -> None:
    mean = curve.mean.mean(axis=0)
    spread = np.sqrt(np.maximum(curve.square.mean(axis=0) - mean**2, 0.0))
    axes.fill_between(
        curve.lag_us, mean - spread, mean + spread, color=BLUE, alpha=0.18, lw=0, label="± 1 s.d."
    )
    axes.plot(curve.lag_us, mean, color=BLUE, lw=1.6, label="mean dz")
    square = fitted_square(curve.lag_us, times)
    ratio = mean[-1] / np.sqrt(square[-1])
    axes.plot(
        curve.lag_us,
        ratio * np.sqrt(square),
        color=ORANGE,
        ls="--",
        lw=1.2,
        label="fit of dz², one exponential"
        if times.slow_us is None
        else "fit of dz², two exponentials",
    )
    axes.axhline(ratio * times.plateau_dz.value, color=BLUE, ls=":", lw=1.2,
                 label="patches of two histories")  # fmt: skip
    _mark(axes, "τ", times.fitted_us, "-")
    if times.slow_us is not None:
        _mark(axes, "slow τ", times.slow_us, "-.")
    axes.axvline(diffusive_estimate_us(), color=GREY, ls=":", lw=1.2, label="L²/4π²D = 0.526 µs")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)


def _mark(axes: Axes, name: str, time: Estimate, style: str) -> None:
    axes.axvspan(time.low, time.high, color=ORANGE, alpha=0.25, lw=0)
    label = f"{name} = {time.value:.2f} µs ({time.low:.2f} to {time.high:.2f})"
    axes.axvline(time.value, color=ORANGE, ls=style, lw=1.0, label=label)
