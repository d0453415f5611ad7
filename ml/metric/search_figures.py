"""The searched models on parallel axes (Bhatia et al. 2022, figure 4), and their Pareto front."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ml.atomic_file import atomic_path

AXES = ("dimension", "overlap, %", "MARE*, units of dΥ", "1 - AUC")


def draw_models(path: Path, costs: NDArray[np.float64], on_front: NDArray[np.bool_]) -> None:
    """Draw costs (N, 4), lower is better on all axes, best balance first; on_front (N,); PNG.

    (a) all models, (b) the better half by balance on axes of its own range, (c) MARE* against
    1 - AUC with dimension and overlap.
    """
    figure = Figure(figsize=(16, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    half = max(2, -(-len(costs) // 2))
    _draw_parallel(left, costs, on_front, f"(a) all {len(costs)} models")
    _draw_parallel(middle, costs[:half], on_front[:half], "(b) the better half by balance")
    _draw_plane(right, costs, on_front)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _draw_parallel(
    axis: Axes, costs: NDArray[np.float64], on_front: NDArray[np.bool_], title: str
) -> None:
    lowest, highest = costs.min(axis=0), costs.max(axis=0)
    span = np.where(highest > lowest, highest - lowest, 1.0)
    heights = (costs - lowest) / span
    places = list(range(len(AXES)))
    styles = {
        "other models": (~on_front, "0.75", 0.8),
        "Pareto front": (on_front, "tab:blue", 1.3),
        "best balance": (np.arange(len(costs)) == 0, "black", 2.2),
    }
    for label, (which, colour, width) in styles.items():
        for number, row in enumerate(heights[which]):
            axis.plot(
                places, row, color=colour, linewidth=width, label=label if number == 0 else None
            )
    for place, low, high in zip(places, lowest, highest, strict=True):
        axis.axvline(place, color="0.3", linewidth=0.8)
        for height in (0.0, 0.5, 1.0):
            value = low + height * (high - low)
            axis.annotate(
                f"{value:.3g}",
                (place, height),
                xytext=(3, 2),
                textcoords="offset points",
                size=8,
                bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
            )
    axis.set_xticks(places, AXES)
    axis.set_xlim(-0.1, len(AXES) - 0.7)
    axis.set_ylim(-0.05, 1.1)
    axis.set_yticks([])
    axis.set_ylabel("lower is better")
    axis.set_title(title)


def _draw_plane(axis: Axes, costs: NDArray[np.float64], on_front: NDArray[np.bool_]) -> None:
    dimension, overlap, mare_star, auc_missing = costs.T
    # Overlaps span orders of magnitude, and may be 0.
    colour = np.log10(np.maximum(overlap, 1e-3))
    shown = axis.scatter(auc_missing, mare_star, c=colour, s=12 * dimension)
    axis.scatter(
        auc_missing[on_front],
        mare_star[on_front],
        s=12 * dimension[on_front] + 40,
        facecolors="none",
        edgecolors="tab:blue",
    )
    axis.plot(auc_missing[0], mare_star[0], "k+", markersize=14)
    axis.set_xlabel(AXES[3])
    axis.set_ylabel(AXES[2])
    axis.set_title("(c) area: dimension, ring: front, cross: best balance", size=10)
    figure = axis.get_figure()
    if isinstance(figure, Figure):
        figure.colorbar(shown, ax=axis, label="log₁₀ of overlap, %, at least 10⁻³")
