"""Patches in the flat npz layout of the public MuMMI code (membrane-physics section 3).

One file for each patch, `pfpatch_000000000042.npz`, with concentrations [y, x, channel] and flat
keys; nothing in it needs pickle.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from continuum.atomic_file import write_atomically
from continuum.patch_batch import NODES, PatchBatch

KEYS = (
    "simname",
    "simtime",
    "tunit",
    "lunit",
    "filenames",
    "id",
    "concentrations",
    "center",
    "ids",
    "states",
    "positions",
    "complex_ids",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MummiPatch:
    """One patch as MuMMI knows it, with densities turned to our order [species, y, x]."""

    patch_id: int
    time_us: float
    density: NDArray[np.float32]  # (S, 37, 37)   nm⁻²
    centre_nm: NDArray[np.float64]  # (2,)          x, y
    bead_state: tuple[str, ...]  # (M,)
    bead_position_nm: NDArray[np.float64]  # (M, 2)        relative to the centre
    source: str


def mummi_path(folder: Path, patch_id: int) -> Path:
    """Where MuMMI looks for a patch; ids are padded to 12 digits."""
    return folder / f"pfpatch_{patch_id:012d}.npz"


def export_mummi(
    folder: Path | str, batch: PatchBatch, state_names: Sequence[str], *, source: str = "continuum"
) -> list[Path]:
    """Write each patch of a batch as an npz file, and return their paths.

    `state_names` are the names of the protein states, in the order of their numbers. Raises
    ValueError if a state has no name, OSError if there is no room.
    """
    if batch.bead_state.size and int(batch.bead_state.max()) >= len(state_names):
        raise ValueError(
            f"a bead is in state {batch.bead_state.max()}, there are {len(state_names)} names"
        )
    paths = []
    for n, patch_id in enumerate(batch.patch_id.tolist()):
        beads = slice(batch.bead_offset[n], batch.bead_offset[n + 1])
        states = [state_names[state] for state in batch.bead_state[beads].tolist()]
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            simname=np.array(source),
            simtime=np.array(batch.time_us),
            tunit=np.array("us"),
            lunit=np.array("nm"),
            filenames=np.array(["", ""]),
            id=np.array(patch_id, dtype=np.uint64),
            concentrations=np.ascontiguousarray(batch.density[n].transpose(1, 2, 0)),
            center=batch.centre_nm[n],
            ids=np.arange(len(states)),
            states=np.array(states, dtype=np.str_),
            positions=batch.bead_position_nm[beads],
            complex_ids=np.zeros(0, dtype=np.int64),
        )
        paths.append(mummi_path(Path(folder), patch_id))
        write_atomically(paths[-1], packed.getvalue())
    return paths


def import_mummi(path: Path | str) -> MummiPatch:
    """Read one patch in the flat npz layout, in nm and µs.

    Raises FileNotFoundError, or ValueError that names the file if it is damaged, lacks a key, has
    other units or shapes, or would need pickle.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            if missing := [key for key in KEYS if key not in stored]:
                raise ValueError(f"it lacks {', '.join(missing)}")
            values = {key: stored[key] for key in KEYS}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a MuMMI patch: {error}") from error
    units = str(values["tunit"]), str(values["lunit"])
    if units != ("us", "nm"):
        raise ValueError(f"{path} must be in us and nm, it is in {' and '.join(units)}")
    concentrations = values["concentrations"]
    if concentrations.ndim != 3 or concentrations.shape[:2] != (NODES, NODES):
        raise ValueError(
            f"{path} must hold {NODES} x {NODES} nodes of each channel, "
            f"it holds {concentrations.shape}"
        )
    states, positions = values["states"], np.atleast_2d(values["positions"])
    if positions.size != 2 * len(states):
        raise ValueError(
            f"{path} holds {len(states)} states and positions of shape {positions.shape}"
        )
    return MummiPatch(
        patch_id=int(values["id"]),
        time_us=float(values["simtime"]),
        density=np.ascontiguousarray(concentrations.transpose(2, 0, 1), dtype=np.float32),
        centre_nm=np.asarray(values["center"], dtype=np.float64),
        bead_state=tuple(str(state) for state in states),
        bead_position_nm=np.asarray(positions, dtype=np.float64).reshape(-1, 2),
        source=str(values["simname"]),
    )
