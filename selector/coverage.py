"""How well selected points cover the candidates: fill distance, mean and percentiles.

Farthest-point selection controls the worst case, the fill distance max_x min_s |x - s|; the mean
distance of random selection is smaller on dense data, so both are reported.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selector.farthest_point import FarthestPointSampler
from selector.random_choice import RandomSampler

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Distances from candidates to their nearest selected point, in units of the vectors."""

    fill_distance: float
    mean: float
    percentiles: dict[int, float]

    def as_json(self) -> dict[str, Any]:
        """Plain values with string keys; null where a distance is infinite."""
        values = {"fill_distance": self.fill_distance, "mean": self.mean}
        percentiles = {str(p): _finite(value) for p, value in self.percentiles.items()}
        return {key: _finite(value) for key, value in values.items()} | {"percentiles": percentiles}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def coverage_of(distances: NDArray[np.float64]) -> Coverage:
    """Coverage from the nearest distances (n,); zero if every point is selected."""
    if len(distances) == 0:
        distances = np.zeros(1)
    if np.isinf(distances).any():
        percentiles = dict.fromkeys(PERCENTILES, np.inf)
        return Coverage(fill_distance=np.inf, mean=np.inf, percentiles=percentiles)
    return Coverage(
        fill_distance=float(distances.max()),
        mean=float(distances.mean()),
        percentiles={p: float(np.percentile(distances, p)) for p in PERCENTILES},
    )


def coverage(sampler: FarthestPointSampler) -> Coverage:
    """Of a sampler's candidates by its selected points; infinite while nothing is selected.

    Cheap at any time: the nearest distances are kept up to date with the importances.
    """
    return coverage_of(sampler.nearest_selected()[0])


def clustered_vectors(number: int, dimension: int, clusters: int, seed: int) -> NDArray[np.float32]:
    """Gaussian clusters of widely different sizes and widths, float32 (number, dimension)."""
    random = np.random.default_rng(seed)
    centres = 6.0 * random.standard_normal((clusters, dimension))
    widths = np.exp(random.uniform(-1.5, 0.5, clusters))
    shares = random.dirichlet(np.full(clusters, 0.4))
    member = random.choice(clusters, number, p=shares)
    noise = random.standard_normal((number, dimension))
    return (centres[member] + widths[member, None] * noise).astype(np.float32)


def compare_selections(
    vectors: NDArray[np.float32], selections: int, batch: int, k: int = 10, seed: int = 0
) -> dict[str, Coverage]:
    """Coverage of the same pool after `selections` picks in batches: greedy, frozen, random."""
    ids = np.arange(len(vectors))
    results = {}
    for mode in ("greedy", "frozen"):
        sampler = FarthestPointSampler(vectors.shape[1], k=k, capacity=len(vectors), seed=seed)
        sampler.add(ids, vectors)
        warm_up = sampler.select(min(sampler.warm_up, selections))
        for start in range(len(warm_up), selections, batch):
            sampler.select(min(batch, selections - start), frozen=mode == "frozen")
        results[mode] = coverage(sampler)
    control = RandomSampler(vectors.shape[1], capacity=len(vectors), seed=seed)
    control.add(ids, vectors)
    reference = FarthestPointSampler(vectors.shape[1], k=k, capacity=len(vectors), warm_up=0)
    reference.add(ids, vectors)
    reference.mark_selected(control.select(selections))
    results["random"] = coverage(reference)
    return results
