"""Histories: the embeddings of one protein's patch, snapshot after snapshot.

A post-campaign run follows every RAS at short intervals; each slot of its patch files is one
history (Bhatia et al. 2022, section 3.3.4).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.embedding import AnalysisError, EmbeddedSnapshot

Array = NDArray[Any]


class HistoryError(AnalysisError):
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


def histories_of(snapshots: Iterable[EmbeddedSnapshot], encoder_version: str) -> Histories:
    """The histories of the proteins in successive snapshots (`embed_run` with `proteins_only`).

    Raises HistoryError where fewer than three snapshots exist, snapshots are missing in between, or
    the proteins change.
    """
    taken: list[EmbeddedSnapshot] = []
    for snapshot in snapshots:
        if taken and not np.array_equal(snapshot.slot, taken[0].slot):
            raise HistoryError(
                f"snapshot {snapshot.snapshot_index} has {len(snapshot.slot)} protein patches "
                f"where snapshot {taken[0].snapshot_index} has {len(taken[0].slot)}, or others; "
                "histories need the same proteins throughout"
            )
        taken.append(snapshot)
    if len(taken) < 3:
        raise HistoryError(
            f"decorrelation needs at least 3 snapshots, the run has {len(taken)}; distances "
            "between patches of one snapshot can still be analysed (`analyse space`)"
        )
    if len(taken[0].slot) == 0:
        raise HistoryError("the run has no protein patches, so there are no histories to follow")
    check_gaps(np.array([snapshot.snapshot_index for snapshot in taken]))
    return Histories(
        z=np.stack([snapshot.z for snapshot in taken]),
        time_us=np.array([snapshot.time_us for snapshot in taken]),
        centre_nm=np.stack([snapshot.centre_nm for snapshot in taken]),
        parameter_version=np.array([snapshot.parameter_version for snapshot in taken]),
        encoder_version=encoder_version,
    )


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
