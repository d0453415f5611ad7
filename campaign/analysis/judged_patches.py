"""Patches drawn at random from a whole run, as the criteria of `ml` need them.

Only the patches drawn are read, file by file; memory holds what the criteria compare (embeddings,
radial profiles, mean concentrations), never the densities.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.embedding import AnalysisError, loaded
from campaign.analysis.workers import Workers
from continuum.atomic_file import reading, stored_hdf5
from ml.metric.criteria import Embedding, embed, profiles_of
from ml.metric.standard_metrics import mean_concentrations
from ml.patch_set import CHANNELS, SLOT_BITS, PatchSet, Standardisation, load_batch

DRAW = 3
_PER_PATCH = ("patch_id", "kind", "central_state", "n_ras", "n_raf", "centre_nm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedPatches:
    """N patches; those of one file follow each other."""

    patches: PatchSet  # of length N, without densities
    embedding: Embedding
    profiles: NDArray[np.float32]  # (N, 8, 38) of standardised images
    means: NDArray[np.float32]  # (N, 14) nm⁻²


def draw_patches(files: Sequence[Path], count: int, seed: int) -> list[tuple[Path, list[int]]]:
    """Up to `count` patches of the files, drawn at random: rows of each file that holds any."""
    sizes = [_size(path) for path in files]
    total = sum(sizes)
    generator = np.random.default_rng([seed, DRAW])
    drawn = np.sort(generator.choice(total, min(count, total), replace=False))
    ends = np.cumsum(sizes)
    parts = np.split(drawn, np.searchsorted(drawn, ends)[:-1])
    return [
        (path, (part - (end - size)).tolist())
        for path, part, end, size in zip(files, parts, ends, sizes, strict=True)
        if len(part)
    ]


def judged_patches(
    drawn: Sequence[tuple[Path, list[int]]], encoder: Path, workers: Workers
) -> JudgedPatches:
    """What the criteria need of the patches drawn. Raises ValueError for a damaged file."""
    tasks = [(path.resolve(), rows, encoder.resolve()) for path, rows in drawn]
    parts = list(workers.each(judge_file, tasks, "embedding patches and their transforms"))
    vectors = np.concatenate([part.embedding.vectors for part in parts])
    moved = np.concatenate([part.embedding.transform_distances for part in parts])
    return JudgedPatches(
        patches=_joined([part.patches for part in parts]),
        embedding=Embedding(vectors=vectors, transform_distances=moved),
        profiles=np.concatenate([part.profiles for part in parts]),
        means=np.concatenate([part.means for part in parts]),
    )


def judge_file(path: Path, rows: list[int], encoder: Path) -> JudgedPatches:
    """The same of some patches of one file."""
    patches = read_rows(path, rows)
    metric = loaded(encoder)
    moments = metric.info.standardisation
    standardisation = Standardisation(
        mean=np.array(moments.mean, np.float32), std=np.array(moments.std, np.float32)
    )
    index = np.arange(len(patches))
    return JudgedPatches(
        patches=replace(patches, density=np.empty((len(patches), 0))),
        embedding=embed(metric.encode, patches, index),
        profiles=profiles_of(patches, index, standardisation),
        means=mean_concentrations(load_batch(patches, index)),
    )


def read_rows(path: Path, rows: list[int]) -> PatchSet:
    """Some patches of a file, in the order of its rows."""
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        species = tuple(str(name) for name in file.attrs["species"])
        if species != CHANNELS:
            raise AnalysisError(
                f"{path} holds the lipids {', '.join(species)}, the metric knows "
                f"{', '.join(CHANNELS)}"
            )
        arrays: dict[str, Any] = {name: file[name][()][rows] for name in _PER_PATCH}
        density = file["density"][rows]
        scalars: dict[str, Any] = {
            name: np.full(len(rows), file.attrs[name], kind)
            for name, kind in (
                ("snapshot_index", np.int64),
                ("time_us", np.float64),
                ("parameter_version", np.int32),
            )
        }
    slots = arrays["patch_id"] & np.uint64((1 << SLOT_BITS) - 1)
    return PatchSet(
        density=density,
        run=np.zeros(len(rows), np.int16),
        slot=slots.astype(np.int32),
        side_nm=np.array([np.nan]),
        fingerprint="",
        **arrays,
        **scalars,
    )


def with_densities(run: Path, patches: PatchSet) -> PatchSet:
    """A few patches of a run, with their densities read again."""
    density = []
    for snapshot, patch_id in zip(patches.snapshot_index, patches.patch_id, strict=True):
        path = run / "patches" / f"{snapshot:010d}.h5"
        with stored_hdf5(path, "patches") as file, reading(path, "patches"):
            row = int(np.flatnonzero(file["patch_id"][()] == patch_id)[0])
            density.append(file["density"][row])
    return replace(patches, density=np.stack(density))


def _size(path: Path) -> int:
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        return int(file["patch_id"].shape[0])


def _joined(parts: Sequence[PatchSet]) -> PatchSet:
    names = ("density", "run", "slot", "snapshot_index", "time_us", "parameter_version")
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (*_PER_PATCH, *names)
    }
    return PatchSet(**columns, side_nm=np.array([np.nan]), fingerprint="")
