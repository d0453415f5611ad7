"""How a metric does on the patches of a campaign (Bhatia et al. 2022, sections 3.3.1 and 3.3.2).

The criteria are those of `ml` over all pairs of patches drawn at random. dz against dμ, figure 6 b,
is given over all pairs and over those with dμ <= 0.125 nm⁻², where the paper cuts; it does not say
whether its R is over pairs or over the curve of means, so both are there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from campaign.analysis.judged_patches import JudgedPatches
from campaign.analysis.pair_sums import PairSums
from ml.metric.checks import Relation, SimilarPatches, relation_to_means, similar_and_dissimilar
from ml.metric.criteria import Criteria, Vectors, judge
from ml.metric.pair_distances import PointCloud

NEAR_NM2 = 0.125  # nm⁻²
BINS = 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricOnCampaign:
    """Criteria, dz against dμ, and the patches of figure 5 with why there are none."""

    criteria: Criteria
    to_means: Relation
    to_near_means: Relation  # dμ <= NEAR_NM2
    similar: SimilarPatches | None
    left_out: dict[str, str]

    @property
    def near_share(self) -> float:
        """Of all pairs."""
        return self.to_near_means.all_pairs / self.to_means.all_pairs

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        near = {"limit_nm2": NEAR_NM2, "share_of_pairs": self.near_share}
        similar = (
            {}
            if self.similar is None
            else {
                name: getattr(self.similar, name)
                for name in ("dz_similar", "dz_dissimilar", "dz_crowded")
            }
        )
        return {
            "criteria": self.criteria.as_json(),
            "dz_dmu": self.to_means.as_json(),
            "dz_dmu_near": near | self.to_near_means.as_json(),
            "similar_patches": similar,
            "left_out": self.left_out,
        }


def judge_on_campaign(
    judged: JudgedPatches,
    *,
    factor: float,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MetricOnCampaign:
    """All pairs are compared, block by block. Raises ValueError where the patches do not do."""
    vectors = judged.embedding.vectors
    criteria = judge(
        judged.embedding, judged.patches.kind, judged.profiles, factor=factor, progress=progress
    )
    similar, left_out = None, {}
    try:
        similar = similar_and_dissimilar(vectors, judged.patches, seed=seed)
    except ValueError as error:
        left_out["similar_patches"] = str(error)
    return MetricOnCampaign(
        criteria=criteria,
        to_means=relation_to_means(vectors, judged.means, bins=BINS),
        to_near_means=relation_to_near_means(vectors, judged.means),
        similar=similar,
        left_out=left_out,
    )


def relation_to_near_means(vectors: Vectors, means: Vectors, limit: float = NEAR_NM2) -> Relation:
    """dz of all pairs (N, d) whose mean concentrations (N, C) are at most `limit` apart."""
    points, concentrations = PointCloud(vectors), PointCloud(means)
    sums = PairSums(0.0, limit, BINS)
    for rows in points.row_blocks():
        later = slice(rows.start, len(vectors))
        sums.add_block(
            concentrations.distances(rows, later).numpy(), points.distances(rows, later).numpy()
        )
    return sums.relation()


def versions_of(judged: JudgedPatches) -> list[int]:
    """The parameter versions that the patches were cut under."""
    return [int(version) for version in np.unique(judged.patches.parameter_version)]
