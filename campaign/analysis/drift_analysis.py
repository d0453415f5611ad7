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
    embeddings: int  # of which that is the share, drawn at random; its error is binomial
    alarm: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def drift_between(reference: Period, periods: Sequence[Period]) -> list[Drift]:
    """Each period against one half of the reference, drawn at random.

    Of each, at most REFERENCE_PATCHES embeddings are compared, drawn at random; lipids and proteins
    of all patches. The first entry is the other half of the reference, which says what no drift is.
    """
    generator = np.random.Generator(np.random.Philox(key=0))
    order = generator.permutation(len(reference.z))
    half = len(order) // 2
    known, other = (
        Period(
            name=name,
            lipid=reference.lipid[part],
            proteins=reference.proteins[part],
            z=reference.z[part],
        )
        for name, part in (
            (reference.name, order[:half]),
            (f"{reference.name} (other half)", order[half:]),
        )
    )
    detector = DriftDetector(known.z[:REFERENCE_PATCHES])
    found = []
    for each in (other, *periods):
        seen = each.z
        if len(seen) > REFERENCE_PATCHES:
            seen = generator.choice(seen, REFERENCE_PATCHES, replace=False)
        outside = float(detector.outside(seen).mean())
        found.append(
            Drift(
                period=each.name,
                patches=len(each.lipid),
                lipid=shift(known.lipid, each.lipid),
                proteins=shift(known.proteins, each.proteins),
                outside=outside,
                embeddings=len(seen),
                alarm=detector.alarm(outside, len(seen)),
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
