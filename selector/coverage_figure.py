"""The coverage figure: greedy, frozen and random selection by batch size, numbers beside it."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from selector.coverage import clustered_vectors, compare_selections

BATCHES = (1, 10, 30, 100, 300, 1000)
STYLES = {
    "greedy": ("o-", "greedy (choose, update, choose again)"),
    "frozen": ("s--", "frozen (one ranking per batch, as dynim)"),
    "random": ("^:", "random"),
}


def draw_coverage(path: Path, candidates: int, selections: int, seed: int) -> dict[str, Any]:
    """Write the figure to `path` (a .png) and its numbers to the same name with .json."""
    vectors = clustered_vectors(candidates, dimension=9, clusters=40, seed=seed)
    batches = [batch for batch in BATCHES if batch <= selections]
    runs = [compare_selections(vectors, selections, batch, seed=seed) for batch in batches]
    numbers = {
        "candidates": candidates,
        "selections": selections,
        "dimension": 9,
        "batches": batches,
        "coverage": {mode: [run[mode].as_json() for run in runs] for mode in STYLES},
    }
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for mode, (style, label) in STYLES.items():
        left.plot(batches, [run[mode].fill_distance for run in runs], style, label=label)
        right.plot(batches, [run[mode].mean for run in runs], style, label=label)
    for axes, what in ((left, "fill distance"), (right, "mean nearest distance")):
        axes.set_xscale("log")
        axes.set_xlabel("selections per batch")
        axes.set_ylabel(f"{what} (embedding units)")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.suptitle(
        f"{selections} selections from {candidates} clustered candidates in 9 dimensions, k = 10"
    )
    figure.savefig(path, dpi=150)
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    return numbers
