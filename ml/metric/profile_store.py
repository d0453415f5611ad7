"""Radial profiles of a whole patch set, computed once: beside its cache, or in memory."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ml.atomic_file import atomic_path
from ml.metric.radial_profiles import PROFILE_CHANNELS, RINGS, radial_profiles
from ml.patch_set import PatchSet, blocks, load_batch


def profiles_in_store(patches: PatchSet, folder: Path | None) -> NDArray[np.float32]:
    """(N, 8, 38) radial profiles in nm⁻², memory-mapped from `folder` where one is given.

    The file is named by the patches, so that another set in the same folder has its own.
    """
    shape = (len(patches), PROFILE_CHANNELS, 2 * RINGS)
    if folder is None:
        profiles = np.empty(shape, np.float32)
        _fill(profiles, patches)
        return profiles
    path = folder / f"profiles-{_key(patches)}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            stored = open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            _fill(stored, patches)
            stored.flush()
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _fill(profiles: NDArray[np.float32], patches: PatchSet) -> None:
    for block in blocks(np.arange(len(patches))):
        profiles[block] = radial_profiles(load_batch(patches, block)[:, :PROFILE_CHANNELS])


def _key(patches: PatchSet) -> str:
    digest = hashlib.sha256(patches.fingerprint.encode())
    for identity in (patches.run, patches.patch_id):
        digest.update(np.ascontiguousarray(identity).tobytes())
    return digest.hexdigest()[:16]
