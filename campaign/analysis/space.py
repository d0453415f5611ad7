"""Distance in the metric against distance in the membrane, within snapshots (figure 7 a)."""

from collections.abc import Iterable

import numpy as np

from campaign.analysis.embedding import AnalysisError, EmbeddedSnapshot
from campaign.analysis.pair_sums import PairSums
from ml.metric.checks import HALF_DIAGONAL_NM, HALF_PATCH_NM, SpatialRelation

LONGEST_NM = 60.0
BIN_NM = 1.0


def relation_in_space(snapshots: Iterable[EmbeddedSnapshot], side_nm: float) -> SpatialRelation:
    """dz against dx over all pairs of each snapshot, up to half a patch and beyond.

    Every pair counts; memory holds one snapshot. Raises AnalysisError where no two patches share a
    snapshot.
    """
    near = PairSums(0.0, HALF_PATCH_NM, round(HALF_PATCH_NM / BIN_NM))
    far, apart = (
        PairSums(np.nextafter(first, LONGEST_NM), LONGEST_NM, round((LONGEST_NM - first) / BIN_NM))
        for first in (HALF_PATCH_NM, HALF_DIAGONAL_NM)
    )
    for snapshot in snapshots:
        for sums in (near, far, apart):
            sums.add_snapshot(snapshot.centre_nm, snapshot.z, side_nm)
    if near.seen == 0:
        raise AnalysisError(
            "distances in space need snapshots of at least two protein patches; distances in time "
            "can still be analysed where there are histories (`analyse decorrelation`)"
        )
    return SpatialRelation(near=near.relation(), far=far.relation(), apart=apart.relation())
