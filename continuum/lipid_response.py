"""When, during a step, lipids feel the proteins: a potential that moves, frozen as lipids see it.

Lipids that relax at a rate ν towards a potential U forget: they end a step of dt where the average

    ∫ w(s) U(t + s dt) ds,   w(s) = z exp(-z (1 - s)) / (1 - exp(-z)),   z = ν dt,   0 <= s <= 1,

would have brought them, and the middle of the step, from which w differs by O(dt), is too early by
up to half a step. A mode of U relaxes at D k² (membrane-physics 1.2, without the excess part); the
k² taken for all of a potential is the mean over the force by which it drives the lipids,

    k² = ∫ |∇²u|² / ∫ |∇u|²,

at which shifting U instead of averaging every mode by itself errs least. Brownian proteins leave no
single position to be right: w is integrated over some moments of their path.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from continuum.parameters import Lipids, RadialPotentials

Array = NDArray[Any]

MOMENTS = 8  # error of Brownian paths falls by a third from 4 to 8, and costs as much again
_STILL = 1e-9  # z of species without potential, for which 0 / 0 would be met


def response_rates(potentials: RadialPotentials, lipids: Lipids) -> Array:
    """D k² of every species (S,) in µs⁻¹, k² over all bead states; 0 where nothing is felt."""
    r = potentials.radii_nm
    curve = CubicSpline(r, potentials.u, axis=2, bc_type=("clamped", "natural"))
    slope, bend = curve(r, 1), curve(r, 2)
    laplacian = bend + np.divide(slope, r, out=bend.copy(), where=r > 0)
    force = (slope**2 * r).sum(axis=(0, 2))
    rate: Array = lipids.diffusivity * np.divide(
        (laplacian**2 * r).sum(axis=(0, 2)), force, out=np.zeros_like(force), where=force > 0
    )
    return rate


def moments(substeps: int) -> Array:
    """Which of the `substeps` + 1 instants of a step to look at, ascending, at most MOMENTS.

    They lie evenly about the middle.
    """
    count = min(MOMENTS, substeps)
    early = np.floor((np.arange((count + 1) // 2) + 0.5) * substeps / count).astype(np.int64)
    chosen: Array = np.unique(np.concatenate([early, substeps - early]))
    return chosen


def response_shares(fraction: Array, decay: Array) -> Array:
    """∫ w over the part of the step that is nearest to each moment, (moments, S); columns sum to 1.

    `fraction` (moments,) of the step ascend in [0, 1], `decay` (S,) is z >= 0.
    """
    z = np.maximum(decay, _STILL)
    border = np.concatenate([[0.0], (fraction[1:] + fraction[:-1]) / 2, [1.0]])[:, None]
    before = np.exp(-z * (1 - border)) * np.expm1(-z * border) / np.expm1(-z)
    shares: Array = np.diff(before, axis=0)
    return shares


def seen(path: Array, decay: Array) -> tuple[Array, Array]:
    """Moments of beads' path through a step and what each weighs, for `ProteinWindows.refresh`.

    `path` (instants, beads, 2) is evenly spaced from the step's beginning to its end; `decay` (S,)
    is the rate times the step.
    """
    substeps = len(path) - 1
    chosen = moments(substeps)
    return path[chosen], response_shares(chosen / substeps, decay)
