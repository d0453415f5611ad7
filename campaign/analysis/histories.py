"""Histories: the embeddings of one protein's patch, snapshot after snapshot.

A post-campaign run follows every RAS at short intervals; each slot of its patch files is one
history (Bhatia et al. 2022, section 3.3.4). Patches are embedded file by file, so memory holds one
snapshot of densities and the embeddings alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum import PatchBatch, read_patches

Array = NDArray[Any]
Encode = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SLOT_BITS = 20


class HistoryError(ValueError):
    """A run whose snapshots do not make histories."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histories:
    """Embeddings along time; frames are equally spaced."""

    z: NDArray[np.float32]  # (frames, histories, dimension)
    time_us: NDArray[np.float64]  # (frames,)
    centre_nm: NDArray[np.float64]  # (frames, histories, 2)
    parameter_version: NDArray[np.int64]  # (frames,)
    encoder_version: str

    def __post_init__(self) -> None:
        frames, histories = self.z.shape[:2]
        if self.z.ndim != 3 or self.time_us.shape != (frames,):
            raise HistoryError(
                f"histories need z (frames, histories, d) and a time per frame, got "
                f"{self.z.shape} and {self.time_us.shape}"
            )
        if self.centre_nm.shape != (frames, histories, 2):
            raise HistoryError(
                f"centres must be ({frames}, {histories}, 2), got {self.centre_nm.shape}"
            )
        if not np.isfinite(self.z).all():
            raise HistoryError("embeddings of histories must be finite")

    @property
    def interval_us(self) -> float:
        """Time between frames, µs."""
        return float(self.time_us[1] - self.time_us[0])


def patch_files(run: Path) -> list[Path]:
    """The patch files of a run in the order of their snapshots. Raises HistoryError if none."""
    folder = run / "patches"
    files = sorted(folder.glob("[0-9]*.h5"))
    if not files:
        raise HistoryError(f"{folder} holds no patch files; a run with patches is required")
    return files


def embed_histories(
    files: Iterable[Path], encode: Encode, encoder_version: str, *, progress: Callable[[], None]
) -> Histories:
    """The histories of the protein patches in files of successive snapshots.

    Control patches are left out: their places change from snapshot to snapshot. Raises HistoryError
    where fewer than three snapshots exist, snapshots are missing in between, or the number of
    proteins changes.
    """
    z: list[Array] = []
    times, centres, versions, indices = [], [], [], []
    for path in files:
        batch = read_patches(path)
        chosen = protein_patches(batch)
        if z and len(chosen) != len(z[0]):
            raise HistoryError(
                f"{path} has {len(chosen)} protein patches where the snapshots before had "
                f"{len(z[0])}; histories need the same proteins throughout"
            )
        z.append(encode(batch.density[chosen]))
        times.append(batch.time_us)
        centres.append(batch.centre_nm[chosen])
        versions.append(batch.parameter_version)
        indices.append(batch.snapshot_index)
        progress()
    if len(z) < 3:
        raise HistoryError(
            f"decorrelation needs at least 3 snapshots, the run has {len(z)}; distances between "
            "patches of one snapshot can still be analysed (`analyse space`)"
        )
    check_gaps(np.array(indices))
    return Histories(
        z=np.stack(z),
        time_us=np.array(times),
        centre_nm=np.stack(centres),
        parameter_version=np.array(versions),
        encoder_version=encoder_version,
    )


def protein_patches(batch: PatchBatch) -> NDArray[np.int64]:
    """Indices of the patches around proteins, in the order of their slots."""
    slots = (batch.patch_id & np.uint64((1 << SLOT_BITS) - 1)).astype(np.int64)
    proteins = np.flatnonzero(batch.central_state >= 0)
    return proteins[np.argsort(slots[proteins], kind="stable")]


def check_gaps(indices: Array) -> None:
    """Raise HistoryError, naming the first gap, unless snapshots are equally spaced."""
    steps = np.diff(indices)
    uneven = np.flatnonzero(steps != steps[0])
    if len(uneven):
        first = int(indices[uneven[0]])
        raise HistoryError(
            f"snapshots must be equally spaced; after snapshot {first} the next is "
            f"{int(indices[uneven[0] + 1])} where {first + int(steps[0])} was expected"
        )
