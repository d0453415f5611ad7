"""Small membranes for tests: models by hand or from presets, and tanks of lipids to fill."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.configuration import load_model
from continuum.decomposition import Slab
from continuum.halo import SingleProcess
from continuum.lipid_response import response_rates, seen
from continuum.lipid_step import LipidFields
from continuum.parameters import (
    Correlation,
    GaussianCoupling,
    LeafletRepulsion,
    Lipids,
    Membrane,
    Model,
    RadialPotentials,
)
from continuum.protein_lipid_coupling import potential_table
from continuum.protein_windows import ProteinWindows

Array = NDArray[Any]


def preset_model(
    *overrides: str, preset: str = "published", side_nm: float = 20.0, cells: int = 48
) -> Model:
    """A preset on a small membrane without proteins or patches, unless `overrides` ask for some."""
    bare = (
        f"membrane.side_nm={side_nm}",
        f"membrane.cells={cells}",
        "numerics.protein_substep_us=0.00125",
        "numerics.noise.amplitude=0.0",
        "proteins.count=0",
        "output.control_patches=0",
    )
    return load_model(preset, (*bare, *overrides))


def lipids(
    diffusivity: Sequence[float],
    density: Sequence[float] | None = None,
    leaflet: Sequence[int] | None = None,
    area_weight: Sequence[float] | None = None,
) -> Lipids:
    """Species named A, B, .. of given diffusivities; by default of 1 nm⁻² in the inner leaflet."""
    count = len(diffusivity)
    return Lipids(
        names=tuple("ABCDEFGHIJKLMNOP"[:count]),
        leaflet=np.array(leaflet or [0] * count, np.int8),
        bulk_density=np.array(density or [1.0] * count, np.float64),
        diffusivity=np.array(diffusivity, np.float64),
        area_weight=np.array(area_weight or [1.0] * count, np.float64),
    )


def correlation(
    *couplings: tuple[float, Any], repulsion: tuple[float, Sequence[float]] | None = None
) -> Correlation:
    """Couplings as (range_nm, matrix), the repulsion as (range_nm, (inner, outer) strength)."""
    return Correlation(
        couplings=tuple(
            GaussianCoupling(range_nm=range_nm, matrix=np.array(matrix, np.float64))
            for range_nm, matrix in couplings
        ),
        repulsion=None
        if repulsion is None
        else LeafletRepulsion(range_nm=repulsion[0], strength=np.array(repulsion[1], np.float64)),
    )


def model_of(
    lipids: Lipids,
    correlation: Correlation,
    *,
    cells: int = 32,
    spacing_nm: float = 0.8,
    dt_us: float = 0.005,
    precision: str = "double",
    noise: float = 0.0,
    noise_range_nm: float = 1.5,
    seed: int = 1,
    u: Array | None = None,  # (n_r,) kT at 0, dr, .. on every lipid
    dr_nm: float = 0.02,
) -> Model:
    """A model of these lipids; the bead states are those of the published preset."""
    base = preset_model()
    u = np.zeros(202) if u is None else u
    table = np.broadcast_to(u, (len(base.proteins.states), lipids.count, len(u))).copy()
    return replace(
        base,
        membrane=Membrane(side_nm=cells * spacing_nm, cells=cells),
        lipids=lipids,
        correlation=correlation,
        potentials=RadialPotentials(u=table, dr_nm=dr_nm, cutoff_nm=dr_nm * (len(u) - 2)),
        numerics=replace(
            base.numerics,
            time_step_us=dt_us,
            precision=precision,
            noise_amplitude=noise,
            noise_range_nm=noise_range_nm,
        ),
        seed=seed,
    )


def whole_slab(model: Model) -> Slab:
    cells = model.membrane.cells
    return Slab(cells=cells, first_row=0, rows=cells)


class LipidTank:
    """Lipid fields of a whole membrane and beads that move as told; time counts from 0."""

    def __init__(self, model: Model) -> None:
        slab = whole_slab(model)
        self.model = model
        self.fields = LipidFields(model, slab, SingleProcess())
        self.windows = ProteinWindows(
            slab, self.fields.halo, model.membrane.spacing_nm, self.fields.real
        )
        self._table = potential_table(model.potentials, self.fields.real)
        self.place(np.empty((0, 2)))
        self.steps = 0

    @property
    def density(self) -> Array:
        """(S, y, x) nm⁻²."""
        result: Array = self.fields.own_density() * self.fields.quantum
        return result

    @density.setter
    def density(self, value: Array) -> None:
        self.fields.own_density()[:] = np.rint(value / self.fields.quantum)

    def quanta(self) -> Array:
        """Total of each species, (S,)."""
        total: Array = self.fields.own_density().sum(axis=(1, 2), dtype=np.int64)
        return total

    def place(self, position_nm: Array, state: int = 0) -> None:
        """Put beads, (beads, 2), which stay there until placed anew."""
        position = np.asarray(position_nm, np.float64)
        self._show(position[None], np.ones((1, self.model.lipids.count)), state)

    def lead(self, path_nm: Array, state: int = 0) -> None:
        """Let the coming steps see beads on a path, (instants, beads, 2), as a membrane's do."""
        rates = response_rates(self.model.potentials, self.model.lipids)
        self._show(*seen(path_nm, rates * self.model.numerics.time_step_us), state)

    def _show(self, position: Array, share: Array, state: int) -> None:
        states = np.full(position.shape[1], state, np.int8)
        self.windows.refresh(position, share, states, self._table)

    def advance(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.fields.advance(self.windows, self.steps)
            self.steps += 1


def wave(cells: int, kx: int, ky: int, phase: float = 0.3) -> NDArray[np.float64]:
    """cos of a plane wave with kx, ky periods across the membrane, [y, x]."""
    centre = (np.arange(cells) + 0.5) / cells
    return np.cos(2 * np.pi * (kx * centre[None, :] + ky * centre[:, None]) + phase)


def bumps(cells: int, species: int, seed: int = 5, depth: float = 0.3) -> NDArray[np.float64]:
    """Smooth random fields (species, y, x) around 1, between 1 - depth and 1 + depth."""
    rng = np.random.default_rng(seed)
    field = np.zeros((species, cells, cells))
    for s in range(species):
        for kx, ky in ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (-1, 2)):
            field[s] += rng.normal() * wave(cells, kx, ky, rng.uniform(0, 6.28))
        field[s] *= depth / np.abs(field[s]).max()
    return 1 + field
