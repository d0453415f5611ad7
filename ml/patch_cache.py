"""Patches gathered in one folder: densities as one memory-mapped float16 array, and an index."""

import json
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ml.atomic_file import atomic_folder, write_atomically
from ml.patch_files import PatchFiles
from ml.patch_set import CHANNELS, NODES, PatchDataError, PatchSet

SCHEMA = "bilayer/patch-cache/1"
_ARRAYS = (
    "patch_id",
    "run",
    "snapshot_index",
    "time_us",
    "slot",
    "kind",
    "central_state",
    "n_ras",
    "n_raf",
    "centre_nm",
    "parameter_version",
    "side_nm",
)


def is_cache(folder: Path) -> bool:
    return (folder / "cache.json").is_file()


def cached(files: PatchFiles, folder: Path) -> PatchSet:
    """The patches of `files` from the cache in `folder`, which is written unless it holds them.

    Raises PatchDataError if `folder` holds anything but a cache, or the files cannot be read.
    """
    if is_cache(folder):
        try:
            stored = read_cache(folder)
        except PatchDataError:
            stored = None
        if stored is not None and stored.fingerprint == files.fingerprint:
            return stored
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PatchDataError(f"cache {folder} must be a cache of patches, empty or absent")
    _write_cache(files, folder)
    return read_cache(folder)


def read_cache(folder: Path) -> PatchSet:
    """The patches in a cache, densities memory-mapped. Raises PatchDataError."""
    try:
        head = json.loads((folder / "cache.json").read_text())
        if head.get("schema") != SCHEMA:
            raise PatchDataError(
                f"the schema of {folder} must be {SCHEMA!r}, got {head.get('schema')!r}"
            )
        if tuple(head["channels"]) != CHANNELS:
            raise PatchDataError(
                f"{folder} must hold the channels {list(CHANNELS)}, got {head['channels']}"
            )
        density: NDArray[np.float16] = np.load(
            folder / "density.npy", mmap_mode="r", allow_pickle=False
        )
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            arrays = {name: index[name] for name in _ARRAYS}
        fingerprint = str(head["fingerprint"])
    except PatchDataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PatchDataError(f"{folder} is not a whole cache of patches: {error}") from error
    shape = (len(arrays["patch_id"]), len(CHANNELS), NODES, NODES)
    if density.shape != shape or density.dtype != np.float16:
        raise PatchDataError(
            f"density.npy in {folder} must be float16 {shape}, got {density.dtype} {density.shape}"
        )
    return PatchSet(density=density, fingerprint=fingerprint, **arrays)


def thinned(patches: PatchSet, first_us: float, every: int) -> PatchSet:
    """Every `every`-th snapshot of each run from `first_us` on. Raises PatchDataError if none."""
    kept = np.zeros(len(patches), bool)
    for run in np.unique(patches.run):
        late = (patches.run == run) & (patches.time_us >= first_us)
        kept |= late & np.isin(
            patches.snapshot_index, np.unique(patches.snapshot_index[late])[::every]
        )
    if kept.all():
        return patches
    if not kept.any():
        raise PatchDataError(f"no patch from {first_us} µs on in the cache")
    return patches.subset(np.flatnonzero(kept))


def _write_cache(files: PatchFiles, folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        shape = (len(files), len(CHANNELS), NODES, NODES)
        density = open_memmap(temporary / "density.npy", mode="w+", dtype=np.float16, shape=shape)
        start = 0
        for part in files.densities():
            density[start : start + len(part)] = part
            start += len(part)
        density.flush()
        patches = files.with_density(density)
        np.savez(temporary / "index.npz", **{name: getattr(patches, name) for name in _ARRAYS})
        head = {
            "schema": SCHEMA,
            "fingerprint": patches.fingerprint,
            "channels": list(CHANNELS),
            "patches": len(patches),
        }
        write_atomically(temporary / "cache.json", json.dumps(head, indent=2) + "\n")
