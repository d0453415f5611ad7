"""The patches of continuum runs, opened for learning and split by the history they belong to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.patch_cache import cached, is_cache, read_cache, thinned
from ml.patch_files import PatchFiles
from ml.patch_set import CHANNELS, PatchDataError, PatchSet, Standardisation, load_batch

__all__ = [
    "CHANNELS",
    "PatchDataError",
    "PatchSet",
    "Standardisation",
    "load_batch",
    "open_patches",
    "split_by_history",
]


def open_patches(
    sources: Sequence[Path | str],
    *,
    cache: Path | str | None = None,
    first_us: float = 0.0,
    every: int = 1,
    kinds: int = 2,
) -> PatchSet:
    """The patches of `sources`: run folders, folders of patch files, patch files, or one cache.

    Only snapshots from `first_us` on count, and of these every `every`-th of each run. With
    `cache`, densities are memory-mapped from that folder, which is written first unless it holds
    these very patches; without it they are read into memory.

    Raises PatchDataError, which names the file and what is wrong with it: missing, truncated, of
    another schema or other channels, not finite, the same patch twice, or fewer than `kinds`
    kinds of patch in all.
    """
    if not first_us >= 0:
        raise PatchDataError(f"first_us must be >= 0, got {first_us}")
    if every < 1:
        raise PatchDataError(f"every must be >= 1, got {every}")
    folders = [Path(source) for source in sources]
    if len(folders) == 1 and is_cache(folders[0]):
        patches = read_cache(folders[0])
        kept = thinned(patches, first_us, every)
    else:
        files = PatchFiles.of(folders, first_us=first_us, every=every)
        kept = files.in_memory() if cache is None else cached(files, Path(cache))
    present = np.unique(kept.kind)
    if len(present) < kinds:
        raise PatchDataError(
            f"patches of at least {kinds} kinds are needed (0 no protein, 1 one RAS, 2 one RAS-RAF,"
            f" 3 the rest), {len(kept)} patches are all of kind {present.tolist()}"
        )
    return kept


def split_by_history(
    patches: PatchSet, validation_share: float = 0.1, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training index, validation index), both ascending, with no history in both.

    Histories of proteins and control slots are drawn apart, so that both sides hold both; the draw
    depends on the histories present and on `seed` alone. Raises PatchDataError if the share is not
    inside (0, 1) or there are too few histories to share out.
    """
    if not 0.0 < validation_share < 1.0:
        raise PatchDataError(f"validation_share must be in (0, 1), got {validation_share}")
    history = patches.history
    held_out: list[NDArray[np.int64]] = []
    for purpose, group in enumerate((patches.central_state >= 0, patches.central_state < 0)):
        present = np.unique(history[group])
        if len(present) < 2:
            continue
        count = min(max(round(validation_share * len(present)), 1), len(present) - 1)
        order = np.random.default_rng([seed, purpose]).permutation(len(present))
        held_out.append(present[order[:count]])
    if not held_out:
        raise PatchDataError(
            f"a split needs at least two histories, {len(patches)} patches have "
            f"{len(np.unique(history))}"
        )
    validation = np.isin(history, np.concatenate(held_out))
    return np.flatnonzero(~validation), np.flatnonzero(validation)
