"""Lipid profiles around one fixed protein: stationarity of the free energy (membrane-physics 1.2).

    ln g_i = -u_i + Σ_j n_j (c_ij * h_j),  h = g - 1

On a radial grid the convolution with a Gaussian is exact up to quadrature,
(exp(-r²/2s²) * f)(r) = ∫ 2π r' exp(-(r² + r'²) / 2s²) I₀(r r' / s²) f(r') dr'.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import ive

from continuum.correlation import repulsion_matrix
from continuum.parameters import Correlation, Lipids, Model, RadialPotentials

Array = NDArray[np.float64]

SPACING_NM = 0.05
EXTENT_NM = 16.0  # 5 nm beyond the potentials, where profiles are 1 within 1e-6
_TOLERANCE_KT = 1e-10
_NEWTON_STEPS = 60
_REMEMBERED = 64  # profiles, of 20 to 40 kB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RadialCorrelation:
    """The operator h -> Σ_j n_j c_ij * h_j on radial profiles, h = 0 beyond the grid."""

    radii_nm: Array  # (n,)       0, dr, 2 dr, ...
    weight: Array  # (n,)       nm², 2π r dr as a quadrature
    density: Array  # (S,)       nm⁻²
    parts: tuple[tuple[Array, Array], ...]  # pairs of (S, S) amplitudes and (n, n) kernels

    def apply(self, h: Array) -> Array:
        """(S, n) -> (S, n), kT."""
        excess = self.density[:, None] * self.weight * h
        return sum((matrix @ excess) @ kernel for matrix, kernel in self.parts) + 0.0 * h


def radial_correlation(
    lipids: Lipids,
    correlation: Correlation,
    spacing_nm: float = SPACING_NM,
    extent_nm: float = EXTENT_NM,
) -> RadialCorrelation:
    """Tabulate c_ij on a radial grid.

    Raises ValueError where the spacing is wider than half the narrowest Gaussian.
    """
    narrowest = min(correlation.ranges_nm, default=np.inf)
    if not 0 < spacing_nm <= 0.5 * narrowest:
        raise ValueError(f"spacing_nm must be > 0 and <= {0.5 * narrowest}, got {spacing_nm}")
    radii = np.arange(round(extent_nm / spacing_nm) + 1, dtype=np.float64) * spacing_nm
    weight = 2.0 * np.pi * radii * spacing_nm
    # Euler-Maclaurin: the integrand r f(r) has slope f(0) at the origin, worth dr²/12 f(0)
    weight[0] = 2.0 * np.pi * spacing_nm**2 / 12.0
    parts = [
        (coupling.matrix, gaussian_kernel(radii, radii, coupling.range_nm))
        for coupling in correlation.couplings
    ]
    if correlation.repulsion is not None:
        matrix = -repulsion_matrix(lipids, correlation.repulsion.strength)
        parts.append((matrix, gaussian_kernel(radii, radii, correlation.repulsion.range_nm)))
    return RadialCorrelation(
        radii_nm=radii, weight=weight, density=lipids.bulk_density, parts=tuple(parts)
    )


def gaussian_kernel(radii_nm: Array, source_radii_nm: Array, range_nm: float) -> Array:
    """Angular mean of exp(-|r - r'|² / 2 range²) over circles, (radii, source radii)."""
    r, source = radii_nm[:, None] / range_nm, source_radii_nm[None, :] / range_nm
    return np.asarray(np.exp(-0.5 * np.square(r - source)) * ive(0, r * source))


def equilibrium_profiles(
    operator: RadialCorrelation,
    u: Array,
    *,
    held: NDArray[np.bool_] | None = None,
    held_g: Array | None = None,
) -> Array:
    """g_i(r) (S, n) in the potentials u (S, n) kT, residual below 1e-10 kT.

    Species marked in `held` (S,) keep the profiles `held_g` (S, n) and the others respond to them.
    Where none are held, what was found for the last potentials is remembered: feedback asks for
    most of its profiles several times. Raises ValueError where Newton's method finds no
    equilibrium.
    """
    if held is None and held_g is None:
        return _remembered(operator, u.shape, u.astype(np.float64).tobytes()).copy()
    return _solved(operator, u, held, held_g)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(operator: RadialCorrelation, shape: tuple[int, ...], u: bytes) -> Array:
    return _solved(operator, np.frombuffer(u).reshape(shape), None, None)


def _solved(
    operator: RadialCorrelation,
    u: Array,
    held: NDArray[np.bool_] | None,
    held_g: Array | None,
) -> Array:
    """Newton's method from g = 1."""
    free = np.ones(len(u), dtype=np.bool_) if held is None else ~held
    log_g = np.zeros_like(u)
    fixed_h = np.zeros_like(u)
    if held_g is not None:
        fixed_h[~free] = held_g[~free] - 1.0
    if not free.any():
        return 1.0 + fixed_h

    def residual(log_g: Array) -> Array:
        h = np.where(free[:, None], np.expm1(np.minimum(log_g, 50.0)), fixed_h)
        return np.where(free[:, None], log_g + u - operator.apply(h), 0.0)

    error = residual(log_g)
    size = float(np.max(np.abs(error)))
    for _ in range(_NEWTON_STEPS):
        if size < _TOLERANCE_KT:
            break
        step = _newton_step(operator, log_g, error, free)
        fraction = min(1.0, 2.0 / max(float(np.max(np.abs(step))), 1e-300))
        previous_size = size
        while True:
            trial = log_g + fraction * step
            error = residual(trial)
            size = float(np.max(np.abs(error)))
            if size < (1.0 - 0.1 * fraction) * previous_size or fraction < 1e-4:
                break
            fraction *= 0.5
        log_g = trial
    if not size < _TOLERANCE_KT:
        raise ValueError(
            f"no equilibrium profile found: the residual must fall below {_TOLERANCE_KT} kT, "
            f"it stays at {size:.2g} kT"
        )
    return np.where(free[:, None], np.exp(log_g), 1.0 + fixed_h)


def _newton_step(
    operator: RadialCorrelation, log_g: Array, error: Array, free: NDArray[np.bool_]
) -> Array:
    """Solve (1 - C n g) x = -error; with S = (weight n g)^½ the matrix 1 - S c S is symmetric."""
    scale = np.sqrt(operator.weight * operator.density[:, None] * np.exp(log_g))
    scale = np.where(free[:, None], scale, 0.0)
    to_h = scale / (operator.weight * operator.density[:, None])

    def apply(x: Array) -> Array:
        field = x.reshape(scale.shape)
        return np.asarray((field - scale * operator.apply(to_h * field)).ravel())

    matrix = LinearOperator((scale.size, scale.size), matvec=apply, dtype=np.float64)
    solution, _ = cg(matrix, -(scale * error).ravel(), rtol=1e-9, maxiter=500)
    # from the scaled solution back through the equation, which never divides by a tiny scale
    step = -error + operator.apply(to_h * solution.reshape(scale.shape))
    return np.where(free[:, None], step, 0.0)


def potential_on(radii_nm: Array, potentials: RadialPotentials, state: int) -> Array:
    """u of one bead state on other radii, (S, n), by clamped cubic splines; 0 beyond the cutoff."""
    inside = np.minimum(radii_nm, potentials.radii_nm[-1])
    spline = CubicSpline(potentials.radii_nm, potentials.u[state], axis=1, bc_type="clamped")
    return np.where(radii_nm < potentials.cutoff_nm, spline(inside), 0.0)


def protein_profiles(model: Model) -> tuple[Array, Array]:
    """Radii (n,) nm and g (states, S, n) around one protein of each bead state of a model."""
    operator = radial_correlation(model.lipids, model.correlation)
    profiles = [
        equilibrium_profiles(operator, potential_on(operator.radii_nm, model.potentials, state))
        for state in range(len(model.proteins.states))
    ]
    shape = (len(profiles), model.lipids.count, operator.radii_nm.size)
    return operator.radii_nm, np.array(profiles).reshape(shape)
