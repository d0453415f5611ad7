"""What a simulation of a patch yields, and its file `md/<job>.h5` (DESIGN 3.5)."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from campaign.molecular_dynamics.hdf5_image import hdf5_image
from campaign.molecular_dynamics.job import BadOutput
from continuum.atomic_file import reading, schema_of, write_atomically

Array = NDArray[np.float64]

SCHEMA = "bilayer/md/1"
BINS = 600  # of potential_inversion.BIN_NM: out to 12 nm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """The B beads that stood around the counted ones, fixed, in a periodic square.

    Without beads the counts are of lipids around lone proteins.
    """

    bead_state: NDArray[np.int8]  # (B,)
    bead_position_nm: Array  # (B, 2)
    counted: NDArray[np.int64]  # indices of the beads whose lipids were counted
    box_nm: float


ALONE = Surroundings(
    bead_state=np.zeros(0, dtype=np.int8),
    bead_position_nm=np.zeros((0, 2)),
    counted=np.zeros(0, dtype=np.int64),
    box_nm=30.0,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MdResult:
    """Lipids seen around the central protein, summed over frames.

    `effective_frames` says how many independent frames the correlated `frames` are worth; counts
    scaled by effective_frames / frames scatter like independent lipids. Raises BadOutput for
    counts that are negative, not finite or of another shape, and for impossible frames or times.
    """

    counts: (
        Array  # (states, inner lipids, 600 bins of 0.02 nm); zero for states that were not there
    )
    frames: int
    effective_frames: float
    simulated_us: float
    surroundings: Surroundings = ALONE
    summary: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = self.counts
        if counts.ndim != 3 or counts.shape[2] != BINS or counts.dtype != np.float64:
            raise BadOutput(
                f"counts must be float64 of shape (states, lipids, {BINS}), "
                f"got {counts.dtype} {counts.shape}"
            )
        if not (counts.min(initial=0.0) >= 0.0 and counts.max(initial=0.0) < np.inf):
            raise BadOutput("counts must be finite and >= 0")
        if not self.frames >= 1:
            raise BadOutput(f"frames must be >= 1, got {self.frames}")
        if not 0 < self.effective_frames <= self.frames * (1 + 1e-9):
            raise BadOutput(
                f"effective_frames must be > 0 and <= frames = {self.frames}, "
                f"got {self.effective_frames}"
            )
        if not (self.simulated_us > 0 and np.isfinite(self.simulated_us)):
            raise BadOutput(f"simulated_us must be > 0, got {self.simulated_us}")

    def crc32(self) -> int:
        """Checksum of what feedback uses, the same for every attempt at a job."""
        around = self.surroundings
        scalars = np.array([self.frames, self.effective_frames, self.simulated_us, around.box_nm])
        crc = zlib.crc32(np.ascontiguousarray(self.counts).data)
        for part in (scalars, around.bead_state, around.bead_position_nm, around.counted):
            crc = zlib.crc32(part.tobytes(), crc)
        return crc


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredResult:
    """A result and the job it answers."""

    job: str
    attempt: int
    patch_id: int
    seed: int
    result: MdResult


def write_result(
    path: Path,
    result: MdResult,
    job: str,
    attempt: int,
    patch_id: int,
    seed: int = 0,
    *,
    durable_name: bool = True,
) -> int:
    """Write a result, whole or not at all; return its checksum. OSError if there is no room.

    Without `durable_name` the folder remains to be synced, once for many results. Only states with
    counts are stored, and counts that are whole numbers as such. Scalars are one JSON attribute,
    `header`, since each attribute of HDF5 costs as much as a dataset.
    """
    counted = np.flatnonzero(result.counts.any(axis=(1, 2)))
    counts = result.counts[counted]
    whole = counts.size and (counts == np.rint(counts)).all() and counts.max() < 2**32
    crc = result.crc32()
    around = result.surroundings
    header = {
        "job": job,
        "attempt": attempt,
        "patch_id": patch_id,
        "seed": seed,
        "frames": result.frames,
        "effective_frames": result.effective_frames,
        "simulated_us": result.simulated_us,
        "summary": dict(result.summary),
        "shape": result.counts.shape,
        "states": counted.tolist(),
        "counted_beads": around.counted.tolist(),
        "box_nm": around.box_nm,
        "crc32": crc,
    }
    arrays: dict[str, NDArray[Any]] = {"counts": counts.astype(np.uint32) if whole else counts}
    if len(around.bead_state):
        arrays["bead_state"] = around.bead_state
        arrays["bead_position_nm"] = around.bead_position_nm
    image = hdf5_image(SCHEMA, json.dumps(header).encode(), arrays)
    write_atomically(path, image, durable_name=durable_name)
    return crc


def read_result(path: Path) -> StoredResult:
    """Read a result.

    Raises FileNotFoundError, or ValueError that names the file if it is truncated, damaged or of
    another kind, or its content does not have the checksum it was written with.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no result {path}")
    with reading(path, "molecular dynamics"), h5py.File(path, "r") as file:
        if schema_of(file) != SCHEMA:
            raise ValueError(f"{path} is not a {SCHEMA} file: schema is {schema_of(file)!r}")
        header = json.loads(file.attrs["header"])
        counts = np.zeros(header["shape"])
        counts[header["states"]] = file["counts"][...]
        around = ALONE
        if "bead_state" in file:
            around = Surroundings(
                bead_state=file["bead_state"][...],
                bead_position_nm=file["bead_position_nm"][...],
                counted=np.array(header["counted_beads"], dtype=np.int64),
                box_nm=float(header["box_nm"]),
            )
        stored = StoredResult(
            job=header["job"],
            attempt=header["attempt"],
            patch_id=header["patch_id"],
            seed=header["seed"],
            result=MdResult(
                counts=counts,
                frames=header["frames"],
                effective_frames=header["effective_frames"],
                simulated_us=header["simulated_us"],
                surroundings=around,
                summary=header["summary"],
            ),
        )
        expected = header["crc32"]
    if (found := stored.result.crc32()) != expected:
        raise ValueError(f"{path} is damaged: its checksum is {found:08x}, not {expected:08x}")
    return stored
