"""Figures 5, 6 and 7a of Bhatia 2022: similar patches; dz against dμ and against dx."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ml.metric.checks import Relation, SimilarPatches, SpatialRelation
from ml.metric.figures import TYPE_COLOURS, drawn
from ml.metric.pairs_in_space import HALF_DIAGONAL_NM, HALF_PATCH_NM
from ml.patch_set import CHANNELS, NODES, PatchSet

HALF_SPACING_NM = HALF_PATCH_NM / (NODES - 1)


def draw_similar_patches(path: Path, patches: PatchSet, found: SimilarPatches) -> None:
    """Figure 5: one patch a row, one lipid a column, one scale of colour for each lipid.

    `patches` are the four: the reference, its most similar and dissimilar, and the crowded one.
    """
    rows = (
        ("a: reference", 0.0),
        ("b: most similar", found.dz_similar),
        ("c: most dissimilar", found.dz_dissimilar),
        ("d: most proteins", found.dz_crowded),
    )
    density = patches.density.astype(np.float32)
    rim = HALF_PATCH_NM + HALF_SPACING_NM
    columns = density.shape[1]
    with drawn(path, len(rows), columns, size=(1.32 * columns + 1.6, 6.6)) as (figure, axes):
        for column in range(columns):
            low, high = density[:, column].min(), density[:, column].max()
            images = [
                axes[row, column].imshow(
                    density[row, column],
                    origin="lower",
                    vmin=low,
                    vmax=high,
                    extent=(-rim, rim, -rim, rim),
                    cmap="viridis",
                )
                for row in range(len(rows))
            ]
            axes[0, column].set_title(CHANNELS[column], fontsize=8)
            axes[-1, column].set_xlabel("x / nm", fontsize=7)
            for axis in axes[:, column]:
                axis.set_xticks([-15, 0, 15])
                axis.set_yticks([-15, 0, 15])
                axis.tick_params(
                    labelsize=6, labelbottom=axis is axes[-1, column], labelleft=column == 0
                )
            bar = figure.colorbar(
                images[0], ax=axes[:, column], location="bottom", aspect=8, pad=0.01
            )
            bar.ax.tick_params(labelsize=6)
            bar.ax.locator_params(nbins=3)
            bar.set_label("nm⁻²", fontsize=7)
        for row, (name, dz) in enumerate(rows):
            proteins = f"{patches.n_ras[row]} RAS, {patches.n_raf[row]} RAF"
            axes[row, 0].set_ylabel(f"{name}\n{proteins}\ndz(a, ·) = {dz:.3f}\ny / nm", fontsize=7)
        figure.suptitle("Densities of lipids, one patch a row", fontsize=10)


def draw_relation_to_means(
    path: Path, relation: Relation, patches: int, *, near: Relation | None = None, limit: float = 0
) -> None:
    """Figure 6: dz against the distance of mean concentrations; `near` is of pairs to `limit`."""
    with drawn(path, 1, 1, size=(6.4, 4.6)) as (_, axes):
        axis = axes[0, 0]
        _draw_relation(axis, relation, TYPE_COLOURS[0], _told(relation))
        if near is not None:
            share = near.all_pairs / relation.all_pairs
            told = f"dμ ≤ {limit:g}, {100 * share:.0f} % of pairs: {_told(near)}"
            axis.axvline(limit, color="k", ls="--", lw=1, label=told)
        axis.set(
            xlabel="dμ, mean concentrations (nm⁻²)",
            ylabel="dz (units of the embedding)",
            xlim=(0, None),
            ylim=(0, None),
            title=f"Distances and mean concentrations, all pairs of {patches:,} patches",
        )
        axis.legend(fontsize=8, loc="lower right")


def draw_relation_to_space(path: Path, relation: SpatialRelation) -> None:
    """Figure 7a: dz against the distance of patches of one snapshot."""
    with drawn(path, 1, 1, size=(6.4, 4.6)) as (_, axes):
        axis = axes[0, 0]
        near, far = relation.near, relation.far
        _draw_relation(axis, near, TYPE_COLOURS[0], f"dx ≤ 15 nm: {_told(near)}")
        _draw_relation(axis, far, TYPE_COLOURS[2], f"dx > 15 nm: {_told(far)}")
        axis.axvline(HALF_PATCH_NM, color="k", ls="--", lw=1, label="half a patch, 15 nm")
        beyond = f"beyond it R {_r(relation.apart.pearson_pairs)} of pairs"
        axis.axvline(HALF_DIAGONAL_NM, color="k", ls=":", lw=1, label=f"half a diagonal, {beyond}")
        axis.set(
            xlabel="dx, distance of the centres in one snapshot (nm)",
            ylabel="dz (units of the embedding)",
            xlim=(0, None),
            ylim=(0, None),
            title="Distances in the embedding and in space, patches around proteins",
        )
        axis.legend(fontsize=8, loc="lower right")


def _draw_relation(axis: Axes, relation: Relation, colour: str, label: str) -> None:
    axis.plot(relation.centre, relation.mean, "o-", ms=3, color=colour, label=label)
    axis.fill_between(
        relation.centre,
        relation.mean - relation.std,
        relation.mean + relation.std,
        color=colour,
        alpha=0.2,
        lw=0,
    )
    axis.grid(alpha=0.3)


def _told(relation: Relation) -> str:
    means, pairs = (_r(value) for value in (relation.pearson_means, relation.pearson_pairs))
    return f"mean ± std, R {means} of means, {pairs} of {relation.all_pairs:,} pairs"


def _r(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "undefined"
