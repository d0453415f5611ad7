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

MOST_STATES = 8
COLUMNS = 4
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
    control: Recovery | None = None,  # without feedback
) -> Figure:
    """Rows g(r), u(r) of the lipid with the deepest well; error by version; error by lipid."""
    last = recoveries[-1]
    states = np.argsort(-last.frames, kind="stable")[:MOST_STATES]
    states = np.sort(states[last.frames[states] > 0]) if last.frames.any() else states
    rows = -(-len(states) // COLUMNS)
    figure = Figure(figsize=(11.5, 4.4 * rows + 4.4), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[4.4 * rows, 4.4], squeeze=False)
    top, bottom = parts[0, 0], parts[1, 0]
    panels = top.subplots(2 * rows, COLUMNS, sharex=True, squeeze=False)
    for order, state in enumerate(states.tolist()):
        row, column = 2 * (order // COLUMNS), order % COLUMNS
        _profiles(panels[row, column], panels[row + 1, column], curves, truth, state, last)
    for spare in range(len(states), rows * COLUMNS):
        for row in (0, 1):
            panels[2 * (spare // COLUMNS) + row, spare % COLUMNS].set_visible(False)
    name = last.lipid_labels[last.deepest]
    for row in range(rows):
        panels[2 * row, 0].set_ylabel(f"g(r), {name}")
        panels[2 * row + 1, 0].set_ylabel(f"u(r), {name} (kT)")
    for axes in panels[-1]:
        axes.set_xlabel("distance r (nm)")
    handles, labels = panels[1, 0].get_legend_handles_labels()
    top.legend(handles, labels, loc="outside upper center", ncols=7, fontsize=8, frameon=False)
    by_version, by_lipid = bottom.subplots(1, 2, width_ratios=[1.0, 1.15])
    _errors_by_version(by_version, recoveries, control)
    _errors_by_lipid(by_lipid, last)
    return figure


def _profiles(
    of_g: Axes,
    of_u: Axes,
    curves: Sequence[VersionCurves],
    truth: TruthTables,
    state: int,
    last: Recovery,
) -> None:
    lipid = last.deepest
    u_radii = np.arange(truth.u.shape[2]) * truth.u_dr_nm
    colours = colormaps["viridis"](np.linspace(0.0, 0.92, len(curves)))
    for curve, colour in zip(curves, colours, strict=True):
        profiles, label = curve.profiles, f"version {curve.version}"
        of_g.plot(profiles.radii_nm, profiles.g[state, lipid], color=colour, lw=1.1)
        of_u.plot(u_radii, curve.u[state, lipid], color=colour, lw=1.1, label=label)
    of_g.plot(truth.radii_nm, truth.g[state, lipid], "k--", lw=1.3)
    of_u.plot(u_radii, truth.u[state, lipid], "k--", lw=1.3, label="hidden truth")
    frames = last.frames[state]
    of_g.set_title(f"{last.state_names[state]}: {frames:,.0f} frames", fontsize=9)
    of_u.set_xlim(0.0, SHOWN_NM)
    for axes in (of_g, of_u):
        axes.grid(alpha=0.25)


def _errors_by_version(
    axes: Axes, recoveries: Sequence[Recovery], control: Recovery | None
) -> None:
    last = recoveries[-1]
    numbers = [r.version for r in recoveries]
    for order, state in enumerate(np.flatnonzero(last.frames > 0).tolist()):
        colour = f"C{order}"
        errors = [100 * r.fraction[state, last.deepest] for r in recoveries]
        axes.plot(numbers, errors, color=colour, lw=1.2, label=last.state_names[state])
        known = [r for r in recoveries if np.isfinite(r.bar_kt[state, last.deepest])]
        axes.errorbar(
            [r.version for r in known],
            [100 * r.fraction[state, last.deepest] for r in known],
            [100 * r.bar_kt[state, last.deepest] / r.scale_kt[state] for r in known],
            fmt=".",
            color=colour,
            elinewidth=0.9,
            capsize=2,
        )
        if control is not None:
            axes.axhline(
                100 * control.fraction[state, last.deepest],
                color=colour,
                ls="--",
                lw=0.8,
                label="control, no feedback" if order == 0 else None,
            )
    axes.axhline(100 * GOAL, color="0.3", ls=":", lw=1.2, label="goal")
    axes.set_ylim(0.0, 125 * max(r.fraction[:, last.deepest].max() for r in recoveries))
    axes.set_xlabel("parameter version")
    axes.set_ylabel(f"error of u, {last.lipid_labels[last.deepest]} (% of its well's depth)")
    axes.grid(alpha=0.25)
    if last.frames.any():
        axes.legend(fontsize=7, ncols=2)


def _errors_by_lipid(axes: Axes, last: Recovery) -> None:
    """A table in colour: error ± standard error of u in % of the depth, states by lipids."""
    states = np.flatnonzero(last.frames > 0)
    errors = 100 * last.fraction[states]
    bars = 100 * (last.bar_kt / last.scale_kt[:, None])[states]
    names = [label.removeprefix("inner ") for label in last.lipid_labels]
    axes.set_xticks(np.arange(len(names)), names, fontsize=8)
    axes.set_xlabel("inner lipid")
    axes.set_title(
        f"error of u, version {last.version} (% of the depth of the well) ± standard error",
        fontsize=9,
    )
    if not len(states):
        return
    picture = axes.imshow(errors, cmap="viridis_r", vmin=0.0, vmax=200 * GOAL, aspect="auto")
    axes.figure.colorbar(picture, ax=axes, extend="max")
    axes.set_yticks(np.arange(len(states)), [last.state_names[s] for s in states], fontsize=8)
    for row, column in np.ndindex(errors.shape):
        error, bar = errors[row, column], bars[row, column]
        text = f"{error:.1f}" + (f"\n±{bar:.1f}" if np.isfinite(bar) else "")
        colour = "white" if error > 100 * GOAL else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
