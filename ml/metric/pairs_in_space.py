"""Which patches of one snapshot lie near each other in the membrane."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml.patch_set import PatchDataError, PatchSet

Indices = NDArray[np.int64]

HALF_PATCH_NM = 15.0
HALF_DIAGONAL_NM = 2**0.5 * HALF_PATCH_NM


def pairs_of_snapshots(patches: PatchSet) -> Iterator[tuple[Indices, Indices, NDArray[np.float64]]]:
    """(i, j, dx in nm) of all pairs i < j of each snapshot of each run, minimum image.

    Raises PatchDataError if the side of a membrane is unknown.
    """
    if not np.isfinite(patches.side_nm[patches.run]).all():
        raise PatchDataError(
            "distances in space need the side of each membrane: give run folders with their"
            f" config.resolved.yaml, the sides known are {patches.side_nm.tolist()} nm"
        )
    moments = np.stack([patches.run.astype(np.int64), patches.snapshot_index])
    _, group = np.unique(moments, axis=1, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(group.ravel()[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        first, second = np.triu_indices(len(members), 1)
        i, j = members[first], members[second]
        side = patches.side_nm[patches.run[members[0]]]
        apart = patches.centre_nm[i] - patches.centre_nm[j]
        apart -= side * np.round(apart / side)
        yield i, j, np.hypot(apart[:, 0], apart[:, 1])


def nearest_protein_nm(patches: PatchSet) -> NDArray[np.float64]:
    """(N,) nm from the protein of each patch to the nearest other one; infinite for controls.

    A snapshot of which only some patches are given has only their proteins. Raises PatchDataError
    if the side of a membrane is unknown.
    """
    nearest = np.full(len(patches), np.inf)
    around = np.flatnonzero(patches.central_state >= 0)
    for i, j, dx in pairs_of_snapshots(patches.subset(around)):
        for one in (i, j):
            np.minimum.at(nearest, around[one], dx)
    return nearest
