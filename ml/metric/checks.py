"""Scientific checks of a metric that are no part of its training (Bhatia 2022, 3.3).

- dz against dμ (figure 6): do distances follow those of mean concentrations?
- dz against dx (figure 7a): are patches that overlap in space similar?
- The patches most and least similar to a reference (figure 5).

The paper draws curves and quotes Pearson's R without saying over what. An R of 0.996 for dμ (3.3.2)
is out of reach for single pairs, whose dz scatter, so it must be that of the curve of means; here
both are given: `pearson_pairs` over all pairs, `pearson_means` over the means of the bins.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml.metric.criteria import Vectors, finite_or_none
from ml.metric.pair_distances import PointCloud
from ml.metric.pair_statistics import PairCounts
from ml.metric.pairs_in_space import HALF_DIAGONAL_NM, HALF_PATCH_NM, pairs_of_snapshots
from ml.patch_set import PatchSet

FEWEST_PAIRS = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relation:
    """dz against another distance, in bins of the latter that hold at least 10 pairs."""

    centre: NDArray[np.float64]  # (B,) middle of each bin
    mean: NDArray[np.float64]  # (B,) of dz
    std: NDArray[np.float64]  # (B,) of dz
    pairs: NDArray[np.int64]  # (B,)
    all_pairs: int  # also of bins left out
    pearson_pairs: float
    pearson_means: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "pairs": self.all_pairs,
            "pearson_pairs": finite_or_none(self.pearson_pairs),
            "pearson_means": finite_or_none(self.pearson_means),
            "centre": self.centre.tolist(),
            "mean_dz": self.mean.tolist(),
            "std_dz": self.std.tolist(),
            "pairs_by_bin": self.pairs.tolist(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpatialRelation:
    """dz against the distance of patches of one snapshot, up to half a patch and beyond.

    A patch is a square: up to half its diagonal, 21.2 nm, the protein at the centre of one patch
    may lie in a corner of the other and change the kind of it; among pairs `apart` none does.
    """

    near: Relation  # dx <= 15 nm
    far: Relation
    apart: Relation  # those of `far` with dx > 21.2 nm

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {"near": self.near, "far": self.far, "apart": self.apart}
        return {name: part.as_json() for name, part in parts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPatches:
    """Patches of figure 5, as positions among those given, and their dz to the reference."""

    reference: int
    similar: int
    dissimilar: int
    crowded: int
    dz_similar: float
    dz_dissimilar: float
    dz_crowded: float


def relation_to_means(
    vectors: Vectors,  # (N, d)
    means: Vectors,  # (N, C) mean concentrations, nm⁻²
    *,
    bins: int = 60,
    device: str | torch.device = "cpu",
) -> Relation:
    """dz against dμ over all N (N-1)/2 pairs (figure 6)."""
    points, concentrations = PointCloud(vectors, device), PointCloud(means, device)
    counts = PairCounts(
        factor=1.0,
        threshold=0.0,
        distance_bound=points.diameter_bound,
        reference_bound=concentrations.diameter_bound,
        bins=bins,
        device=device,
    )
    for rows in points.row_blocks():
        later = slice(rows.start, len(vectors))
        counts.add(points.distances(rows, later), concentrations.distances(rows, later))
    found = counts.result()
    return relation_of_sums(
        found.reference_edges,
        found.histogram.sum(axis=1),
        found.distance_sum,
        found.distance_square_sum,
        found.pearson_r,
    )


def relation_to_space(
    vectors: Vectors,  # (N, d)
    patches: PatchSet,  # of length N
    *,
    bin_nm: float = 1.0,
    longest_nm: float = 60.0,
) -> SpatialRelation:
    """dz against dx over the pairs of each snapshot, minimum image, up to `longest_nm` (fig. 7a).

    Of patches around proteins alone: controls keep away from proteins, so that with them dz would
    rise where the first controls come in, however the metric sees space. ValueError if the side of
    a membrane is unknown, or no two such patches share a snapshot.
    """
    around = np.flatnonzero(patches.central_state >= 0)
    dx, dz = distances_within_snapshots(vectors[around], patches.subset(around))

    def between(first_nm: float, last_nm: float, bins: int) -> Relation:
        inside = (dx > first_nm) & (dx <= last_nm)
        return relation(dx[inside], dz[inside], np.linspace(max(first_nm, 0.0), last_nm, bins + 1))

    return SpatialRelation(
        near=between(-np.inf, HALF_PATCH_NM, round(HALF_PATCH_NM / bin_nm)),
        far=between(HALF_PATCH_NM, longest_nm, round((longest_nm - HALF_PATCH_NM) / bin_nm)),
        apart=between(
            HALF_DIAGONAL_NM, longest_nm, round((longest_nm - HALF_DIAGONAL_NM) / bin_nm)
        ),
    )


def distances_within_snapshots(
    vectors: Vectors, patches: PatchSet
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(dx in nm, dz) of all pairs of patches of one snapshot of one run, minimum image."""
    all_dx, all_dz = [np.empty(0)], [np.empty(0)]
    for i, j, dx in pairs_of_snapshots(patches):
        all_dx.append(dx)
        all_dz.append(np.linalg.norm((vectors[i] - vectors[j]).astype(np.float64), axis=1))
    dx, dz = np.concatenate(all_dx), np.concatenate(all_dz)
    if not len(dx):
        raise ValueError("distances in space need two patches of one snapshot, there are none")
    return dx, dz


def relation(
    reference: NDArray[np.floating[Any]],  # (P,)
    distance: NDArray[np.floating[Any]],  # (P,)
    edges: NDArray[np.float64],  # (bins + 1,)
) -> Relation:
    """dz against a reference distance, of pairs listed one by one; the last bin is closed."""
    bins = len(edges) - 1
    bin_of = np.searchsorted(edges, reference, side="right") - 1
    bin_of[reference == edges[-1]] = bins - 1
    inside = (bin_of >= 0) & (bin_of < bins)
    bin_of, distance, reference = bin_of[inside], distance[inside], reference[inside]
    return relation_of_sums(
        edges,
        np.bincount(bin_of, minlength=bins),
        np.bincount(bin_of, weights=distance, minlength=bins).astype(np.float64),
        np.bincount(bin_of, weights=distance**2, minlength=bins).astype(np.float64),
        pearson(reference, distance),
    )


def pearson(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Pearson's R; NaN for fewer than two values, or where either does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def similar_and_dissimilar(
    vectors: Vectors,  # (N, d)
    patches: PatchSet,  # of length N
    *,
    proteins: int = 2,
    seed: int = 0,
) -> SimilarPatches:
    """A random patch of `proteins` proteins, those most and least similar, and a crowded one.

    Similar and dissimilar are sought among all patches of as many proteins, but for those around
    the reference's own protein, whose earlier or later self says little. The crowded patch is the
    farthest of those with the most proteins. ValueError unless there are three such patches.
    """
    count = patches.n_ras.astype(np.int64) + patches.n_raf
    peers = np.flatnonzero(count == proteins)
    if not len(peers):
        raise ValueError(f"figure 5 needs patches of {proteins} proteins, there are none")
    reference = int(np.random.default_rng([seed, 5]).choice(peers))
    others = peers[patches.history[peers] != patches.history[reference]]
    if len(others) < 2:
        raise ValueError(
            f"figure 5 needs three patches of {proteins} proteins from two histories,"
            f" given {len(peers)} patches"
        )
    crowd = np.flatnonzero(count == count.max())
    crowd = crowd[crowd != reference] if len(crowd) > 1 else crowd
    dz = np.linalg.norm((vectors - vectors[reference]).astype(np.float64), axis=1)
    similar, dissimilar = others[dz[others].argmin()], others[dz[others].argmax()]
    crowded = crowd[dz[crowd].argmax()]
    return SimilarPatches(
        reference=reference,
        similar=int(similar),
        dissimilar=int(dissimilar),
        crowded=int(crowded),
        dz_similar=float(dz[similar]),
        dz_dissimilar=float(dz[dissimilar]),
        dz_crowded=float(dz[crowded]),
    )


def relation_of_sums(
    edges: NDArray[np.float64],
    pairs: NDArray[np.int64],
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
    pearson_pairs: float,
) -> Relation:
    """From the number of pairs in each bin and the sums of their dz and dz²; edges (bins + 1,)."""
    kept = pairs >= FEWEST_PAIRS
    centre = ((edges[1:] + edges[:-1]) / 2)[kept]
    mean = total[kept] / pairs[kept]
    return Relation(
        centre=centre,
        mean=mean,
        std=np.sqrt(np.maximum(squares[kept] / pairs[kept] - mean**2, 0.0)),
        pairs=pairs[kept],
        all_pairs=int(pairs.sum()),
        pearson_pairs=pearson_pairs,
        pearson_means=pearson(centre, mean),
    )
