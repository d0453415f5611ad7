"""Errors of potentials against a hidden truth, in units of what they are about.

The error of a protein state and a lipid is the rms difference of u(r) within 4 nm, each ring
weighted by its area, in units of the depth of the truth's deepest well (that of PAP6) for that
state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campaign.molecular_dynamics.hidden_truth import TruthTables
from continuum.parameters import INNER, Model, RadialPotentials

Array = NDArray[np.float64]

NEAR_NM = 4.0
_SHALLOW = 0.1  # a well less than this part of the deepest is none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recovery:
    """Errors of one parameter version against the truth; S states, L inner lipids."""

    version: int
    state_names: tuple[str, ...]
    lipid_labels: tuple[str, ...]
    error_kt: Array  # (S, L)
    bar_kt: Array  # (S, L)  standard error of u, the same mean over rings; nan where not known
    scale_kt: Array  # (S,)  depth of the deepest well; of states without one, the mean depth
    deepest: int  # the lipid of that well
    frames: Array  # (S,)  independent frames behind the version, without the prior

    @property
    def fraction(self) -> Array:
        """Error in units of the depth, (S, L)."""
        return np.asarray(self.error_kt / self.scale_kt[:, None])

    def summary(self) -> dict[str, object]:
        """Plain values for a report; the mean is over states that were simulated and all lipids."""
        simulated = self.frames > 0
        lipid = self.lipid_labels[self.deepest]
        chosen = self.fraction[simulated]
        bars = self.bar_kt / self.scale_kt[:, None]
        return {
            "version": self.version,
            "mean_error_fraction_of_depth": float(chosen.mean()) if chosen.size else None,
            "worst_error_fraction_of_depth": float(chosen.max()) if chosen.size else None,
            "lipid_of_the_well": lipid,
            "states": {
                name: {
                    "depth_kt": float(self.scale_kt[s]),
                    "independent_frames": float(self.frames[s]),
                    "error_fraction": _by_lipid(self.lipid_labels, self.fraction[s]),
                    "standard_error_fraction": _by_lipid(self.lipid_labels, bars[s]),
                }
                for s, name in enumerate(self.state_names)
            },
        }


def potential_errors_kt(u: Array, truth: TruthTables) -> Array:
    """Area-weighted rms difference within 4 nm, (S, L), of u (S, L, n_r) on the truth's radii."""
    return ring_rms(u - truth.u, truth.u_dr_nm)


def depths_kt(truth: TruthTables) -> tuple[Array, int]:
    """Depth (S,) of the deepest lipid's well, and which lipid that is."""
    wells = -truth.u.min(axis=2)  # (S, L)
    deepest = int(np.unravel_index(np.argmax(wells), wells.shape)[1])
    depth = wells[:, deepest]
    real = depth > _SHALLOW * depth.max()
    return np.where(real, depth, depth[real].mean()), deepest


def recovery_of(
    potentials: RadialPotentials,
    truth: TruthTables,
    model: Model,
    *,
    version: int,
    frames: Mapping[str, float],
    bar_kt: Array | None = None,
) -> Recovery:
    """Errors of some potentials; `frames` by state as the version's provenance has them."""
    inner = model.lipids.leaflet == INNER
    error = potential_errors_kt(potentials.u[:, inner], truth)
    scale, deepest = depths_kt(truth)
    return Recovery(
        version=version,
        state_names=truth.state_names,
        lipid_labels=truth.lipid_labels,
        error_kt=error,
        bar_kt=np.full_like(error, np.nan) if bar_kt is None else bar_kt,
        scale_kt=scale,
        deepest=deepest,
        frames=np.array([frames.get(name, 0.0) for name in truth.state_names]),
    )


def ring_rms(difference: Array, dr_nm: float) -> Array:
    """Root mean square within 4 nm of (..., n_r), rings weighted by area."""
    radii_nm = np.arange(difference.shape[-1]) * dr_nm
    weight = np.where(radii_nm < NEAR_NM, radii_nm, 0.0)
    return np.asarray(np.sqrt((difference**2 @ weight) / weight.sum()))


def _by_lipid(labels: Sequence[str], values: Array) -> dict[str, float | None]:
    return {
        label: float(value) if np.isfinite(value) else None
        for label, value in zip(labels, values.tolist(), strict=True)
    }
