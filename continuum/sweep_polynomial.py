"""The polynomial P by which a sweep approximates exp(M), and how to apply it with few products.

M = f (S - w) is the one-dimensional operator of a step (`lipid_sweeps`) with f = D dt / h²: S adds
both neighbours, w = (a_- + a_+) / a, which is 2 on a flat potential and 2 cosh(x / 2) on a slope of
x kT a cell. For a bound W >= 2 of all w,

    P(M) = Σ_k p_k T_k(X),   X = M / 2f + W / 2 = (S + D) / 2,   D = W - w >= 0,   p_k >= 0,

with Chebyshev polynomials T_k and P(0) = P'(0) = P''(0) = 1, so that P agrees with exp to second
order. Two facts follow from p_k >= 0 and W alone:

* Densities stay positive. On a flat potential of W = 2, T_k(S/2) b is the mean of b k cells to
  either side, and U_k(S/2) b a sum of b over cells up to k away: no entry of either is negative.
  T_{k+1} = (S + D) T_k - T_{k-1} is the recursion of T_k(S/2) with the source D T_k, and so

      T_k(X) = T_k(S/2) + Σ_{0<j<k} U_{k-1-j}(S/2) D T_j(X) + U_{k-1}(S/2) D / 2,

  where by induction no entry is negative either.
* No step is unstable. |T_k| <= T_k(W/2) on [-W/2, W/2], hence |P| <= P(0) = 1 for M in
  [-2 f W, 0], and M > -f (2 + max w): this holds even up to w = 2 W - 2.

While the steepness θ, W = 2 cosh θ, is small, a walk of the right variance needs K² > 6 f + 1
products with M, where Euler steps, 1 + M / m, need K > f W. Euler steps are such sums themselves,
which is why some K always serves.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import Chebyshev, chebvander
from numpy.typing import NDArray
from scipy.optimize import linprog

from continuum.parameters import RadialPotentials

Array = NDArray[Any]

LARGEST_ERROR = 0.05  # of P, at wavelengths near the spacing
LEAST_W = 2.1  # leaves slopes of 0.6 kT a cell to lipids where there are no proteins
LARGEST_DEGREE = 128
_SAMPLES = 200


def bead_w(potentials: RadialPotentials, spacing_nm: float, beads: int) -> float:
    """Largest w on a line of cells through `beads` beads in one place, of any state and lipid."""
    if not potentials.u.size:
        return 2.0
    curves = beads * potentials.u.reshape(-1, potentials.u.shape[-1])
    middle = potentials.radii_nm

    def over_own(shift_nm: float) -> Array:
        """a of the cell `shift_nm` away over a."""
        away = np.abs(middle + shift_nm)
        there = np.stack([np.interp(away, middle, curve, right=0.0) for curve in curves])
        ratio: Array = np.exp((curves - there) / 2)
        return ratio

    return float((over_own(-spacing_nm) + over_own(spacing_nm)).max())


def largest_w(potentials: RadialPotentials, spacing_nm: float) -> float:
    """W for these potentials: that of two beads in one place, for beads overlap."""
    return max(LEAST_W, bead_w(potentials, spacing_nm, 2))


def check_steepness(potentials: RadialPotentials, spacing_nm: float, bound: float) -> None:
    """Raise ValueError where even a lone bead is too steep for sweeps made for w <= `bound`."""
    found = bead_w(potentials, spacing_nm, 1)
    if found > bound:
        raise ValueError(
            "protein-lipid potentials are too steep for this run on cells of"
            f" {spacing_nm:.4g} nm: (a_- + a_+) / a of a = exp(-V/2), 2 where they are flat, may"
            f" be at most {bound:.3g}, got {found:.3g}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class SweepPolynomial:
    """P for one D dt / h², as nested stages.

    P(M) = 1 + M Q(M), and Q(M) b = weight * y after `y = b`, and for every row (σ, β) of `stages`
    `y = b + σ y + β M y / fourier`.
    """

    fourier: float  # D dt / h²
    bound: float  # W
    shares: Array  # (K + 1,)   p_k
    stages: Array  # (K - 1, 2)
    weight: float

    @property
    def degree(self) -> int:
        """K, the number of cells over which a sweep reaches."""
        return len(self.stages) + 1

    @property
    def halo_rows(self) -> int:
        """Rows beyond a slab that one step of its own rows depends on: one more for the noise."""
        return self.degree + 1

    def __call__(self, decay: Array) -> Array:
        """P at the eigenvalues -decay of M, by its stages."""
        y = np.ones_like(decay)
        for own, near in self.stages:
            y = 1 + (own - near / self.fourier * decay) * y
        result: Array = 1 - decay * self.weight * y
        return result


@functools.cache
def sweep_polynomial(fourier: float, bound: float) -> SweepPolynomial:
    """P of least degree for D dt / h² = `fourier` and w <= `bound`.

    Raises ValueError where the step is so long that LARGEST_DEGREE does not reach.
    """
    least = max(2, math.ceil(math.sqrt(6 * fourier + 1) - 1e-9))
    for degree in range(least, LARGEST_DEGREE + 1):
        shares = chebyshev_shares(fourier, bound, degree)
        if shares is not None:
            stages, weight = _newton_stages(shares, fourier, bound)
            return SweepPolynomial(fourier, bound, shares, stages, weight)
    raise ValueError(
        f"time_step_us must be shorter: D dt / h² is {fourier:.4g}, for which a sweep would reach"
        f" over more than {LARGEST_DEGREE} cells"
    )


def chebyshev_shares(fourier: float, bound: float, degree: int) -> Array | None:
    """p_0 .. p_K, nearest to exp on the spectrum; None where there are none near it."""
    top = bound / 2
    size = np.cosh(np.arange(degree + 1) * math.acosh(top))  # T_k(W/2)
    basis = [Chebyshev.basis(k) for k in range(degree + 1)]
    slope = [float(t.deriv(1)(top)) for t in basis]
    curvature = [float(t.deriv(2)(top)) if k > 1 else 0.0 for k, t in enumerate(basis)]
    z = fourier * (2 + bound) * np.arange(1, _SAMPLES + 1) / _SAMPLES
    scale = 1 / np.minimum(z, 1.0) ** 2
    terms = chebvander(top - z / (2 * fourier), degree) / size * scale[:, None]
    target, one = np.exp(-z) * scale, np.ones((_SAMPLES, 1))
    moments = np.stack([np.ones(degree + 1), slope / size, curvature / size])
    result = linprog(
        np.append(np.zeros(degree + 1), 1.0),
        A_ub=np.vstack([np.hstack([terms, -one]), np.hstack([-terms, -one])]),
        b_ub=np.concatenate([target, -target]),
        A_eq=np.hstack([moments, np.zeros((3, 1))]),
        b_eq=[1.0, 2 * fourier, 4 * fourier**2],
        bounds=(0, None),
    )
    if not result.success or result.x[-1] > LARGEST_ERROR:
        return None
    shares: Array = np.maximum(result.x[:-1], 0.0) / size  # to the solver's tolerance
    return shares


def _newton_stages(shares: Array, fourier: float, bound: float) -> tuple[Array, float]:
    """Newton's form of Q at Chebyshev nodes in Leja's order, each stage divided by its weight."""
    degree, spectrum = len(shares) - 1, fourier * (2 + bound)
    angle = (np.arange(degree) + 0.5) * math.pi / degree
    left = -spectrum * (1 - np.cos(angle)) / 2
    z = left[:0]
    while left.size:
        taken = np.append(z, spectrum)
        farthest = int(np.log(np.abs(left[:, None] - taken)).sum(axis=1).argmax())
        z, left = np.append(z, left[farthest]), np.delete(left, farthest)
    weights = (Chebyshev(shares)(bound / 2 + z / (2 * fourier)) - 1) / z
    for order in range(1, degree):
        weights[order:] = (weights[order:] - weights[order - 1 : -1]) / (
            z[order:] - z[: degree - order]
        )
    ratio = weights[1:] / weights[:-1]
    stages = np.stack([-z[:-1] * ratio, ratio * fourier], axis=1)[::-1]
    return np.ascontiguousarray(stages), float(weights[0])
