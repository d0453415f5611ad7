"""Membrane-physics 1.2 solved slowly: exact Gaussians by FFT, square-root fluxes, RK2 in time.

It shares no code with the solver it judges, beyond the model's numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import CubicSpline

from continuum.parameters import Model

Array = NDArray[Any]


class ReferenceMembrane:
    """The lipids of a model on its own grid, in float64."""

    def __init__(self, model: Model) -> None:
        self.model = model
        cells, h = model.membrane.cells, model.membrane.spacing_nm
        self.h = h
        ky, kx = 2 * np.pi * fft.fftfreq(cells, h), 2 * np.pi * fft.rfftfreq(cells, h)
        k2 = ky[:, None] ** 2 + kx[None, :] ** 2
        lipids = model.lipids
        self._bulk = lipids.bulk_density[:, None, None]
        self._terms = [
            (part.matrix, _gaussian(k2, part.range_nm)) for part in model.correlation.couplings
        ]
        if (repulsion := model.correlation.repulsion) is not None:
            same = lipids.leaflet[:, None] == lipids.leaflet[None, :]
            matrix = np.outer(lipids.area_weight, lipids.area_weight) * same
            matrix *= -repulsion.strength[lipids.leaflet][:, None]
            self._terms.append((matrix, _gaussian(k2, repulsion.range_nm)))
        potentials = model.potentials
        inside = potentials.radii_nm <= potentials.cutoff_nm * (1 + 1e-9)
        self._u = [
            CubicSpline(potentials.radii_nm[inside], u[:, inside], axis=1, bc_type="clamped")
            for u in potentials.u
        ]

    def excess(self, n: Array) -> Array:
        """-Σ_j c_ij * Δn_j, (S, y, x) kT."""
        spectrum = fft.rfft2(n - self._bulk)
        total = np.zeros_like(spectrum)
        for matrix, gaussian in self._terms:
            total -= np.tensordot(matrix, spectrum * gaussian, 1)
        result: Array = fft.irfft2(total, s=n.shape[1:])
        return result

    def protein_potential(self, position_nm: Array, state: int = 0) -> Array:
        """Σ_p u(|r - R_p|) of the nearest images, (S, y, x) kT."""
        cells, side_nm = self.model.membrane.cells, self.model.membrane.side_nm
        centre = (np.arange(cells) + 0.5) * self.h
        total = np.zeros((self.model.lipids.count, cells, cells))
        for x, y in np.atleast_2d(position_nm) if len(position_nm) else ():
            dx = (centre - x + side_nm / 2) % side_nm - side_nm / 2
            dy = (centre - y + side_nm / 2) % side_nm - side_nm / 2
            r = np.hypot(dy[:, None], dx[None, :])
            cutoff_nm = self.model.potentials.cutoff_nm
            total += np.where(r < cutoff_nm, self._u[state](np.minimum(r, cutoff_nm)), 0.0)
        return total

    def rate(self, n: Array, external: Array) -> Array:
        """dn/dt of square-root Scharfetter-Gummel fluxes, (S, y, x) nm⁻² µs⁻¹."""
        potential = self.excess(n) + external
        scale = (self.model.lipids.diffusivity / self.h**2)[:, None, None]
        total = np.zeros_like(n)
        for axis in (1, 2):
            tilt = np.exp((np.roll(potential, -1, axis) - potential) / 2)
            flux = scale * (n / tilt - np.roll(n, -1, axis) * tilt)
            total += np.roll(flux, 1, axis) - flux
        return total

    def advance(
        self, n: Array, external_at: Callable[[float], Array], duration_us: float, dt_us: float
    ) -> Array:
        """n after `duration_us` in a potential that depends on time, by the midpoint rule."""
        for i in range(round(duration_us / dt_us)):
            t = i * dt_us
            middle = n + dt_us / 2 * self.rate(n, external_at(t))
            n = n + dt_us * self.rate(middle, external_at(t + dt_us / 2))
        return n

    def free_energy(self, n: Array, external: Array) -> float:
        """Ideal, excess and protein part of membrane-physics 1.2, kT."""
        ideal = n * (np.log(n / self._bulk) - 1)
        excess = 0.5 * (n - self._bulk) * self.excess(n)
        return float((ideal + excess + n * external).sum() * self.h**2)


def _gaussian(k2: Array, range_nm: float) -> Array:
    """The Fourier transform of exp(-r² / 2 range²)."""
    result: Array = 2 * np.pi * range_nm**2 * np.exp(-0.5 * k2 * range_nm**2)
    return result


def relative_error(n: Array, reference: Array) -> float:
    """Relative L2 difference."""
    return float(np.linalg.norm(n - reference) / np.linalg.norm(reference))
