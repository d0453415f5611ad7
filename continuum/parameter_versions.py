"""Parameters that flow back into a running membrane: `parameters/v000017.h5` (DESIGN 3.5).

Feedback writes a version; all ranks read the newest one at a snapshot boundary.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from continuum.atomic_file import atomic_hdf5, reading, stored_hdf5
from continuum.parameters import RadialPotentials

_FILE_NAME = re.compile(r"v(\d{6})\.h5")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParameterVersion:
    """Protein-lipid potentials, for which states and lipids, and where they come from."""

    version: int
    potentials: RadialPotentials
    state_names: tuple[str, ...]
    lipid_labels: tuple[str, ...]  # `Lipids.labels`
    provenance: str  # free text, such as JSON of the feedback that made it

    def __post_init__(self) -> None:
        if not 0 <= self.version <= 999_999:
            raise ValueError(f"version must be 0 to 999999, got {self.version}")
        expected = (len(self.state_names), len(self.lipid_labels))
        if self.potentials.u.shape[:2] != expected:
            raise ValueError(
                f"potentials must be of (states, lipids) = {expected}, "
                f"got {self.potentials.u.shape[:2]}"
            )


def version_path(folder: Path, version: int) -> Path:
    """Where a version lies in the `parameters` folder of a run."""
    return folder / f"v{version:06d}.h5"


def latest_version(folder: Path) -> int | None:
    """The highest version number in a folder; None where there is none, or no folder."""
    if not folder.is_dir():
        return None
    matches = (_FILE_NAME.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match.group(1)) for match in matches if match), default=None)


def write_parameter_version(folder: Path, parameters: ParameterVersion) -> Path:
    """Write a version, all of it or nothing; ValueError where that version exists already."""
    path = version_path(folder, parameters.version)
    if path.exists():
        raise ValueError(f"a parameter version is never rewritten, and {path} exists")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_hdf5(path, "parameters") as file:
        file.attrs["version"] = parameters.version
        file.attrs["provenance"] = parameters.provenance
        file.attrs["dr_nm"] = parameters.potentials.dr_nm
        file.attrs["cutoff_nm"] = parameters.potentials.cutoff_nm
        text = h5py.string_dtype()
        file.create_dataset("states", data=list(parameters.state_names), dtype=text)
        file.create_dataset("lipids", data=list(parameters.lipid_labels), dtype=text)
        file.create_dataset("u_kt", data=parameters.potentials.u, compression=1, shuffle=True)
    return path


def read_parameter_version(path: Path) -> ParameterVersion:
    """Read a version.

    Raises FileNotFoundError, or ValueError that names the file where it is truncated, damaged or
    of another kind.
    """
    with stored_hdf5(path, "parameters") as file, reading(path, "parameters"):
        table = np.asarray(file["u_kt"][...], dtype=np.float64)
        dr_nm, cutoff_nm = float(file.attrs["dr_nm"]), float(file.attrs["cutoff_nm"])
        version, provenance = int(file.attrs["version"]), str(file.attrs["provenance"])
        states = tuple(file["states"].asstr()[...].tolist())
        lipids = tuple(file["lipids"].asstr()[...].tolist())
    try:
        return ParameterVersion(
            version=version,
            potentials=RadialPotentials(u=table, dr_nm=dr_nm, cutoff_nm=cutoff_nm),
            state_names=states,
            lipid_labels=lipids,
            provenance=provenance,
        )
    except ValueError as error:
        raise ValueError(f"{path} holds no usable parameters: {error}") from error
