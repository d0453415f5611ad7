"""Distance in the metric against distance in the membrane, within snapshots (figure 7 a)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from campaign.analysis.embedding import AnalysisError, EmbeddedSnapshot
from continuum import ConfigurationError, load_model
from continuum.parameters import Model
from ml.metric.checks import HALF_PATCH_NM, SpatialRelation, relation

Array = NDArray[np.float64]

LONGEST_NM = 60.0
BIN_NM = 1.0


def model_of(run: Path) -> Model:
    """The membrane's model of a run. Raises AnalysisError where the run does not say it."""
    for name in ("continuum.resolved.yaml", "config.resolved.yaml"):
        path = run / name
        if path.is_file():
            try:
                return load_model(str(path))
            except ConfigurationError as error:
                raise AnalysisError(f"{path} does not give the membrane: {error}") from error
    raise AnalysisError(f"{run} must hold config.resolved.yaml, for the model of its membrane")


def pairs_within(snapshot: EmbeddedSnapshot, side_nm: float) -> tuple[Array, Array]:
    """(dx in nm by minimum image, dz) of all pairs of a snapshot, (N (N - 1) / 2,) each."""
    first, second = np.triu_indices(len(snapshot.z), k=1)
    step = snapshot.centre_nm[first] - snapshot.centre_nm[second]
    step -= side_nm * np.round(step / side_nm)
    distances: Any = pdist(snapshot.z.astype(np.float64))
    return np.hypot(step[:, 0], step[:, 1]), np.asarray(distances)


def relation_in_space(snapshots: Iterable[EmbeddedSnapshot], side_nm: float) -> SpatialRelation:
    """dz against dx over all pairs of each snapshot, up to half a patch and beyond.

    Raises AnalysisError where no two patches share a snapshot.
    """
    pairs = [pairs_within(snapshot, side_nm) for snapshot in snapshots]
    if sum(len(dx) for dx, _ in pairs) == 0:
        raise AnalysisError("distances in space need snapshots of at least two patches")
    dx, dz = (np.concatenate(part) for part in zip(*pairs, strict=True))
    near, within = dx <= HALF_PATCH_NM, dx <= LONGEST_NM
    far = within & ~near
    return SpatialRelation(
        near=relation(dx[near], dz[near], np.arange(0, HALF_PATCH_NM + BIN_NM, BIN_NM)),
        far=relation(dx[far], dz[far], np.arange(HALF_PATCH_NM, LONGEST_NM + BIN_NM, BIN_NM)),
    )
