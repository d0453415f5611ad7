"""What linear theory expects of a patch that follows its protein: how its composition is forgotten.

Fluctuations n(k) of the lipids have the covariance Σ(k) and decay as exp(-A(k) s)
(`continuum.correlation`); the patch moves with a protein of diffusivity D. For mean concentrations,
averages over the nodes of the patch with the window W(k),

    C(s) = ∫ W tr(exp(-A s) Σ) exp(-D k² s) dk / ∫ W tr Σ dk,

and of all nodes on their own the same without W. Proteins themselves, which lipids gather around,
are no part of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.decorrelation import (
    PATCH_SIDE_NM,
    distance_curve,
    lags,
    rise_with_interval,
)
from campaign.analysis.histories import Histories
from continuum.correlation import density_covariance, relaxation_matrix
from continuum.parameters import Model
from ml.patch_set import NODES

Array = NDArray[np.float64]

_WAVENUMBERS, _DIRECTIONS = 240, 32
_BEYOND = 4.0  # the noise is filtered by exp(-k² range²), and nothing is left at 4 / range


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompositionInTime:
    """Mean concentrations of histories against linear theory: shares of the plateau at each lag."""

    lag_us: Array
    measured: Array  # of dμ²
    low: Array  # bounds of the 95 % interval
    high: Array
    theory: Array
    nodes_us: float  # when theory has each node's own density at 1 - 1/e

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {**arrays, "nodes_us": self.nodes_us, "largest_difference": self.largest_difference}

    @property
    def largest_difference(self) -> float:
        """Of theory from what is measured, a share of the plateau, up to 2 µs."""
        near = self.lag_us <= max(2.0, self.lag_us[0])
        return float(np.abs(self.theory - self.measured)[near].max())


_ARRAYS = ("lag_us", "measured", "low", "high", "theory")


def composition_in_time(
    model: Model, histories: Histories, *, resamples: int, threads: int
) -> CompositionInTime:
    """What is measured and what is expected, at some eight lags a decade."""
    frames = len(histories.mean_density)
    curve = distance_curve(
        histories.mean_density, histories.interval_us, lags(frames, dense=8, decades=8),
        threads=threads,
    )  # fmt: skip
    measured, low, high = rise_with_interval(curve, resamples=resamples)
    diffusivity = np.array([state.diffusivity_nm2_per_us for state in model.proteins.states])
    mean_diffusivity = float(diffusivity[histories.state].mean())
    fine_us = np.geomspace(1e-3, 1e3, 400)
    nodes = rise_of_nodes(model, fine_us, mean_diffusivity)
    return CompositionInTime(
        lag_us=curve.lag_us, measured=measured, low=low, high=high,
        theory=rise_of_means(model, curve.lag_us, mean_diffusivity),
        nodes_us=float(np.interp(1 - np.exp(-1), nodes, fine_us)),
    )  # fmt: skip


def rise_of_means(model: Model, lag_us: Array, diffusivity_nm2_per_us: float) -> Array:
    """1 - C of the mean concentrations at each lag, (n,)."""
    k = _wavenumbers(model)
    turned = (np.arange(_DIRECTIONS) + 0.5) / _DIRECTIONS * np.pi / 2
    window = _window(np.outer(k, np.cos(turned))) * _window(np.outer(k, np.sin(turned)))
    return _rise(model, k, window.mean(axis=1), lag_us, diffusivity_nm2_per_us)


def rise_of_nodes(model: Model, lag_us: Array, diffusivity_nm2_per_us: float) -> Array:
    """1 - C of the densities themselves, node by node, at each lag, (n,)."""
    k = _wavenumbers(model)
    return _rise(model, k, np.ones_like(k), lag_us, diffusivity_nm2_per_us)


def _wavenumbers(model: Model) -> Array:
    """Midpoints of intervals that widen with k: what lasts is at small k."""
    last = _BEYOND / model.numerics.noise_range_nm
    return np.asarray(last * np.square((np.arange(_WAVENUMBERS) + 0.5) / _WAVENUMBERS))


def _window(k: Array) -> Array:
    """Squared transform of the mean over a row of nodes; 1 at k = 0."""
    half = k * PATCH_SIDE_NM / (NODES - 1) / 2
    return np.asarray(np.square(np.sin(NODES * half) / (NODES * np.sin(half))))


def _rise(model: Model, k: Array, weight: Array, lag_us: Array, diffusivity: float) -> Array:
    decay, modes = np.linalg.eig(relaxation_matrix(model.lipids, model.correlation, k))
    covariance = density_covariance(model.lipids, model.correlation, k, 1.0,
                                    model.numerics.noise_range_nm)  # fmt: skip
    # tr(V e^-λs V⁻¹ Σ) = Σ_m e^-λs (V⁻¹ Σ V)_mm
    shares = np.einsum("kmm->km", np.linalg.solve(modes, covariance @ modes)).real
    rate = decay.real + diffusivity * np.square(k)[:, None]
    interval = np.sqrt(k)  # dk, but for a factor
    power = (weight * k * interval)[:, None] * shares
    kept = np.array([(power * np.exp(-rate * lag)).sum() for lag in lag_us])
    return np.asarray(1 - kept / power.sum())
