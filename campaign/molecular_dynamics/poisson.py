"""Statistical mock: counts of F independent frames per µs, no trajectory (membrane-physics 7.7).

counts[s, i, b] ~ Poisson(F t n_i 2π r dr g*_si(r)),  g* around a lone protein of the hidden truth.
"""

from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from campaign.molecular_dynamics.hidden_truth import TruthTables
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.results import BINS, MdResult
from campaign.molecular_dynamics.settings import PoissonSettings
from continuum.potential_inversion import BIN_NM, shell_areas


class PoissonEngine:
    """Draws the counts of a whole simulation at once."""

    def __init__(self, settings: PoissonSettings, truth: TruthTables) -> None:
        self._frames_per_us = settings.effective_frames_per_us
        self._truth = truth
        centre_nm = (np.arange(BINS) + 0.5) * BIN_NM
        g = CubicSpline(truth.radii_nm, truth.g, axis=2)(centre_nm)
        # (states, L, bins)  counts per frame
        self._per_frame = truth.bulk_density[:, None] * shell_areas(BINS) * np.maximum(g, 0.0)

    def run(self, patch: Patch, seed: int, duration_us: float, workspace: Path) -> MdResult:
        """Counts of the central protein's states; BadInput for a patch of another membrane."""
        self._truth.check(patch)
        rng = np.random.Generator(np.random.Philox(key=seed))
        frames = self._frames_per_us * duration_us
        counts = np.zeros(self._per_frame.shape)
        for bead in self._truth.counted_beads(patch):
            state = int(patch.bead_state[bead])
            counts[state] = rng.poisson(frames * self._per_frame[state])
        return MdResult(
            counts=counts,
            frames=max(1, round(frames)),
            effective_frames=min(frames, max(1.0, round(frames))),
            simulated_us=duration_us,
        )
