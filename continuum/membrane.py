"""A membrane in motion: lipids and proteins on one rank's slab, advanced together.

A step from t to t + dt: states change, proteins move for dt/2 among the lipids of t, lipids advance
by dt under the proteins on their way, and proteins move for the other dt/2 among the lipids of
t + dt. Where that will take them is foreseen: the kicks to come are known, and the force that the
lipids exert hardly changes in half a step. Each rank integrates the proteins in its slab; positions
and states are then known to all.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.decomposition import Slab, cut_into_slabs
from continuum.halo import World
from continuum.initial_proteins import initial_proteins
from continuum.lipid_response import response_rates, seen
from continuum.lipid_step import LipidFields, halo_rows, rows_of_thinnest_slab
from continuum.parameters import Model, RadialPotentials
from continuum.philox import key_of
from continuum.protein_lipid_coupling import FORCE_QUANTUM, lipid_force, potential_table
from continuum.protein_motion import langevin_substep, protein_force_field
from continuum.protein_states import change_states, state_kinetics
from continuum.protein_windows import ProteinWindows
from continuum.sweep_polynomial import check_steepness

Array = NDArray[Any]


class Membrane:
    """Lipid fields and proteins of a model, at `step` time steps from its beginning."""

    def __init__(self, model: Model, world: World) -> None:
        """The initial state: uniform lipids, proteins at random.

        Raises ValueError where the number of ranks or the step does not fit the model.
        """
        self.model, self.world = model, world
        self.halo = halo_rows(model)
        least_rows = rows_of_thinnest_slab(model)
        self.slab: Slab = cut_into_slabs(model.membrane.cells, world.size, least_rows)[world.rank]
        self.fields = LipidFields(model, self.slab, world)
        self.position, self.state = initial_proteins(
            model.proteins, model.membrane.side_nm, model.seed
        )
        self.step = 0
        self.parameter_version = 0
        self._force_field = protein_force_field(model.proteins)
        self._kinetics = state_kinetics(model.proteins)
        self._key = key_of(model.seed)
        self._windows = ProteinWindows(
            self.slab, self.halo, model.membrane.spacing_nm, self.fields.real
        )
        self.set_potentials(model.potentials, 0)

    @property
    def time_us(self) -> float:
        return self.step * self.model.numerics.time_step_us

    def set_potentials(self, potentials: RadialPotentials, version: int) -> None:
        """Adopt a version of the protein-lipid potentials from the coming step on.

        Raises ValueError where they are too steep for the sweeps of this run.
        """
        check_steepness(potentials, self.model.membrane.spacing_nm, self.fields.largest_w)
        self._table = potential_table(potentials, self.fields.real)
        self._force_table = potential_table(potentials)
        self._rates = response_rates(potentials, self.model.lipids)
        self.parameter_version = version

    def advance(self) -> None:
        """One time step."""
        self._change_states()
        path = [self.position.copy()]
        force = self._lipid_force()
        path += self._move_proteins(force, half=0)
        middle = self.position.copy()
        path += self._move_proteins(force, half=1)
        shown = seen(np.stack(path), self._rates * self.model.numerics.time_step_us)
        self._windows.refresh(*shown, self.state, self._table)
        self.fields.advance(self._windows, self.step)
        self.position = middle
        self._move_proteins(self._lipid_force(), half=1)
        self.step += 1

    def check_finite(self) -> None:
        """Raise FloatingPointError where a density is negative or a pressure not a number."""
        lowest = int(self.fields.own_density().min())
        finite = bool(np.isfinite(self.fields.pressure.pressure).all())
        broken = self.world.sum(np.array([lowest < 0, not finite], np.int64))
        if broken.any():
            raise FloatingPointError(
                f"the lipids lost their positive densities before t = {self.time_us:g} us:"
                " use a smaller numerics.time_step_us, or weaker potentials"
            )

    def owned(self) -> Array:
        """Indices of the primaries whose y lies in this rank's slab."""
        primaries = len(self.state) // 2
        row = np.floor(self.position[:primaries, 1] / self.model.membrane.spacing_nm)
        row = np.minimum(row.astype(np.int64), self.slab.cells - 1)
        first, last = self.slab.first_row, self.slab.first_row + self.slab.rows
        owned: Array = np.flatnonzero((row >= first) & (row < last))
        return owned

    def _change_states(self) -> None:
        owned = self.owned()
        change_states(
            self.position,
            self.state,
            owned,
            self._kinetics,
            self.model.numerics.time_step_us,
            self.model.membrane.side_nm,
            self.step,
            *self._key,
        )
        self._share(owned)

    def _move_proteins(self, lipid_force: Array, half: int) -> list[Array]:
        """Move all beads for dt/2 and return where they were after every substep, (2P, 2) each.

        `lipid_force` (2P, 2) is in kT/nm; the kicks are those of the step's first or second half.
        """
        numerics = self.model.numerics
        substeps = max(1, math.ceil(numerics.time_step_us / 2 / numerics.protein_substep_us - 1e-9))
        path = []
        for substep in range(substeps):
            owned = self.owned()
            langevin_substep(
                self.position,
                self.state,
                owned,
                lipid_force,
                self._force_field,
                self.model.membrane.side_nm,
                numerics.time_step_us / 2 / substeps,
                self.step,
                half * substeps + substep,
                *self._key,
            )
            self._share(owned)
            path.append(self.position.copy())
        return path

    def _share(self, owned: Array) -> None:
        """Make the beads of every rank's own primaries known to all, bit for bit."""
        if self.world.size == 1:
            return
        beads = np.concatenate([owned, owned + len(self.state) // 2])
        bits = np.zeros((len(self.state), 3), np.int64)
        bits[beads, :2] = self.position.view(np.int64)[beads]
        bits[beads, 2] = self.state[beads]
        bits = self.world.sum(bits)
        self.position = np.ascontiguousarray(bits[:, :2]).view(np.float64)
        self.state = bits[:, 2].astype(np.int8)

    def _lipid_force(self) -> Array:
        """-dU/dR of every bead in kT/nm, (2P, 2): integer partial sums, exact on any cut."""
        partial = lipid_force(
            self.fields.own_density(),
            self.fields.quantum,
            self.slab.first_row,
            self.slab.cells,
            self.model.membrane.spacing_nm,
            self._force_table,
            self.position,
            self.state,
        )
        force: Array = self.world.sum(partial) * FORCE_QUANTUM
        return force
