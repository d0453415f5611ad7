"""Direct correlation functions, stability and linear theory (membrane-physics 7.2 to 7.4).

With N = diag(n) and D the diffusivities, a small plane wave obeys dn/dt = -A(k) n,
A = k² D (I - N C(k)), similar to the symmetric k² D^½ M D^½ with M = I - N^½ C N^½.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from continuum.parameters import Correlation, Lipids

Array = NDArray[np.float64]

LEAST_EIGENVALUE = 0.1  # membrane-physics 7.3
CUTOFF_RANGES = 4.5  # a Gaussian is 4e-5 of its centre there
_WAVENUMBERS = 512


def c_of_k(lipids: Lipids, correlation: Correlation, k: Array) -> Array:
    """C_ij(k) in nm², (K, S, S) for wavenumbers k (K,) in nm⁻¹ (membrane-physics 7.2)."""
    k = np.asarray(k, dtype=np.float64)
    total = np.zeros((k.size, lipids.count, lipids.count))
    for coupling in correlation.couplings:
        total += _gaussian_of_k(coupling.range_nm, k)[:, None, None] * coupling.matrix
    if correlation.repulsion is not None:
        repulsion = correlation.repulsion
        total -= _gaussian_of_k(repulsion.range_nm, k)[:, None, None] * repulsion_matrix(
            lipids, repulsion.strength
        )
    return total


def repulsion_matrix(lipids: Lipids, strength: Array) -> Array:
    """strength[leaflet] w_i w_j for lipids of one leaflet, 0 across, (S, S)."""
    same = lipids.leaflet[:, None] == lipids.leaflet[None, :]
    weights = np.outer(lipids.area_weight, lipids.area_weight)
    return np.where(same, strength[lipids.leaflet][:, None] * weights, 0.0)


def stability_matrix(
    lipids: Lipids, correlation: Correlation, k: Array, density: Array | None = None
) -> Array:
    """M(k) = I - N^½ C(k) N^½, (K, S, S); N is the bulk density unless another (S,) is given."""
    root = np.sqrt(lipids.bulk_density if density is None else density)
    return np.eye(lipids.count) - root[:, None] * c_of_k(lipids, correlation, k) * root[None, :]


def least_stable(
    lipids: Lipids, correlation: Correlation, spacing_nm: float
) -> tuple[float, float]:
    """Smallest eigenvalue of M over the wavenumbers of a grid, and where it is (nm⁻¹)."""
    k = np.linspace(0.0, np.pi * np.sqrt(2.0) / spacing_nm, _WAVENUMBERS)
    lowest = np.linalg.eigvalsh(stability_matrix(lipids, correlation, k))[:, 0]
    best = int(np.argmin(lowest))

    def eigenvalue(wavenumber: float) -> float:
        matrix = stability_matrix(lipids, correlation, np.array([wavenumber]))
        return float(np.linalg.eigvalsh(matrix)[0, 0])

    bounds = (k[max(best - 1, 0)], k[min(best + 1, k.size - 1)])
    refined = minimize_scalar(eigenvalue, bounds=bounds, method="bounded")
    if refined.fun < lowest[best]:
        return float(refined.fun), float(refined.x)
    return float(lowest[best]), float(k[best])


def check_stable(
    lipids: Lipids,
    correlation: Correlation,
    spacing_nm: float,
    least_eigenvalue: float = LEAST_EIGENVALUE,
) -> None:
    """ValueError unless M(k) is positive definite with a margin on this grid (7.3.1)."""
    eigenvalue, wavenumber = least_stable(lipids, correlation, spacing_nm)
    if not eigenvalue >= least_eigenvalue:
        raise ValueError(
            f"the lipid interactions are unstable: the smallest eigenvalue of M(k) must be >= "
            f"{least_eigenvalue}, it is {eigenvalue:.4g} at k = {wavenumber:.4g} nm⁻¹"
        )


def explicit_step_limit_us(lipids: Lipids, correlation: Correlation, spacing_nm: float) -> float:
    """Largest stable step of explicit Euler on the 5-point grid (membrane-physics 7.3.2).

    2 / max_k [L(k) λ_max(D^½ M D^½)]; at given |k| the stencil L is largest on the diagonal.
    """
    k = np.linspace(0.0, np.pi * np.sqrt(2.0) / spacing_nm, 4 * _WAVENUMBERS)
    stencil = 8.0 / spacing_nm**2 * np.sin(k * spacing_nm / np.sqrt(8.0)) ** 2
    highest = np.linalg.eigvalsh(_mobility_matrix(lipids, correlation, k))[:, -1]
    return float(2.0 / np.max(stencil * highest))


def mode_times_us(lipids: Lipids, correlation: Correlation, k: float) -> Array:
    """Decay times of the S linear modes at wavenumber k > 0 (nm⁻¹), longest first, (S,)."""
    if not k > 0:
        raise ValueError(f"k must be > 0, got {k}")
    rates = k**2 * np.linalg.eigvalsh(_mobility_matrix(lipids, correlation, np.array([k])))[0]
    if not rates[0] > 0:
        raise ValueError(f"a mode grows at k = {k} nm⁻¹: the lipid interactions are unstable")
    return np.asarray(1.0 / rates)


def relaxation_matrix(lipids: Lipids, correlation: Correlation, k: Array) -> Array:
    """A(k) of dn/dt = -A n, A_ij = k² D_i (δ_ij - n_i C_ij(k)) in µs⁻¹, (K, S, S)."""
    response = np.eye(lipids.count) - lipids.bulk_density[:, None] * c_of_k(lipids, correlation, k)
    return np.asarray(np.square(k)[:, None, None] * lipids.diffusivity[:, None] * response)


def density_covariance(
    lipids: Lipids,
    correlation: Correlation,
    k: Array,
    noise_amplitude: float,
    noise_range_nm: float,
) -> Array:
    """Σ_ij(k) = <n_i(k) n_j(k)*> / area under conserved filtered noise, nm⁻², (K, S, S).

    The noise of 7.4 has the spectrum 2 ε² exp(-k² l²) k² D N, so that A Σ + Σ Aᵀ = that is solved
    by the equilibrium structure scaled: Σ = ε² exp(-k² l²) N^½ M⁻¹ N^½, whatever the diffusivities.
    """
    root = np.sqrt(lipids.bulk_density)
    structure = np.linalg.inv(stability_matrix(lipids, correlation, k))
    spectrum = noise_amplitude**2 * np.exp(-np.square(k) * noise_range_nm**2)
    return np.asarray(spectrum[:, None, None] * root[:, None] * structure * root[None, :])


def cutoff_nm(correlation: Correlation) -> float:
    """Distance beyond which every Gaussian of c_ij is negligible; 0 without any."""
    return CUTOFF_RANGES * max(correlation.ranges_nm, default=0.0)


def _mobility_matrix(lipids: Lipids, correlation: Correlation, k: Array) -> Array:
    root = np.sqrt(lipids.diffusivity)
    return root[:, None] * stability_matrix(lipids, correlation, k) * root[None, :]


def _gaussian_of_k(range_nm: float, k: Array) -> Array:
    return 2.0 * np.pi * range_nm**2 * np.exp(-0.5 * np.square(k) * range_nm**2)
