"""The patches of a run cut again at other angles (`continuum recut`), matched by their ids.

Symmetries of the square are all that can be made of a patch alone; only the membrane around it
gives it at another angle. The published work lacked such views (Bhatia et al. 2022, 2.2.2).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.patch_data import PatchDataError, PatchSet, open_patches


class RotatedViews:
    """Other cuts of the same patches: view v of patch i is `load([i], [v])`."""

    def __init__(self, patches: PatchSet, folders: Sequence[Path], cache: Path | None) -> None:
        """Opens every folder. Raises PatchDataError unless each holds every patch of one run."""
        if np.ptp(patches.run):
            raise PatchDataError("data.views need patches of a single run: ids repeat over runs")
        opened = [
            open_patches([folder], cache=None if cache is None else cache / f"view-{number}")
            for number, folder in enumerate(folders)
        ]
        self._density = [view.density for view in opened]
        self._where = np.stack(
            [_positions(patches, view, path) for view, path in zip(opened, folders, strict=True)]
        )
        parts = [patches.fingerprint, *(view.fingerprint for view in opened)]
        self.fingerprint = hashlib.sha256("".join(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._density)

    def load(
        self, index: NDArray[np.integer[Any]], view: NDArray[np.integer[Any]]
    ) -> NDArray[np.float16]:
        """(B, 14, 37, 37) nm⁻²: of each patch at `index` (B,) the view numbered `view` (B,)."""
        found = np.empty((len(index), *self._density[0].shape[1:]), np.float16)
        for number, density in enumerate(self._density):
            rows = np.flatnonzero(view == number)
            found[rows] = density[self._where[number, index[rows]]]
        return found


def _positions(patches: PatchSet, view: PatchSet, folder: Path) -> NDArray[np.int64]:
    """Where each patch stands in a view."""
    order = np.argsort(view.patch_id)
    place = np.searchsorted(view.patch_id, patches.patch_id, sorter=order)
    found: NDArray[np.int64] = order[np.minimum(place, len(order) - 1)]
    absent = view.patch_id[found] != patches.patch_id
    if absent.any():
        raise PatchDataError(
            f"{folder} must hold a view of every patch, {absent.sum()} of {len(patches)} have none;"
            " data.every can keep to the snapshots that were stored"
        )
    return found
