"""One time step of the lipids on one slab: interactions, pressure, noise, then the sweeps.

membrane-physics 1.2. The potential is frozen: that of the couplings at the middle of the step
(`lipid_interactions` extrapolates it), that of the proteins as lipids see them pass
(`lipid_response`), and the pressure at the step's end (`leaflet_pressure`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.decomposition import Slab
from continuum.flux_noise import FluxNoise, spline_positions
from continuum.grid_transfer import REACH, WEIGHTS
from continuum.halo import SingleProcess, World
from continuum.leaflet_pressure import LeafletPressure
from continuum.lipid_flux import FaceNoise, FrozenPotential, advance_species, sweep_memory
from continuum.lipid_interactions import CouplingPotentials
from continuum.parameters import Model
from continuum.protein_windows import ProteinWindows
from continuum.sweep_polynomial import SweepPolynomial, largest_w, sweep_polynomial

Array = NDArray[Any]

_SINGLE = (np.int32, np.float32, 2.0**-27)  # densities up to 16 nm⁻²
_DOUBLE = (np.int64, np.float64, 2.0**-56)  # densities up to 128 nm⁻²


def storage(precision: str) -> tuple[Any, Any, float]:
    """Integer type of the density, floating type of the potentials, nm⁻² per quantum."""
    return _SINGLE if precision == "single" else _DOUBLE


def sweep_polynomials(model: Model) -> list[SweepPolynomial]:
    """The polynomial of every species' sweeps."""
    h, dt_us = model.membrane.spacing_nm, model.numerics.time_step_us
    bound = largest_w(model.potentials, h)
    return [sweep_polynomial(float(d) * dt_us / h**2, bound) for d in model.lipids.diffusivity]


def halo_rows(model: Model) -> int:
    """Rows of neighbours' density that one step of a slab depends on."""
    return max(REACH, *(polynomial.halo_rows for polynomial in sweep_polynomials(model)))


class LipidFields:
    """The density of all species on one slab, and how it advances."""

    def __init__(self, model: Model, slab: Slab, world: World) -> None:
        """Start from uniform bulk densities."""
        numerics, lipids = model.numerics, model.lipids
        h, dt_us = model.membrane.spacing_nm, numerics.time_step_us
        integer, real, self.quantum = storage(numerics.precision)
        self.slab, self._world, self.real = slab, world, real
        self.halo = halo_rows(model)
        self.density = np.empty((lipids.count, slab.rows + 2 * self.halo, slab.cells), integer)
        self.density[:] = np.rint(lipids.bulk_density / self.quantum)[:, None, None]
        self.largest_w = largest_w(model.potentials, h)
        polynomials = sweep_polynomials(model)
        self._stages = [polynomial.stages.astype(real) for polynomial in polynomials]
        self._scale = [real(p.fourier * p.weight / self.quantum) for p in polynomials]
        degree = max(polynomial.degree for polynomial in polynomials)
        self._weight = lipids.area_weight.astype(real)
        self._spline = np.array(WEIGHTS, real)
        self.couplings = CouplingPotentials(
            lipids=lipids,
            correlation=model.correlation,
            slab=slab,
            world=world,
            spacing_nm=h,
            sweep_halo=self.halo,
            dtype=real,
        )
        self.pressure = LeafletPressure(
            lipids=lipids,
            repulsion=model.correlation.repulsion,
            slab=slab,
            world=world,
            spacing_nm=h,
            factor=self.couplings.factor,
            dt_us=dt_us,
            sweep_halo=self.halo,
            dtype=real,
        )
        self.noise = FluxNoise(
            slab=slab,
            sweep_halo=self.halo,
            spacing_nm=h,
            diffusivity=lipids.diffusivity,
            amplitude=numerics.noise_amplitude,
            range_nm=numerics.noise_range_nm,
            dt_us=dt_us,
            seed=model.seed,
            dtype=real,
        )
        self._memory = sweep_memory(slab.cells, degree, self.noise.factor, integer, real)
        self._centres = spline_positions(self.noise.factor, False, real)
        self._faces = spline_positions(self.noise.factor, True, real)
        self._kick = (self.noise.kick_amplitudes / np.sqrt(self.quantum)).astype(real)
        self.started = False

    @property
    def neighbour_rows(self) -> int:
        """Rows of either neighbour that some exchange copies, which every slab must hold."""
        return max(self.halo, self.couplings.neighbour_rows, self.pressure.neighbour_rows)

    def advance(self, windows: ProteinWindows, step: int) -> None:
        """Advance the slab's own rows from step to step + 1 under the proteins of `windows`."""
        world, halo, pressure = self._world, self.halo, self.pressure
        world.fill_halo(self.density, halo)
        self.couplings.refresh(
            self.density, halo, self.real(self.quantum), pressure.crowding, REACH
        )
        if not self.started:
            pressure.settle()
            self.started = True
        pressure.advance(windows)
        self.noise.draw(step)
        leaflet = pressure.leaflet
        for s in range(len(self.density)):
            potential, row_start, beads_of_row = windows.of_species(s)
            advance_species(
                self.density[s],
                halo,
                self.real(self.quantum),
                FrozenPotential(
                    coarse=self.couplings.potential[s],
                    coarse_halo=self.couplings.halo,
                    factor=self.couplings.factor,
                    spline=self._spline,
                    pressure=pressure.pressure[leaflet[s]],
                    weight=self._weight[s],
                    windows=potential,
                    corners=windows.corners,
                    beads_of_row=beads_of_row,
                    row_start=row_start,
                    first_row=self.slab.first_row,
                ),
                FaceNoise(
                    amplitude=self._kick[s],
                    fields=self.noise.fields[s],
                    halo=self.noise.halo,
                    centre_first=self._centres.first,
                    centre_weights=self._centres.weights,
                    face_first=self._faces.first,
                    face_weights=self._faces.weights,
                ),
                self._stages[s],
                self._scale[s],
                step % 2 == 0,
                self._memory,
            )

    def own_density(self) -> Array:
        """(S, rows, nx) quanta of the slab's own rows, a view."""
        own: Array = self.density[:, self.halo : self.halo + self.slab.rows]
        return own

    def state_arrays(self) -> list[tuple[str, Array, int]]:
        """(name, own rows (layers, rows, nx) as a view, coarsening) of all a step depends on."""
        pressure = self.pressure
        own = slice(REACH, REACH + self.slab.rows)
        return [
            ("density", self.own_density(), 1),
            ("pressure", pressure.pressure[:, self.halo : self.halo + self.slab.rows], 1),
            ("crowding", pressure.previous[:, own], 1),
            ("protein_change", pressure.protein_change[:, own], 1),
            ("coupling", self.couplings.previous, self.couplings.factor),
        ]

    def restored(self) -> None:
        """Say that `state_arrays` and `started` were filled from a checkpoint."""
        self.couplings.has_previous = self.started


def rows_of_thinnest_slab(model: Model) -> int:
    """Rows a slab must hold for its neighbours, found by building the fields of no rows at all."""
    nowhere = Slab(cells=model.membrane.cells, first_row=0, rows=0)
    return LipidFields(model, nowhere, SingleProcess()).neighbour_rows
