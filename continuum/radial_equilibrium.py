"""Lipid profiles around one fixed protein: stationarity of the free energy (membrane-physics 1.2).

    ln g_i = -u_i + Σ_j n_j (c_ij * h_j),  h = g - 1

On a radial grid the convolution with a Gaussian is exact up to quadrature,
(exp(-r²/2s²) * f)(r) = ∫ 2π r' exp(-(r² + r'²) / 2s²) I₀(r r' / s²) f(r') dr'.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import ive

from continuum.correlation import repulsion_matrix
from continuum.parameters import Correlation, Lipids, Model, RadialPotentials

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPACING_NM = 0.05
EXTENT_NM = 16.0  # 5 nm beyond the potentials, where profiles are 1 within 1e-6
_TOLERANCE_KT = 1e-10
_ENOUGH_KT = 1e-3 * _TOLERANCE_KT  # no step of Newton's method is worth solving further
_NEWTON_STEPS = 60
_LEAST_STRENGTH = 1e-13  # of the strongest mode: below it they are rounding
_REMEMBERED = 64  # profiles, of 20 to 40 kB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RadialPart:
    """One Gaussian of c_ij: A_ij times a kernel of few modes, K(r, r') = Σ_m λ_m q_m(r) q_m(r')."""

    amplitude: Array  # (S, S)
    range_nm: float
    strength: Array  # (m,)    λ
    modes: Array  # (n, m)  q


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RadialCorrelation:
    """The operator h -> Σ_j n_j c_ij * h_j on radial profiles, h = 0 beyond the grid."""

    radii_nm: Array  # (n,)       0, dr, 2 dr, ...
    weight: Array  # (n,)       nm², 2π r dr as a quadrature
    density: Array  # (S,)       nm⁻²
    parts: tuple[RadialPart, ...]

    def apply(self, h: Array) -> Array:
        """(S, n) -> (S, n), kT."""
        return self.field_of(self.density[:, None] * self.weight * h)

    def field_of(self, lipids: Array) -> Array:
        """kT (S, n) that lipids in excess, n h 2π r dr (S, n), cause."""
        field = np.zeros_like(lipids)
        for part in self.parts:
            field += ((part.amplitude @ (lipids @ part.modes)) * part.strength) @ part.modes.T
        return field

    def among(self, free: Mask) -> "RadialCorrelation":
        """The operator of the marked species alone."""
        return replace(
            self,
            density=self.density[free],
            parts=tuple(
                replace(part, amplitude=part.amplitude[np.ix_(free, free)]) for part in self.parts
            ),
        )


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
        _radial_part(coupling.matrix, coupling.range_nm, radii)
        for coupling in correlation.couplings
    ]
    if correlation.repulsion is not None:
        matrix = -repulsion_matrix(lipids, correlation.repulsion.strength)
        parts.append(_radial_part(matrix, correlation.repulsion.range_nm, radii))
    return RadialCorrelation(
        radii_nm=radii, weight=weight, density=lipids.bulk_density, parts=tuple(parts)
    )


def _radial_part(amplitude: Array, range_nm: float, radii_nm: Array) -> RadialPart:
    """A smooth kernel has few modes that matter: some 50 of 161 for 0.8 nm on 16 nm."""
    strength, modes = np.linalg.eigh(gaussian_kernel(radii_nm, radii_nm, range_nm))
    kept = np.abs(strength) > _LEAST_STRENGTH * np.abs(strength).max()
    return RadialPart(
        amplitude=amplitude,
        range_nm=range_nm,
        strength=strength[kept],
        modes=np.ascontiguousarray(modes[:, kept]),
    )


def gaussian_kernel(radii_nm: Array, source_radii_nm: Array, range_nm: float) -> Array:
    """Angular mean of exp(-|r - r'|² / 2 range²) over circles, (radii, source radii)."""
    r, source = radii_nm[:, None] / range_nm, source_radii_nm[None, :] / range_nm
    return np.asarray(np.exp(-0.5 * np.square(r - source)) * ive(0, r * source))


def equilibrium_profiles(
    operator: RadialCorrelation,
    u: Array,
    *,
    held: Mask | None = None,
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
    operator: RadialCorrelation, u: Array, held: Mask | None, held_g: Array | None
) -> Array:
    """What held species cause is a potential to the others."""
    if held is None or held_g is None:
        return np.exp(_log_profiles(operator, u))
    g = np.where(held[:, None], held_g, 1.0)
    if not held.all():
        felt = u - operator.apply(g - 1.0)
        g[~held] = np.exp(_log_profiles(_among(operator, held.tobytes()), felt[~held]))
    return g


@lru_cache(maxsize=_REMEMBERED)
def _among(operator: RadialCorrelation, held: bytes) -> RadialCorrelation:
    return operator.among(~np.frombuffer(held, dtype=np.bool_))


def _log_profiles(operator: RadialCorrelation, u: Array) -> Array:
    """ln g (S, n) by Newton's method from g = 1."""

    def residual(log_g: Array) -> Array:
        return log_g + u - operator.apply(np.expm1(np.minimum(log_g, 50.0)))

    log_g = np.zeros_like(u)
    error = residual(log_g)
    size = float(np.max(np.abs(error)))
    for _ in range(_NEWTON_STEPS):
        if size < _TOLERANCE_KT:
            return log_g
        tolerance = max(0.01 * min(1.0, size), _ENOUGH_KT / size)
        step = _newton_step(operator, log_g, error, tolerance)
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
    return log_g


def _newton_step(
    operator: RadialCorrelation, log_g: Array, error: Array, tolerance: float
) -> Array:
    """Solve (1 - C n g) x = -error; with S = (weight n g)^½ the matrix 1 - S c S is symmetric.

    It is preconditioned by its inverse at g = 1, so that only what the protein changes is left.
    """
    scale = _bulk_scale(operator) * np.exp(0.5 * log_g)

    def apply(x: Array) -> Array:
        field = x.reshape(scale.shape)
        return np.asarray((field - scale * operator.field_of(scale * field)).ravel())

    shape = (scale.size, scale.size)
    solution, _ = cg(
        LinearOperator(shape, matvec=apply, dtype=np.float64),
        -(scale * error).ravel(),
        rtol=tolerance,
        maxiter=500,
        M=LinearOperator(shape, matvec=_bulk_response(operator).apply, dtype=np.float64),
    )
    # from the scaled solution back through the equation, which never divides by a tiny scale
    return np.asarray(operator.field_of(scale * solution.reshape(scale.shape)) - error)


def _bulk_scale(operator: RadialCorrelation) -> Array:
    return np.sqrt(operator.weight * operator.density[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _BulkResponse:
    """(1 - S c S)⁻¹ at g = 1, nearly: convolutions with Gaussians share their modes but for the end
    of the grid, and for each mode there is one matrix between species."""

    modes: Array  # (n, m)
    excess: Array  # (m, S, S)  the inverse of each mode, less 1

    def apply(self, x: Array) -> Array:
        """(S n,) -> (S n,)."""
        field = x.reshape(-1, len(self.modes))
        response = self.excess @ (field @ self.modes).T[:, :, None]
        return np.asarray((field + response[:, :, 0].T @ self.modes.T).ravel())


@lru_cache(maxsize=_REMEMBERED)
def _bulk_response(operator: RadialCorrelation) -> _BulkResponse:
    species, points = len(operator.density), len(operator.weight)
    if not operator.parts:
        return _BulkResponse(modes=np.zeros((points, 0)), excess=np.zeros((0, species, species)))
    root_weight = np.sqrt(operator.weight)[:, None]
    root_density = np.sqrt(operator.density)
    narrowest = min(operator.parts, key=lambda part: part.range_nm)
    modes, _, _ = np.linalg.svd(
        root_weight * narrowest.modes * np.sqrt(np.abs(narrowest.strength)), full_matrices=False
    )
    modes = np.ascontiguousarray(modes)
    matrices = np.tile(np.eye(species), (modes.shape[1], 1, 1))
    for part in operator.parts:
        of_mode = np.square(modes.T @ (root_weight * part.modes)) @ part.strength
        amplitude = root_density[:, None] * part.amplitude * root_density
        matrices -= of_mode[:, None, None] * amplitude
    return _BulkResponse(modes=modes, excess=np.linalg.inv(matrices) - np.eye(species))


def potential_on(radii_nm: Array, potentials: RadialPotentials, state: int) -> Array:
    """u of one bead state on other radii, (S, n), by clamped cubic splines; 0 beyond the cutoff."""
    inside = np.minimum(radii_nm, potentials.radii_nm[-1])
    spline = _spline_matrix(potentials.radii_nm.tobytes(), inside.tobytes())
    return np.where(radii_nm < potentials.cutoff_nm, potentials.u[state] @ spline, 0.0)


@lru_cache(maxsize=4)
def _spline_matrix(table_nm: bytes, radii_nm: bytes) -> Array:
    """What each entry of a table adds at each radius, (entries, n): the same for all tables."""
    table = np.frombuffer(table_nm)
    spline = CubicSpline(table, np.eye(len(table)), axis=1, bc_type="clamped")
    return np.asarray(spline(np.frombuffer(radii_nm)))


def protein_profiles(model: Model) -> tuple[Array, Array]:
    """Radii (n,) nm and g (states, S, n) around one protein of each bead state of a model."""
    operator = radial_correlation(model.lipids, model.correlation)
    profiles = [
        equilibrium_profiles(operator, potential_on(operator.radii_nm, model.potentials, state))
        for state in range(len(model.proteins.states))
    ]
    shape = (len(profiles), model.lipids.count, operator.radii_nm.size)
    return operator.radii_nm, np.array(profiles).reshape(shape)
