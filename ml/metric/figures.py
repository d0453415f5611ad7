"""Figures 3 and 11 of Bhatia 2022: the three criteria, and neighbourhoods by size."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from ml.atomic_file import atomic_path
from ml.metric.criteria import Criteria, Vectors

TYPE_NAMES = ("no protein", "1 RAS", "1 RAS-RAF", "others")
TYPE_COLOURS = ("#4477aa", "#ccbb44", "#ee6677", "#228833")


@contextmanager
def drawn(path: Path, *shape: int, size: tuple[float, float]) -> Iterator[tuple[Figure, Any]]:
    """A figure of `shape` axes, written to `path` as a whole PNG once it is drawn."""
    figure = Figure(figsize=size, layout="constrained")
    yield figure, figure.subplots(*shape, squeeze=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def draw_criteria(
    path: Path, criteria: Criteria, plane: Vectors, types: NDArray[np.integer[Any]]
) -> None:
    """Figure 3. plane (n, 2) and types (n,): some patches in two dimensions, see `in_plane`."""
    with drawn(path, 1, 3, size=(15.0, 4.6)) as (figure, axes):
        _draw_plane(axes[0, 0], plane, types, criteria)
        _draw_distances(axes[0, 1], criteria)
        image = _draw_proportionality(axes[0, 2], criteria)
        figure.colorbar(image, ax=axes[0, 2], label="pairs in a bin")


def draw_neighbourhoods(path: Path, criteria: Criteria) -> None:
    """Figure 11: accuracy, precision and recall against the number of neighbours; their curve."""
    curves = criteria.precision_recall
    k = curves.neighbours
    with drawn(path, 1, 2, size=(12.0, 4.8)) as (_, axes):
        against_size, against_recall = axes[0]
        for name, overall, by_type, style in (
            ("accuracy", curves.accuracy, curves.accuracy_by_type, "-"),
            ("precision", curves.precision, curves.precision_by_type, "--"),
            ("recall", curves.recall, curves.recall_by_type, ":"),
        ):
            against_size.plot(k, overall, "k", ls=style, lw=2, label=f"{name}, all patches")
            for row, kind in enumerate(curves.types.tolist()):
                against_size.plot(k, by_type[row], color=_colour(kind), ls=style, lw=0.9)
        for kind in curves.types.tolist():
            against_size.plot([], [], color=_colour(kind), label=_name(kind))
        against_size.set(
            xlabel="nearest neighbours of a patch",
            ylabel="mean over patches",
            xlim=(0, k[-1]),
            ylim=(0, 1.02),
            title="Neighbourhoods by size",
        )
        against_recall.plot(
            curves.recall, curves.precision, "k", lw=2, label=f"all patches, AUC {criteria.auc:.3f}"
        )
        for row, kind in enumerate(curves.types.tolist()):
            against_recall.plot(
                curves.recall_by_type[row],
                curves.precision_by_type[row],
                color=_colour(kind),
                label=_name(kind),
            )
        against_recall.axhline(
            curves.prevalence, color="0.6", ls=":", label=f"by chance {curves.prevalence:.3f}"
        )
        against_recall.set(
            xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02),
            title=f"Precision and recall, {criteria.patches:,} patches",
        )  # fmt: skip
        for axis in (against_size, against_recall):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def in_plane(vectors: Vectors, *, seed: int = 0) -> NDArray[np.float32]:
    """t-SNE of some embeddings (n, d) in two dimensions, deterministic for one seed."""
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    if vectors.shape[1] == 1:
        vectors = np.concatenate([vectors, np.zeros_like(vectors)], axis=1)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    plane: NDArray[np.float32] = tsne.fit_transform(vectors).astype(np.float32)
    return plane


def _draw_plane(
    axis: Axes, plane: Vectors, types: NDArray[np.integer[Any]], criteria: Criteria
) -> None:
    for kind in np.unique(types).tolist():
        shown = plane[types == kind]
        axis.scatter(shown[:, 0], shown[:, 1], s=5, color=_colour(kind), label=_name(kind))
    axis.set(
        xlabel="t-SNE 1",
        ylabel="t-SNE 2",
        title=f"Types of patches, AUC {criteria.auc:.3f} ({len(plane):,} shown)",
    )
    axis.legend(fontsize=8, markerscale=2)


def _draw_distances(axis: Axes, criteria: Criteria) -> None:
    edges = criteria.pairs.distance_edges
    pairs = criteria.pairs.histogram.sum(axis=0)
    moved, largest = criteria.transform_distances.ravel(), criteria.largest_transform_distance
    # An invariant metric moves patches by round-off alone: only a log scale shows both.
    apart = 0 < largest < 0.01 * criteria.pairs.mean_distance
    smallest = float(moved[moved > 0].min()) if apart else 0.0
    own_edges = np.geomspace(smallest, largest, 41) if apart else np.linspace(0, largest or 1, 61)
    counts, _ = np.histogram(moved, bins=own_edges)
    upper = _upper(pairs, edges)
    if apart:  # bins of even width on that scale, from where the even ones can tell
        shown = np.geomspace(edges[1] / 2, edges[-1], 61)
        pairs = np.diff(np.interp(shown, edges, np.append(0, pairs.cumsum())))
        edges = shown
    axis.stairs(pairs / pairs.max(), edges, fill=True, alpha=0.5, label="pairs of patches")
    axis.stairs(
        counts / max(counts.max(), 1), own_edges, fill=True, alpha=0.5, color=TYPE_COLOURS[2],
        label="a patch and its transforms",
    )  # fmt: skip
    axis.axvline(
        largest, color="k", ls="--", lw=1, label=f"largest under a transform {largest:.3g}"
    )
    axis.set(
        xlabel="dz (units of the embedding)",
        ylabel="number in a bin, the highest as 1",
        xscale="log" if apart else "linear",
        xlim=(smallest / 2, upper) if apart else (0, max(upper, 1.03 * largest)),
        ylim=(0, 1.35),
        title=f"Transforms, overlap {criteria.overlap_percent:.3g} %",
    )
    axis.legend(fontsize=8, loc="upper left" if not apart else "upper center")


def _draw_proportionality(axis: Axes, criteria: Criteria) -> Any:
    pairs = criteria.pairs
    # Whole pixels that are seen, from the fine bins that cover every possible distance.
    across = _upper(pairs.histogram.sum(axis=1), pairs.reference_edges)
    up = max(_upper(pairs.histogram.sum(axis=0), pairs.distance_edges), criteria.factor * across)
    image = axis.pcolormesh(
        pairs.reference_edges,
        pairs.distance_edges,
        np.ma.masked_equal(pairs.histogram.T, 0),
        norm=LogNorm(vmin=1),
        cmap="viridis",
        rasterized=True,
    )
    axis.plot(
        [0, across], [0, criteria.factor * across], "r", lw=1, label=f"dz = {criteria.factor:g} dΥ"
    )
    axis.set(
        xlabel="dΥ (standardised radial profiles)",
        ylabel="dz (units of the embedding)",
        xlim=(0, across),
        ylim=(0, up),
        title=f"Radial profiles, MARE {criteria.mare:.3g}, R {pairs.pearson_r:.3f}",
    )
    axis.legend(fontsize=8, loc="upper left")
    return image


def _upper(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> float:
    """Upper edge of the last bin that holds anything, and a little room."""
    filled = np.flatnonzero(counts)
    return float(edges[filled[-1] + 1] * 1.03) if len(filled) else float(edges[-1])


def _colour(kind: int) -> str:
    return TYPE_COLOURS[kind % len(TYPE_COLOURS)]


def _name(kind: int) -> str:
    return TYPE_NAMES[kind] if kind < len(TYPE_NAMES) else f"type {kind}"
