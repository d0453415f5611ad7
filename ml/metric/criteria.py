"""The three criteria by which a similarity metric is judged (Bhatia 2022, 3.1), over all pairs.

- AUC (3.1.1): area under the precision-recall curve of neighbourhoods: see `neighbourhoods`.
- Overlap (3.1.2): the percentage of pairs j < k of patches with
  dz(p_j, p_k) <= max over all i and the five transformations ρ of dz(p_i, ρ(p_i)).
- MARE (3.1.3): the median over all pairs of |dz - λ dΥ|, in units of dz, where dΥ is the Euclidean
  distance of radial profiles (2.2.3) and λ the factor that the metric was trained for.
- MARE* = MARE / λ, in units of dΥ, the scale on which table 1 compares rows. The table's caption
  calls the factor "L^rad"; that λ is meant follows from its own row, 2.6 = 0.26 / 0.1. A metric
  never trained for proportionality has no λ of its own: the ablations keep the common 0.1, so that
  their residuals are on one scale, and the standard metrics use 1, for which the distance of
  profiles itself scores its 0.

Pearson's R of dz against dΥ comes along, since it asks for proportionality without a scale.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml.metric.neighbourhoods import NeighbourhoodCounts, PrecisionRecall
from ml.metric.pair_distances import PointCloud
from ml.metric.pair_statistics import PairCounts, PairRelation
from ml.metric.radial_profiles import radial_profiles
from ml.metric.symmetries import PUBLISHED_SYMMETRIES, apply_symmetry
from ml.patch_set import PatchSet, Standardisation, blocks, load_batch
from ml.training.memory import require_memory

# Of all embeddings: in batches, together, and centred.
_COPIES = 3

Vectors = NDArray[np.floating[Any]]
Encode = Callable[[NDArray[Any]], Vectors]
"""(N, 14, 37, 37) densities in nm⁻² -> (N, d) embedding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """Patches seen through a metric."""

    vectors: Vectors  # (N, d)
    transform_distances: NDArray[np.float64]  # (N, T) dz of each patch to each of its transforms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Criteria:
    """The criteria of one metric on one set of patches, and the curves behind them."""

    patches: int
    dimension: int
    factor: float  # λ
    auc: float
    overlap_percent: float
    mare: float  # units of dz
    mare_star: float  # units of dΥ
    largest_transform_distance: float
    precision_recall: PrecisionRecall
    pairs: PairRelation  # of dz and dΥ
    transform_distances: NDArray[np.float64]  # (N, T)

    def as_json(self, curve_points: int = 200) -> dict[str, Any]:
        """Plain values for JSON, curves at `curve_points` numbers of neighbours."""
        curves = self.precision_recall
        k = curves.neighbours
        shown = np.unique(np.linspace(0, len(k) - 1, curve_points).round().astype(np.int64))
        by_type = {
            str(kind): {
                "precision": curves.precision_by_type[row, shown].tolist(),
                "recall": curves.recall_by_type[row, shown].tolist(),
                "accuracy": curves.accuracy_by_type[row, shown].tolist(),
            }
            for row, kind in enumerate(curves.types.tolist())
        }
        return {
            "patches": self.patches,
            "pairs": self.pairs.pairs,
            "dimension": self.dimension,
            "factor": self.factor,
            "auc": self.auc,
            "auc_of_points": curves.auc_of_points,
            "prevalence": curves.prevalence,
            "overlap_percent": self.overlap_percent,
            "pairs_within_transforms": self.pairs.within_threshold,
            "largest_transform_distance": self.largest_transform_distance,
            "median_transform_distance": float(np.median(self.transform_distances)),
            "mare": self.mare,
            "mare_star": self.mare_star,
            "pearson_r_of_profiles": finite_or_none(self.pairs.pearson_r),
            "slope_of_profiles": finite_or_none(self.pairs.slope),
            "mean_distance": self.pairs.mean_distance,
            "mean_profile_distance": self.pairs.mean_reference,
            "neighbours": k[shown].tolist(),
            "precision": curves.precision[shown].tolist(),
            "recall": curves.recall[shown].tolist(),
            "accuracy": curves.accuracy[shown].tolist(),
            "by_type": by_type,
        }


def embed(
    encode: Encode,
    patches: PatchSet,
    index: NDArray[np.integer[Any]],
    *,
    symmetries: tuple[int, ...] = PUBLISHED_SYMMETRIES,
    at_once: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Embedding:
    """The patches at `index` and how far each of `symmetries` moves them in the embedding.

    `progress` hears the number of patches done. ValueError if an embedding is not finite,
    TrainingError if all of them would not fit into memory.
    """
    vectors: list[Vectors] = []
    distances: list[NDArray[np.float64]] = []
    for start in range(0, len(index), at_once):
        density = load_batch(patches, index[start : start + at_once])
        z = np.asarray(encode(density), dtype=np.float32)
        if start == 0:
            needed = _COPIES * len(index) * z.shape[1] * z.itemsize
            what = f"the embedding of {len(index)} patches in {z.shape[1]} dimensions"
            require_memory(needed, torch.device("cpu"), what)
        moved = (encode(np.ascontiguousarray(apply_symmetry(density, g))) for g in symmetries)
        vectors.append(z)
        distances.append(
            np.stack([np.linalg.norm((m - z).astype(np.float64), axis=1) for m in moved], axis=1)
        )
        if not (np.isfinite(z).all() and np.isfinite(distances[-1]).all()):
            raise ValueError(
                f"embeddings must be finite, of patches {start} to {start + len(z) - 1} some"
                " are not"
            )
        if progress is not None:
            progress(start + len(z))
    return Embedding(vectors=np.concatenate(vectors), transform_distances=np.concatenate(distances))


def profiles_of(
    patches: PatchSet, index: NDArray[np.integer[Any]], standardisation: Standardisation
) -> NDArray[np.float32]:
    """(N, 8, 38) radial profiles Υ of the standardised images of the patches at `index`."""
    found = [radial_profiles(load_batch(patches, block)) for block in blocks(index)]
    return standardisation.apply_to_profiles(np.concatenate(found))


def judge(
    embedding: Embedding,
    types: NDArray[np.integer[Any]],  # (N,) 0 none, 1 one RAS, 2 one RAS-RAF, 3 the rest
    profiles: Vectors,  # (N, 8, 38) radial profiles, or (N, features)
    *,
    factor: float,
    device: str | torch.device = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Criteria:
    """The criteria of an embedding, blockwise over all N (N-1)/2 pairs.

    Memory: the points, some arrays of a block of a million pairs, and N x types counts. `progress`
    hears the number of points done. ValueError unless lengths agree, there are two types of two
    patches or more, all values are finite and factor > 0.
    """
    count = len(embedding.vectors)
    if not (len(types) == len(profiles) == len(embedding.transform_distances) == count):
        raise ValueError(
            f"embedding, types and profiles must be of the same patches, given {count},"
            f" {len(types)} and {len(profiles)}"
        )
    if not factor > 0:
        raise ValueError(f"factor must be > 0, got {factor}")
    points = PointCloud(embedding.vectors, device)
    features = PointCloud(profiles.reshape(count, -1), device)
    largest = float(embedding.transform_distances.max(initial=0.0))
    neighbours = NeighbourhoodCounts(types, device)
    counts = PairCounts(
        factor=factor,
        threshold=largest,
        distance_bound=points.diameter_bound,
        reference_bound=features.diameter_bound,
        device=device,
    )
    with ThreadPoolExecutor(max_workers=2) as pool:
        running: list[Future[None]] = []
        for rows in points.row_blocks():
            distance = points.distances(rows, slice(0, count))
            later = slice(rows.start, count)
            reference = features.distances(rows, later)
            for future in running:
                future.result()
            running = [
                pool.submit(neighbours.add, rows, distance),
                pool.submit(counts.add, distance[:, later], reference),
            ]
            if progress is not None:
                progress(rows.stop)
        for future in running:
            future.result()
    pairs, curves = counts.result(), neighbours.result()
    return Criteria(
        patches=count,
        dimension=embedding.vectors.shape[1],
        factor=factor,
        auc=curves.auc,
        overlap_percent=100.0 * pairs.within_threshold / pairs.pairs,
        mare=pairs.median_residual,
        mare_star=pairs.median_residual / factor,
        largest_transform_distance=largest,
        precision_recall=curves,
        pairs=pairs,
        transform_distances=embedding.transform_distances,
    )


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
