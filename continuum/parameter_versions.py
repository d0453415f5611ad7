"""Parameters that flow back into a running membrane: `parameters/v000017.h5` (DESIGN 3.5).

Feedback writes a version; all ranks read the newest one at a snapshot boundary.
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from continuum.parameters import RadialPotentials

SCHEMA = "bilayer-parameters-1"
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
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".partial")
    os.close(handle)
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["schema"] = SCHEMA
            file.attrs["version"] = parameters.version
            file.attrs["provenance"] = parameters.provenance
            file.attrs["dr_nm"] = parameters.potentials.dr_nm
            file.attrs["cutoff_nm"] = parameters.potentials.cutoff_nm
            text = h5py.string_dtype()
            file.create_dataset("states", data=list(parameters.state_names), dtype=text)
            file.create_dataset("lipids", data=list(parameters.lipid_labels), dtype=text)
            file.create_dataset(
                "u_kt", data=parameters.potentials.u, compression=1, shuffle=True, fletcher32=True
            )
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return path


def read_parameter_version(path: Path) -> ParameterVersion:
    """Read a version; ValueError names the file where it is missing, truncated or foreign."""
    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs.get("schema")
            if schema != SCHEMA:
                raise ValueError(f"schema must be {SCHEMA!r}, got {schema!r}")
            return ParameterVersion(
                version=int(file.attrs["version"]),
                potentials=RadialPotentials(
                    u=file["u_kt"][...].astype(np.float64),
                    dr_nm=float(file.attrs["dr_nm"]),
                    cutoff_nm=float(file.attrs["cutoff_nm"]),
                ),
                state_names=tuple(file["states"].asstr()[...].tolist()),
                lipid_labels=tuple(file["lipids"].asstr()[...].tolist()),
                provenance=str(file.attrs["provenance"]),
            )
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a readable parameter version: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
