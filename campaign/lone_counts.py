"""From lipids counted amid several proteins to those a lone protein would have had around it.

The inversion of membrane-physics 4 is for one protein in an infinite membrane; in a patch, the
lipids that neighbours gather are counted too, and taken as the protein's own they would deepen its
potentials without end. Under Kirkwood's superposition, g(r) = Π_b g_b(|r - R_b|), a ring around a
protein holds K times what it would without neighbours,

    K_i(r) = 1/2π ∮ Π_{b: others} g_{s(b), i}(|r - R_b|) dθ,

which present potentials tell. Exact when they are right and superposition holds; the loop of
feedback closes in on that point.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from campaign.molecular_dynamics.results import BINS, MdResult, Surroundings
from continuum.compilation import exact_kernel
from continuum.potential_inversion import BIN_NM, shell_areas

Array = NDArray[np.float64]

RING_SPACING_NM = 0.1
ARC_NM = 0.4  # between two points on a ring
SAME_PLACE_NM = 1.0
OUTER_NM = 8.0  # beyond it, the number of lipids tells the patch's density
_LEAST_G = 1e-6


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


@dataclass(slots=True, kw_only=True, eq=False)
class LoneCounts:
    """Weighted counts and what neighbours made of them, summed over simulations, in place."""

    profiles: LoneProfiles
    counts: Array  # (states, L, bins)  in units of independent frames
    frames: Array  # (states,)  weighted independent frames
    squares: Array  # (states,)  Σ weight² frames, for the frames that the weights leave
    crowded: Array  # (states, L, bins)  Σ frames × density × K
    plain: Array  # (states, L)  Σ frames × density

    @classmethod
    def none(cls, profiles: LoneProfiles) -> "LoneCounts":
        states, lipids, _ = profiles.g.shape
        return cls(
            profiles=profiles,
            counts=np.zeros((states, lipids, BINS)),
            frames=np.zeros(states),
            squares=np.zeros(states),
            crowded=np.zeros((states, lipids, BINS)),
            plain=np.zeros((states, lipids)),
        )

    def add_all(self, results: Iterable[tuple[MdResult, float]]) -> None:
        """Add results with their weights; ValueError for counts of another shape."""
        expected = shell_areas(BINS) * self.profiles.at_bins
        outer = round(OUTER_NM / BIN_NM)
        for result, weight in results:
            if result.counts.shape != self.counts.shape:
                raise ValueError(
                    f"counts must be of shape {self.counts.shape}, got {result.counts.shape}"
                )
            per_frame = result.effective_frames / result.frames
            for state in sorted(tellable_states(result)):
                crowding = ring_crowding(result.surroundings, state, self.profiles)
                beads = max(1, int((counted_states(result.surroundings) == state).sum()))
                frames = weight * result.effective_frames * beads
                counts = weight * per_frame * result.counts[state]
                unit = expected[state, :, outer:] * crowding[:, outer:]
                density = counts[:, outer:].sum(axis=1) / (frames * unit.sum(axis=1))
                self.counts[state] += counts
                self.frames[state] += frames
                self.squares[state] += weight * frames
                self.crowded[state] += frames * density[:, None] * crowding
                self.plain[state] += frames * density

    def add(self, other: "LoneCounts") -> None:
        """Add the sums of other simulations, of the same profiles."""
        for name in ("counts", "frames", "squares", "crowded", "plain"):
            getattr(self, name)[...] += getattr(other, name)

    def alone(self) -> Array:
        """Counts (states, L, bins) as if every protein had been on its own."""
        crowding = np.ones_like(self.crowded)
        known = np.broadcast_to(self.plain[:, :, None] > 0, crowding.shape) & (self.crowded > 0)
        np.divide(self.crowded, self.plain[:, :, None], out=crowding, where=known)
        return np.asarray(self.counts / crowding)

    def independent_frames(self) -> Array:
        """Frames (states,) of equal weight that would tell as much: (Σ w F)² / Σ w² F."""
        return np.divide(
            self.frames**2, self.squares, out=np.zeros_like(self.frames), where=self.squares > 0
        )


def tellable_states(result: MdResult) -> set[int]:
    """States whose counts are their own.

    Lipids cannot tell a bead from another one in the same place, as RAS and RAF of a z complex are:
    what they do is laid to the bead that was counted first.
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
    lipids = profiles.g.shape[1]
    centres = around.counted[counted_states(around) == state]
    if len(around.bead_state) < 2 or len(centres) == 0:
        return np.ones((lipids, BINS))
    table = np.log(np.maximum(profiles.g, _LEAST_G))
    rings = round(BINS * BIN_NM / RING_SPACING_NM) + 2
    rings_nm = np.arange(rings, dtype=np.float64) * RING_SPACING_NM
    mean = np.zeros((len(rings_nm), lipids))
    for centre in centres.tolist():
        _add_ring_means(
            mean,
            rings_nm,
            centre,
            around.bead_position_nm,
            around.bead_state.astype(np.int64),
            table,
            float(profiles.radii_nm[1]),
            around.box_nm,
        )
    spline = CubicSpline(rings_nm, mean / len(centres), axis=0)
    return np.asarray(spline((np.arange(BINS) + 0.5) * BIN_NM).T)


@exact_kernel
def _add_ring_means(
    mean: Array,  # (rings, L), added to
    rings_nm: Array,  # (rings,)
    centre: int,
    position: Array,  # (B, 2)  nm
    state: NDArray[np.int64],  # (B,)
    log_g: Array,  # (states, L, m)  at r = 0, dr, ...; 0 beyond
    dr_nm: float,
    box_nm: float,
) -> None:
    """mean[r, i] += mean over a ring around `centre` of Π_b g_b, b every other bead."""
    rings, lipids = mean.shape
    last = log_g.shape[2] - 1
    for ring in range(rings):
        points = max(16, math.ceil(2.0 * math.pi * rings_nm[ring] / ARC_NM))
        if rings_nm[ring] == 0.0:
            points = 1
        for point in range(points):
            angle = 2.0 * math.pi * point / points
            x = position[centre, 0] + rings_nm[ring] * math.cos(angle)
            y = position[centre, 1] + rings_nm[ring] * math.sin(angle)
            total = np.zeros(lipids)
            for bead in range(position.shape[0]):
                if bead == centre:
                    continue
                away_x, away_y = x - position[bead, 0], y - position[bead, 1]
                away_x -= box_nm * math.floor(away_x / box_nm + 0.5)
                away_y -= box_nm * math.floor(away_y / box_nm + 0.5)
                u = math.sqrt(away_x * away_x + away_y * away_y) / dr_nm
                k = int(u)
                if k >= last:
                    continue
                part = u - k
                for lipid in range(lipids):
                    low = log_g[state[bead], lipid, k]
                    total[lipid] += low + part * (log_g[state[bead], lipid, k + 1] - low)
            for lipid in range(lipids):
                mean[ring, lipid] += math.exp(total[lipid]) / points
