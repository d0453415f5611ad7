"""The largest stable time step, from the linear theory of the scheme that is really run.

One step maps small plane waves of (n_i(t), V_i(t - dt), ψ(t), ρ(t - dt)) linearly onto those one
step later, wavenumber by wavenumber; the step is stable where no eigenvalue of that map exceeds 1.
Where c_ij is thermodynamically stable the limit lies far beyond the explicit one
(`correlation.explicit_step_limit_us`), because sweeps are unconditionally stable and the pressure
is implicit; what remains is the extrapolation of the smooth couplings.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.lipid_interactions import coarsening_factor
from continuum.parameters import Correlation, Lipids
from continuum.pressure_relaxation import pressure_relaxation

Array = NDArray[Any]

TOLERANCE = 1e-9
_LONGEST_STEP_US = 1.0


def amplification(
    lipids: Lipids, correlation: Correlation, spacing_nm: float, dt_us: float, k: Array
) -> Array:
    """Spectral radius of one step for each wavenumber of `k` (nm⁻¹)."""
    count = lipids.count
    bulk, weight = lipids.bulk_density, lipids.area_weight
    leaflets = np.stack([lipids.leaflet == 0, lipids.leaflet == 1]).astype(float)  # (2, S)
    decay = np.exp(-lipids.diffusivity * k[:, None] ** 2 * dt_us)  # (k, S)
    smooth = np.zeros((len(k), count, count))
    for coupling in correlation.couplings:
        s = coupling.range_nm
        gaussian = 2 * math.pi * s**2 * np.exp(-0.5 * (k * s) ** 2)
        smooth -= gaussian[:, None, None] * coupling.matrix
    factor = coarsening_factor(correlation, spacing_nm)
    pressure = pressure_relaxation(lipids, correlation.repulsion, spacing_nm, factor, dt_us)
    relaxation, excess = pressure.relaxation(k), pressure.pressure_per_crowding(k)  # (k, 2)
    ahead = pressure.decay(k)  # (k,)
    crowding = leaflets * weight  # (2, S)   ρ = crowding n

    # x = (n, V(t - dt), ψ, ρ(t - dt)); V(t) = smooth n.
    size = 2 * count + 4
    n, v = slice(0, count), slice(count, 2 * count)
    psi, rho = slice(2 * count, 2 * count + 2), slice(2 * count + 2, size)
    matrix = np.zeros((len(k), size, size))
    answer = relaxation * excess  # (k, 2)
    matrix[:, psi, n] = (answer * (1 + ahead[:, None]))[:, :, None] * crowding
    matrix[:, psi, psi] = (1 - relaxation)[:, :, None] * np.eye(2)
    matrix[:, psi, rho] = -(answer * ahead[:, None])[:, :, None] * np.eye(2)
    matrix[:, v, n] = smooth
    matrix[:, rho, n] = crowding
    response = -(1 - decay) * bulk  # (k, S)   of n to a frozen potential
    matrix[:, n, n] = decay[:, :, None] * np.eye(count)
    matrix[:, n, n] += response[:, :, None] * 1.5 * smooth
    matrix[:, n, v] = response[:, :, None] * -0.5 * np.eye(count)
    on_lipids = (leaflets * weight).T  # (S, 2)   potential w_i ψ
    matrix[:, n, :] += response[:, :, None] * (on_lipids @ matrix[:, psi, :])
    radius: Array = np.abs(np.linalg.eigvals(matrix)).max(axis=1)
    return radius


def wavenumbers(spacing_nm: float, count: int = 96) -> Array:
    """Wavenumbers up to the corner of the grid's Brillouin zone, without 0."""
    return np.linspace(0.0, math.pi * math.sqrt(2) / spacing_nm, count + 1)[1:]


def stable_step_us(lipids: Lipids, correlation: Correlation, spacing_nm: float) -> float:
    """Largest stable step to 1 %; infinity where every step up to 1 µs is stable."""
    k = wavenumbers(spacing_nm)

    def stable(dt_us: float) -> bool:
        radius = amplification(lipids, correlation, spacing_nm, dt_us, k)
        return bool(radius.max() <= 1 + TOLERANCE)

    steps = np.geomspace(1e-4, _LONGEST_STEP_US, 41)
    unstable = next((i for i, step in enumerate(steps) if not stable(float(step))), None)
    if unstable is None:
        return math.inf
    if unstable == 0:
        return 0.0
    low, high = float(steps[unstable - 1]), float(steps[unstable])
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def check_step(lipids: Lipids, correlation: Correlation, spacing_nm: float, dt_us: float) -> None:
    """Raise ValueError, with the limit, where `dt_us` lies above it."""
    k = wavenumbers(spacing_nm)
    radius = amplification(lipids, correlation, spacing_nm, dt_us, k)
    if radius.max() <= 1 + TOLERANCE:
        return
    limit_us = stable_step_us(lipids, correlation, spacing_nm)
    worst = int(radius.argmax())
    raise ValueError(
        f"numerics.time_step_us must be at most {limit_us:.4g}, the stability limit of these"
        f" interactions, got {dt_us:.4g} (a wave of {k[worst]:.3g} nm⁻¹ would grow by"
        f" {radius[worst]:.3g} a step)"
    )
