"""Figure 12: distributions of PAP6 and of proteins per patch, before and during a campaign."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from continuum.atomic_file import atomic_path

Array = NDArray[Any]


def draw_drift(
    path: Path,
    pap6: Mapping[str, Array],
    proteins: Mapping[str, Array],
    outside: Mapping[str, float] | None,
    *,
    lipid: str,
) -> None:
    """One curve a period, in the order given; the first is the reference.

    `pap6` and `proteins` hold the patch-mean density (nm⁻²) and the number of proteins of each
    patch of a period; `outside` the share of embeddings outside the training data.
    """
    columns = 2 if outside is None else 3
    figure = Figure(figsize=(4.4 * columns, 3.8), layout="constrained")
    axes = figure.subplots(1, columns)
    colours = ["0.25", *colormaps["viridis"](np.linspace(0.1, 0.85, max(len(pap6) - 1, 1)))]
    every = np.concatenate(list(pap6.values()))
    fewest = min(len(values) for values in pap6.values())
    bins = np.linspace(every.min(), every.max(), int(np.clip(np.sqrt(fewest), 8, 60)) + 1)
    most = int(max(values.max() for values in proteins.values()))
    for colour, period in zip(colours, pap6, strict=False):
        axes[0].hist(pap6[period], bins, density=True, histtype="step", color=colour, label=period)
        counts = np.bincount(proteins[period].astype(np.int64), minlength=most + 1)
        share = np.where(counts > 0, counts / counts.sum(), np.nan)
        axes[1].plot(np.arange(most + 1), share, "o-", ms=3, color=colour, label=period)
    axes[0].set_xlabel(f"mean {lipid} of a patch (nm⁻²)")
    axes[0].set_ylabel("probability density (nm²)")
    axes[1].set_xlabel("proteins in a patch")
    axes[1].set_ylabel("share of patches")
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=8)
    if outside is not None:
        axes[2].bar(list(outside), [100 * share for share in outside.values()], color=colours)
        axes[2].axhline(1.0, color="0.4", ls=":", label="expected of training data")
        axes[2].set_ylabel("embeddings outside the training data (%)")
        axes[2].tick_params(axis="x", rotation=30)
        axes[2].legend(fontsize=8)
    for panel in axes[:2]:
        panel.grid(alpha=0.25)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png")
