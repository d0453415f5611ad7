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

FEWEST_FRAMES = 8  # half of them are the lags that a fit needs


class HistoryError(AnalysisError):
    """A run whose snapshots do not make histories."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histories:
    """Embeddings along time; frames are equally spaced."""

    z: NDArray[np.float32]  # (frames, histories, dimension)
    time_us: NDArray[np.float64]  # (frames,)
    parameter_version: NDArray[np.int64]  # (frames,)
    mean_density: NDArray[np.float32]  # (frames, histories, lipids) nm⁻²
    state: NDArray[np.int8]  # (frames, histories) of the protein followed
    encoder_version: str

    def __post_init__(self) -> None:
        frames = len(self.z)
        if self.z.ndim != 3 or self.time_us.shape != (frames,):
            raise HistoryError(
                f"histories need z (frames, histories, d) and a time per frame, got "
                f"{self.z.shape} and {self.time_us.shape}"
            )
        if not np.isfinite(self.z).all():
            raise HistoryError("embeddings of histories must be finite")

    @property
    def interval_us(self) -> float:
        """Time between frames, µs."""
        return float(self.time_us[1] - self.time_us[0])


def histories_of(snapshots: Iterable[EmbeddedSnapshot], encoder_version: str) -> Histories:
    """The histories of the proteins in successive snapshots (`embed_run` with `proteins_only`).

    Raises HistoryError where there are fewer than FEWEST_FRAMES snapshots, some are missing in
    between, or the proteins change.
    """
    frames: list[NDArray[np.float32]] = []
    means: list[NDArray[np.float32]] = []
    states: list[NDArray[np.int8]] = []
    times_us: list[float] = []
    indices: list[int] = []
    versions: list[int] = []
    slots: NDArray[np.int64] = np.empty(0, np.int64)
    for snapshot in snapshots:
        if not frames:
            slots = snapshot.slot
        if not np.array_equal(snapshot.slot, slots):
            raise HistoryError(
                f"snapshot {snapshot.snapshot_index} has {len(snapshot.slot)} protein patches "
                f"where snapshot {indices[0]} has {len(slots)}, or others; "
                "histories need the same proteins throughout"
            )
        frames.append(snapshot.z)
        means.append(snapshot.mean_density)
        states.append(snapshot.central_state)
        times_us.append(snapshot.time_us)
        indices.append(snapshot.snapshot_index)
        versions.append(snapshot.parameter_version)
    if len(frames) < FEWEST_FRAMES:
        raise HistoryError(
            f"decorrelation needs at least {FEWEST_FRAMES} snapshots, there are {len(frames)}; "
            "distances between patches of one snapshot can still be analysed (`analyse space`)"
        )
    if len(slots) == 0:
        raise HistoryError(
            "the run has no protein patches, so there are no histories to follow; patches without "
            "proteins can still be judged (`analyse metric`, `analyse space`)"
        )
    check_gaps(np.array(indices), np.array(times_us))
    return Histories(
        z=np.stack(frames),
        time_us=np.array(times_us),
        parameter_version=np.array(versions),
        mean_density=np.stack(means),
        state=np.stack(states),
        encoder_version=encoder_version,
    )


def mixed_versions(histories: Histories) -> str:
    """What to say of histories along which parameters change; nothing where they do not."""
    version = histories.parameter_version
    edges = np.concatenate([[0], np.flatnonzero(np.diff(version)) + 1, [len(version)]])
    if len(edges) == 2:
        return ""
    longest = int(np.argmax(np.diff(edges)))
    first, last = int(edges[longest]), int(edges[longest + 1]) - 1
    told = (
        f"histories mix the parameter versions {version.min()} to {version.max()}, so that the "
        "membrane itself changes on the way"
    )
    if last - first + 1 < FEWEST_FRAMES:
        return f"{told}; none lasts {FEWEST_FRAMES} snapshots"
    return (
        f"{told}: --first-us {histories.time_us[first]:g} --last-us {histories.time_us[last]:g} "
        f"keeps the longest stretch of one, {last - first + 1} snapshots of version "
        f"{version[first]}"
    )


def check_gaps(indices: Array, times_us: Array) -> None:
    """Raise HistoryError, naming the first gap and the longest stretch without one, unless
    snapshots are equally spaced."""
    steps = np.diff(indices)
    usual = int(np.median(steps))
    uneven = np.flatnonzero(steps != usual)
    if len(uneven) == 0:
        return
    edges = np.concatenate([[0], uneven + 1, [len(indices)]])
    longest = int(np.argmax(np.diff(edges)))
    first, last = int(edges[longest]), int(edges[longest + 1]) - 1
    before = int(indices[uneven[0]])
    raise HistoryError(
        f"snapshots must be equally spaced; after snapshot {before} the next is "
        f"{int(indices[uneven[0] + 1])} where {before + usual} was expected. The longest stretch "
        f"without a gap, {last - first + 1} snapshots, is --first-us {times_us[first]:g} "
        f"--last-us {times_us[last]:g}"
    )
