"""The force field of the mock engines, which the continuum does not know (membrane-physics 7.6).

It is the continuum's own model at another strength, so that feedback alone can find it. Engines
need only the equilibrium profiles g*(r) around a lone protein of each state; the potentials behind
them are kept for judging afterwards how well a campaign has found them.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from campaign.molecular_dynamics.job import BadInput
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.settings import HiddenTruth
from campaign.single_thread import single_threaded
from continuum.atomic_file import reading, schema_of, write_atomically
from continuum.configuration import Configuration, build_model
from continuum.parameters import INNER, Model
from continuum.radial_equilibrium import protein_profiles

Array = NDArray[np.float64]

SCHEMA = "bilayer/md-truth/1"
FILE_NAME = "hidden-truth.h5"  # in the folder of a run
_ARRAYS = ("radii_nm", "g", "bulk_density", "diffusivity", "ligand_of", "u")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TruthTables:
    """Profiles of the L inner lipids around a lone protein; g = 1 beyond the last radius."""

    state_names: tuple[str, ...]
    lipid_labels: tuple[str, ...]  # (L,)  such as "inner POPC"
    radii_nm: Array  # (n,)   0, dr, 2 dr, ...
    g: Array  # (states, L, n)
    bulk_density: Array  # (L,)  nm⁻²
    diffusivity: Array  # (L,)  nm² µs⁻¹
    ligand_of: NDArray[np.int64]  # (states,)  state of the ligand bead of a complex, else -1
    u: Array  # (states, L, n_r)  kT at r = 0, u_dr_nm, ...
    u_dr_nm: float

    def check(self, patch: Patch) -> None:
        """BadInput unless a patch is of these protein states and lipids."""
        if patch.state_names != self.state_names:
            raise BadInput(
                f"patch {patch.patch_id} is of the protein states {patch.state_names}, "
                f"the engine knows {self.state_names}"
            )
        inner = tuple(name for name in patch.species if name.startswith("inner "))
        if inner != self.lipid_labels:
            raise BadInput(
                f"patch {patch.patch_id} is of the inner lipids {inner}, "
                f"the engine knows {self.lipid_labels}"
            )

    def counted_beads(self, patch: Patch) -> list[int]:
        """Indices of the central bead and, in a complex, of the nearest bead fit to be its ligand.

        Empty for a patch without a central protein.
        """
        if patch.central_state < 0:
            return []
        ligands = np.flatnonzero(patch.bead_state == self.ligand_of[patch.central_state])
        return [0, *ligands[:1].tolist()]


def true_model(truth: HiddenTruth, configuration: Configuration) -> Model:
    """The continuum's model with the potentials of the truth.

    Raises ValueError: a configuration whose potentials come from a table has no strength to change.
    """
    potentials = configuration.potentials
    if potentials.table is not None:
        raise ValueError(
            "molecular_dynamics.hidden_truth.strength needs analytic potentials in the continuum's "
            f"configuration, which reads potentials.table = {potentials.table}"
        )
    at_strength = potentials.model_copy(update={"strength": truth.strength})
    return build_model(configuration.model_copy(update={"potentials": at_strength}))


def truth_tables(model: Model) -> TruthTables:
    """Equilibrium profiles of a model; about a second."""
    with single_threaded():
        radii_nm, g = protein_profiles(model)
    inner = model.lipids.leaflet == INNER
    proteins = model.proteins
    ligand_of = np.full(len(proteins.states), -1, dtype=np.int64)
    for complex_ in proteins.complexes:
        primary = proteins.index_of(complex_.primary_state)
        ligand_of[primary] = proteins.index_of(complex_.ligand_state)
    return TruthTables(
        state_names=tuple(state.name for state in proteins.states),
        lipid_labels=tuple(np.array(model.lipids.labels)[inner].tolist()),
        radii_nm=radii_nm,
        g=g[:, inner],
        bulk_density=model.lipids.bulk_density[inner],
        diffusivity=model.lipids.diffusivity[inner],
        ligand_of=ligand_of,
        u=model.potentials.u[:, inner],
        u_dr_nm=model.potentials.dr_nm,
    )


def write_truth(path: Path, tables: TruthTables) -> None:
    """Write tables for the worker processes, whole or not at all."""
    with h5py.File(str(path), "w", driver="core", backing_store=False) as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["u_dr_nm"] = tables.u_dr_nm
        text = h5py.string_dtype()
        file.create_dataset("state_names", data=list(tables.state_names), dtype=text)
        file.create_dataset("lipid_labels", data=list(tables.lipid_labels), dtype=text)
        for name in _ARRAYS:
            file[name] = getattr(tables, name)
        file.flush()
        image = file.id.get_file_image()
    write_atomically(path, image)


def read_truth(path: Path) -> TruthTables:
    """Tables from a file; FileNotFoundError, or ValueError that names a file that is no such."""
    if not path.is_file():
        raise FileNotFoundError(f"no hidden truth {path}")
    with reading(path, "hidden truth"), h5py.File(path, "r") as file:
        if schema_of(file) != SCHEMA:
            raise ValueError(f"{path} is not a {SCHEMA} file: schema is {schema_of(file)!r}")
        return TruthTables(
            state_names=tuple(file["state_names"].asstr()[...].tolist()),
            lipid_labels=tuple(file["lipid_labels"].asstr()[...].tolist()),
            u_dr_nm=float(file.attrs["u_dr_nm"]),
            **{name: file[name][...] for name in _ARRAYS},
        )
