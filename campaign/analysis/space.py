"""Distance in the metric against distance in the membrane, within snapshots (figure 7 a)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from campaign.analysis.embedding import AnalysisError, EmbeddedSnapshot
from campaign.analysis.pair_sums import PairSums
from ml.metric.checks import SpatialRelation
from ml.metric.pairs_in_space import HALF_DIAGONAL_NM, HALF_PATCH_NM

LONGEST_NM = 60.0
BIN_NM = 1.0
BLOCK_US = 5.0  # two proteins that meet count as one encounter for about as long


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationInSpace:
    """dz against dx, and how sure its R is."""

    relation: SpatialRelation
    interval_of_near: tuple[float, float] | None  # 95 %, of R of the means up to half a patch

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self.relation.as_json(), "interval_of_near": self.interval_of_near}


def relation_in_space(snapshots: Iterable[EmbeddedSnapshot], side_nm: float) -> RelationInSpace:
    """dz against dx over all pairs of each snapshot, up to half a patch and beyond.

    Every pair counts; memory holds one snapshot. The interval is that of a bootstrap whose blocks
    are the snapshots of BLOCK_US each. Raises AnalysisError where no two patches share a snapshot.
    """

    def near_sums() -> PairSums:
        return PairSums(0.0, HALF_PATCH_NM, round(HALF_PATCH_NM / BIN_NM))

    near, blocks = near_sums(), defaultdict[int, PairSums](near_sums)
    far, apart = (
        PairSums(np.nextafter(first, LONGEST_NM), LONGEST_NM, round((LONGEST_NM - first) / BIN_NM))
        for first in (HALF_PATCH_NM, HALF_DIAGONAL_NM)
    )
    for snapshot in snapshots:
        block = blocks[int(snapshot.time_us // BLOCK_US)]
        for sums in (block, far, apart):
            sums.add_snapshot(snapshot.centre_nm, snapshot.z, side_nm)
    for block in blocks.values():
        near += block
    if near.seen == 0:
        raise AnalysisError(
            "distances in space need snapshots of at least two protein patches; distances in time "
            "can still be analysed where there are histories (`analyse decorrelation`)"
        )
    return RelationInSpace(
        relation=SpatialRelation(near=near.relation(), far=far.relation(), apart=apart.relation()),
        interval_of_near=PairSums.interval_of_means(list(blocks.values())),
    )
