"""From lipids counted amid several proteins to those a lone protein would have had around it.

The inversion of membrane-physics 4 is for one protein in an infinite membrane; in a patch, the
lipids that neighbours gather are counted too, and taken as the protein's own they would deepen its
potentials without end. Under Kirkwood's superposition, g(r) = Π_b g_b(|r - R_b|), a ring around a
protein holds K times what it would without neighbours,

    K_i(r) = 1/2π ∮ Π_{b: others} g_{s(b), i}(|r - R_b|) dθ,

which present potentials tell. Exact when they are right and superposition holds; the loop of
feedback closes in on that point.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from campaign.molecular_dynamics.results import BINS, MdResult, Surroundings
from continuum.compilation import borrowing_kernel
from continuum.potential_inversion import BIN_NM, shell_areas

Array = NDArray[np.float64]

RING_SPACING_NM = 0.1
ARC_NM = 0.4  # between two points on a ring
TABLE_NM = 0.05  # between two entries of the profiles that rings are summed over
SAME_PLACE_NM = 1.5
OUTER_NM = 8.0  # beyond it, the number of lipids tells the patch's density


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoneProfiles:
    """Profiles of the L inner lipids around a lone protein; g = 1 beyond the last radius."""

    radii_nm: Array  # (n,)   0, dr, 2 dr, ...
    g: Array  # (states, L, n)

    @property
    def at_bins(self) -> Array:
        """g at the middle of each bin of counts, (states, L, bins)."""
        spline = CubicSpline(self.radii_nm, self.g, axis=2)
        return np.asarray(np.maximum(spline((np.arange(BINS) + 0.5) * BIN_NM), 0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """What one simulation tells of lone proteins, as small as it can be kept."""

    frames: int
    effective_frames: float
    shape: tuple[int, ...]  # of the counts of all states
    surroundings: Surroundings
    counts: Mapping[int, NDArray[Any]]  # (L, bins) of each state whose counts are its own

    @classmethod
    def of(cls, result: MdResult) -> "Observation":
        return cls(
            frames=result.frames,
            effective_frames=result.effective_frames,
            shape=result.counts.shape,
            surroundings=result.surroundings,
            counts={state: _packed(result.counts[state]) for state in tellable_states(result)},
        )


@dataclass(slots=True, kw_only=True, eq=False)
class LoneCounts:
    """Weighted counts and what neighbours made of them, summed over simulations, in place."""

    profiles: LoneProfiles
    counts: Array  # (states, L, bins)  in units of independent frames
    frames: Array  # (states,)  weighted independent frames
    squares: Array  # (states,)  Σ weight² frames, for the frames that the weights leave
    crowded: Array  # (states, rings, L)  Σ frames × density × K
    plain: Array  # (states, L)  Σ frames × density

    @classmethod
    def none(cls, profiles: LoneProfiles) -> "LoneCounts":
        states, lipids, _ = profiles.g.shape
        return cls(
            profiles=profiles,
            counts=np.zeros((states, lipids, BINS)),
            frames=np.zeros(states),
            squares=np.zeros(states),
            crowded=np.zeros((states, len(_rings().radii_nm), lipids)),
            plain=np.zeros((states, lipids)),
        )

    def add_all(self, observations: Iterable[tuple[Observation, float]]) -> None:
        """Add observations with their weights; ValueError for counts of another shape."""
        outer = round(OUTER_NM / BIN_NM)
        expected = (shell_areas(BINS) * self.profiles.at_bins)[:, :, outer:]
        of_rings = np.swapaxes(expected @ _rings().to_bins[outer:], 1, 2)  # (states, rings, L)
        for seen, weight in observations:
            if seen.shape != self.counts.shape:
                raise ValueError(f"counts must be of shape {self.counts.shape}, got {seen.shape}")
            per_frame = seen.effective_frames / seen.frames
            for state in sorted(seen.counts):
                crowding = _ring_means(seen.surroundings, state, self.profiles)
                beads = max(1, int((counted_states(seen.surroundings) == state).sum()))
                frames = weight * seen.effective_frames * beads
                counts = weight * per_frame * seen.counts[state]
                unit = (of_rings[state] * crowding).sum(axis=0)
                density = counts[:, outer:].sum(axis=1) / (frames * unit)
                self.counts[state] += counts
                self.frames[state] += frames
                self.squares[state] += weight * frames
                self.crowded[state] += frames * density * crowding
                self.plain[state] += frames * density

    def add(self, other: "LoneCounts") -> None:
        """Add the sums of other simulations, of the same profiles."""
        for name in ("counts", "frames", "squares", "crowded", "plain"):
            getattr(self, name)[...] += getattr(other, name)

    def alone(self) -> Array:
        """Counts (states, L, bins) as if every protein had been on its own."""
        crowded = np.swapaxes(_rings().to_bins @ self.crowded, 1, 2)
        crowding = np.ones_like(crowded)
        known = np.broadcast_to(self.plain[:, :, None] > 0, crowding.shape) & (crowded > 0)
        np.divide(crowded, self.plain[:, :, None], out=crowding, where=known)
        return np.asarray(self.counts / crowding)

    def independent_frames(self) -> Array:
        """Frames (states,) of equal weight that would tell as much: (Σ w F)² / Σ w² F."""
        return np.divide(
            self.frames**2, self.squares, out=np.zeros_like(self.frames), where=self.squares > 0
        )


def tellable_states(result: MdResult) -> set[int]:
    """States whose counts are their own.

    Lipids cannot tell a bead from another one in the same place, as RAS and RAF of a z complex are:
    what they do is laid to the bead that was counted first. That must hold for all that the bond
    reaches: a few complexes with a stretched bond would share the well between the beads anew in
    each version, and the potentials of both would drift along what only their sum fixes.
    """
    states = set(np.flatnonzero(result.counts.any(axis=(1, 2))).tolist())
    around = result.surroundings
    for second, bead in enumerate(around.counted.tolist()):
        for first in around.counted[:second].tolist():
            away = around.bead_position_nm[bead] - around.bead_position_nm[first]
            away -= around.box_nm * np.rint(away / around.box_nm)
            if np.hypot(*away) < SAME_PLACE_NM:
                states.discard(int(around.bead_state[bead]))
    return states


def counted_states(around: Surroundings) -> NDArray[np.int8]:
    """States of the beads whose lipids were counted."""
    return np.asarray(around.bead_state[around.counted])


def ring_crowding(around: Surroundings, state: int, profiles: LoneProfiles) -> Array:
    """K_i at each bin of counts, (L, bins), mean over the counted beads of this state."""
    return np.asarray((_rings().to_bins @ _ring_means(around, state, profiles)).T)


def _packed(counts: Array) -> NDArray[Any]:
    """The same numbers in the smallest type that holds them exactly."""
    whole = bool((counts == np.rint(counts)).all()) and counts.max() < 2**32
    return counts.astype(np.min_scalar_type(int(counts.max()))) if whole else counts.copy()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rings:
    """Rings around a protein, the points on them, and how bins lie between rings."""

    radii_nm: Array  # (rings,)
    points_nm: Array  # (points, 2)
    first: NDArray[np.int64]  # (rings + 1,)  of each ring's points
    to_bins: Array  # (bins, rings)  the cubic spline through values on rings, as a matrix


@lru_cache(maxsize=1)
def _rings() -> _Rings:
    rings = round(BINS * BIN_NM / RING_SPACING_NM) + 2
    radii_nm = np.arange(rings, dtype=np.float64) * RING_SPACING_NM
    counts = np.maximum(16, np.ceil(2.0 * np.pi * radii_nm / ARC_NM)).astype(np.int64)
    counts[0] = 1
    first = np.concatenate([[0], np.cumsum(counts)])
    ring = np.repeat(np.arange(rings), counts)
    angle = 2.0 * np.pi * (np.arange(first[-1]) - first[ring]) / counts[ring]
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    spline = CubicSpline(radii_nm, np.eye(rings))
    return _Rings(
        radii_nm=radii_nm,
        points_nm=radii_nm[ring, None] * unit,
        first=first,
        to_bins=spline((np.arange(BINS) + 0.5) * BIN_NM),
    )


@lru_cache(maxsize=2)
def _table(profiles: LoneProfiles) -> Array:
    """g on a fine grid, (states, entries, L)."""
    entries = np.arange(round(profiles.radii_nm[-1] / TABLE_NM) + 1) * TABLE_NM
    g = CubicSpline(profiles.radii_nm, profiles.g, axis=2)(entries)
    return np.ascontiguousarray(np.swapaxes(np.maximum(g, 0.0), 1, 2))


def _ring_means(around: Surroundings, state: int, profiles: LoneProfiles) -> Array:
    """K_i on each ring, (rings, L), mean over the counted beads of this state."""
    rings, lipids = _rings(), profiles.g.shape[1]
    centres = around.counted[counted_states(around) == state]
    if len(around.bead_state) < 2 or len(centres) == 0:
        return np.ones((len(rings.radii_nm), lipids))
    mean = np.zeros((len(rings.radii_nm), lipids))
    for centre in centres.tolist():
        others = np.arange(len(around.bead_state)) != centre
        _add_ring_means(
            mean,
            rings.points_nm,
            rings.first,
            around.bead_position_nm[others] - around.bead_position_nm[centre],
            around.bead_state[others].astype(np.int64),
            _table(profiles),
            TABLE_NM,
            around.box_nm,
            np.empty(len(others)),
            np.empty(lipids),
        )
    return np.asarray(mean / len(centres))


@borrowing_kernel
def _add_ring_means(
    mean: Array,  # (rings, L), added to
    points_nm: Array,  # (points, 2)  on rings around the origin
    first: NDArray[np.int64],  # (rings + 1,)  of each ring's points
    position_nm: Array,  # (B, 2)  of the other beads
    state: NDArray[np.int64],  # (B,)
    g: Array,  # (states, m, L)  at r = 0, dr, ...; 1 beyond
    dr_nm: float,
    box_nm: float,
    away: Array,  # (B,)  scratch: distances in units of dr
    product: Array,  # (L,)  scratch
) -> None:
    """mean[r, i] += mean over a ring around the origin of Π_b g_b."""
    rings, lipids = mean.shape
    beads, last = len(position_nm), g.shape[1] - 1
    for ring in range(rings):
        share = 1.0 / (first[ring + 1] - first[ring])
        for point in range(first[ring], first[ring + 1]):
            for bead in range(beads):
                x = points_nm[point, 0] - position_nm[bead, 0]
                y = points_nm[point, 1] - position_nm[bead, 1]
                x -= box_nm * np.floor(x / box_nm + 0.5)
                y -= box_nm * np.floor(y / box_nm + 0.5)
                away[bead] = np.sqrt(x * x + y * y) / dr_nm
            for lipid in range(lipids):
                product[lipid] = share
            for bead in range(beads):
                entry = int(away[bead])
                if entry >= last:
                    continue
                part = away[bead] - entry
                low, high = g[state[bead], entry], g[state[bead], entry + 1]
                for lipid in range(lipids):
                    product[lipid] *= low[lipid] + part * (high[lipid] - low[lipid])
            for lipid in range(lipids):
                mean[ring, lipid] += product[lipid]
