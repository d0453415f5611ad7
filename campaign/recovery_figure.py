"""Figure: g(r) and u(r) of the best simulated states by parameter version, and errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from campaign.lone_counts import LoneProfiles
from campaign.molecular_dynamics.hidden_truth import TruthTables
from campaign.recovery_errors import Recovery

Array = NDArray[np.float64]

MOST_STATES = 4
SHOWN_NM = 8.0
GOAL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VersionCurves:
    """What one parameter version says of the inner lipids."""

    version: int
    u: Array  # (S, L, n_r)  kT
    profiles: LoneProfiles


def recovery_figure(
    recoveries: Sequence[Recovery],  # of all versions
    curves: Sequence[VersionCurves],  # of some of them
    truth: TruthTables,
) -> Figure:
    """Rows g(r), u(r) of the lipid with the deepest well; error by version; error by lipid."""
    last = recoveries[-1]
    states = np.argsort(-last.frames, kind="stable")[:MOST_STATES]
    states = np.sort(states[last.frames[states] > 0]) if last.frames.any() else states
    figure = Figure(figsize=(3.0 * max(len(states), 3), 9.5), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[1.35, 1.0], squeeze=False)
    top, bottom = parts[0, 0], parts[1, 0]
    panels = top.subplots(2, len(states), sharex=True, squeeze=False)
    colours = colormaps["viridis"](np.linspace(0.0, 0.92, len(curves)))
    lipid = last.deepest
    u_radii = np.arange(truth.u.shape[2]) * truth.u_dr_nm
    for column, state in enumerate(states.tolist()):
        of_g, of_u = panels[:, column]
        for curve, colour in zip(curves, colours, strict=True):
            profiles, label = curve.profiles, f"version {curve.version}"
            of_g.plot(profiles.radii_nm, profiles.g[state, lipid], color=colour, lw=1.1)
            of_u.plot(u_radii, curve.u[state, lipid], color=colour, lw=1.1, label=label)
        of_g.plot(truth.radii_nm, truth.g[state, lipid], "k--", lw=1.3)
        of_u.plot(u_radii, truth.u[state, lipid], "k--", lw=1.3, label="hidden truth")
        frames = last.frames[state]
        of_g.set_title(f"{last.state_names[state]}: {frames:.0f} frames", fontsize=9)
        of_u.set_xlim(0.0, SHOWN_NM)
        of_u.set_xlabel("r (nm)")
    name = last.lipid_labels[lipid]
    panels[0, 0].set_ylabel(f"g(r), {name}")
    panels[1, 0].set_ylabel(f"u(r), {name} (kT)")
    panels[1, -1].legend(fontsize=6, ncols=2)
    by_version, by_lipid = bottom.subplots(1, 2)
    _errors_by_version(by_version, recoveries)
    _errors_by_lipid(by_lipid, last)
    return figure


def _errors_by_version(axes: Axes, recoveries: Sequence[Recovery]) -> None:
    last = recoveries[-1]
    numbers = [r.version for r in recoveries]
    for state in np.flatnonzero(last.frames > 0).tolist():
        errors = [r.fraction[state, last.deepest] for r in recoveries]
        axes.plot(numbers, errors, marker=".", lw=1.0, label=last.state_names[state])
    axes.axhline(GOAL, color="0.4", ls=":", lw=1.0)
    axes.set_ylim(0.0, None)
    axes.set_xlabel("parameter version")
    axes.set_ylabel(f"error of u, {last.lipid_labels[last.deepest]} / depth of its well")
    if last.frames.any():
        axes.legend(fontsize=7)


def _errors_by_lipid(axes: Axes, last: Recovery) -> None:
    states = np.flatnonzero(last.frames > 0)
    bars = np.nan_to_num(last.bar_kt / last.scale_kt[:, None])
    width = 0.8 / max(len(states), 1)
    places = np.arange(len(last.lipid_labels))
    for order, state in enumerate(states.tolist()):
        axes.bar(
            places + (order - (len(states) - 1) / 2) * width,
            last.fraction[state],
            width,
            yerr=bars[state],
            error_kw={"elinewidth": 0.7},
            label=last.state_names[state],
        )
    axes.axhline(GOAL, color="0.4", ls=":", lw=1.0)
    names = [label.removeprefix("inner ") for label in last.lipid_labels]
    axes.set_ylim(0.0, None)
    axes.set_xticks(places, names, fontsize=8)
    axes.set_xlabel("inner lipid")
    axes.set_ylabel(f"error of u, version {last.version} / depth of the well")
