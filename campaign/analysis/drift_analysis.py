"""The drift of a campaign's patches: periods of a run against a reference run (figure 12)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.drift import DriftDetector, Shift, shift
from campaign.analysis.embedding import AnalysisError, EmbeddedSnapshot
from continuum.atomic_file import reading, stored_hdf5

REFERENCE_PATCHES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Period:
    """Protein patches of a stretch of a run."""

    name: str
    lipid: NDArray[np.float32]  # (N,) patch mean, nm⁻²
    proteins: NDArray[np.int64]  # (N,)
    z: NDArray[np.float32]  # (N, d)


def period(name: str, snapshots: Sequence[EmbeddedSnapshot], channel: int) -> Period:
    """One period of all these snapshots' patches; `channel` is the lipid's."""
    return Period(
        name=name,
        lipid=np.concatenate([snapshot.mean_density[:, channel] for snapshot in snapshots]),
        proteins=np.concatenate([snapshot.proteins for snapshot in snapshots]),
        z=np.concatenate([snapshot.z for snapshot in snapshots]),
    )


def periods_of(snapshots: Sequence[EmbeddedSnapshot], count: int, channel: int) -> list[Period]:
    """A run cut into `count` stretches of equally many snapshots.

    Raises AnalysisError where there are fewer snapshots than periods.
    """
    if len(snapshots) < count:
        raise AnalysisError(
            f"{count} periods need as many snapshots, the run has {len(snapshots)}; "
            f"use --periods {max(len(snapshots), 1)}"
        )
    found = []
    for part in np.array_split(np.arange(len(snapshots)), count):
        chosen = [snapshots[i] for i in part]
        found.append(
            period(f"{chosen[0].time_us:.3g} to {chosen[-1].time_us:.3g} µs", chosen, channel)
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What `drift_between` found for one period."""

    period: str
    patches: int
    lipid: Shift
    proteins: Shift
    outside: float  # share of embeddings
    alarm: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def drift_between(reference: Period, periods: Sequence[Period]) -> list[Drift]:
    """Each period against the reference; every second reference patch is kept for its own row.

    The first entry is the reference against itself: its other half, which says what no drift is.
    """
    thin = max(len(reference.z) // (2 * REFERENCE_PATCHES), 1)
    detector = DriftDetector(reference.z[:: 2 * thin])
    other = Period(
        name=f"{reference.name} (other half)",
        lipid=reference.lipid[1::2],
        proteins=reference.proteins[1::2],
        z=reference.z[1 :: 2 * thin],
    )
    found = []
    for each in (other, *periods):
        outside = float(detector.outside(each.z).mean())
        found.append(
            Drift(
                period=each.name,
                patches=len(each.lipid),
                lipid=shift(reference.lipid[::2], each.lipid),
                proteins=shift(reference.proteins[::2], each.proteins),
                outside=outside,
                alarm=detector.alarm(outside, len(each.z)),
            )
        )
    return found


def channel_of(species: Sequence[str], lipid: str) -> int:
    """The channel of a lipid. Raises AnalysisError that names those there are."""
    if lipid not in species:
        raise AnalysisError(f"there is no lipid {lipid!r}; the run has {', '.join(species)}")
    return list(species).index(lipid)


def species_of(path: Path) -> tuple[str, ...]:
    """The channels of a patch file."""
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        return tuple(str(name) for name in file.attrs["species"])
