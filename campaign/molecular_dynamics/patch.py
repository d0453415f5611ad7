"""One patch as a simulation starts from it (DESIGN 3.2)."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from campaign.molecular_dynamics.job import BadInput
from continuum.patch_batch import PatchBatch

_OPEN_FILES = 4
_OF_A_PATCH = ("patch_id", "centre_nm", "central_state", "n_ras", "n_raf", "kind")
_OF_BEADS = ("bead_offset", "bead_position_nm", "bead_state")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """A 30 nm square of membrane and the B beads in it, nearest to the centre first.

    Raises BadInput unless it is one patch with finite values and states that have names.
    """

    batch: PatchBatch  # of this one patch
    species: tuple[str, ...]  # (S,)  such as "inner POPC"
    state_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.batch) != 1:
            raise BadInput(f"a simulation starts from one patch, got {len(self.batch)}")
        if len(self.species) != self.density.shape[0]:
            raise BadInput(
                f"patch {self.patch_id} has {self.density.shape[0]} channels, "
                f"got names for {len(self.species)}"
            )
        if not (np.isfinite(self.density).all() and np.isfinite(self.bead_position_nm).all()):
            raise BadInput(f"patch {self.patch_id}: densities and positions must be finite")
        states = self.bead_state.tolist()
        if not all(0 <= state < len(self.state_names) for state in states):
            raise BadInput(
                f"patch {self.patch_id}: bead states must be 0 to {len(self.state_names) - 1}, "
                f"got {states}"
            )
        if self.central_state >= 0 and self.central_state not in states[:1]:
            raise BadInput(
                f"patch {self.patch_id}: the bead at the centre must be of state "
                f"{self.central_state}, beads are of {states}"
            )

    @property
    def patch_id(self) -> int:
        return int(self.batch.patch_id[0])

    @property
    def density(self) -> NDArray[np.float32]:
        """(S, 37, 37) nm⁻² at [species, y, x]."""
        density: NDArray[np.float32] = self.batch.density[0]
        return density

    @property
    def bead_state(self) -> NDArray[np.int8]:
        """(B,)."""
        return self.batch.bead_state

    @property
    def bead_position_nm(self) -> NDArray[np.float64]:
        """(B, 2), relative to the centre."""
        return self.batch.bead_position_nm

    @property
    def central_state(self) -> int:
        """State of the central protein, -1 where there is none."""
        return int(self.batch.central_state[0])

    @property
    def parameter_version(self) -> int:
        return self.batch.parameter_version

    @property
    def time_us(self) -> float:
        return self.batch.time_us


def read_patch(path: Path, patch_id: int) -> Patch:
    """One patch of a patch file.

    Files stay open, since many jobs start from one file; a patch file never changes once it has its
    name. Raises BadInput that names the file where it is missing, damaged or has no such patch.
    """
    try:
        opened = _opened(path)
        ids = opened.arrays["patch_id"]
        row = int(np.searchsorted(ids, np.uint64(patch_id)))
        if row == len(ids) or int(ids[row]) != patch_id:
            raise BadInput(f"{path} holds {len(ids)} patches, but not patch {patch_id}")
        return Patch(
            batch=opened.batch_of(row), species=opened.species, state_names=opened.state_names
        )
    except BadInput:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: cannot read patch {patch_id}: {reason}") from error


class _PatchFile:
    """An open patch file, of which all but the densities has been read."""

    def __init__(self, path: Path) -> None:
        file = h5py.File(path, "r")
        self.arrays = {name: file[name][...] for name in (*_OF_A_PATCH, *_OF_BEADS)}
        self.species = tuple(str(name) for name in file.attrs["species"])
        self.state_names = tuple(str(name) for name in file.attrs["state_names"])
        self._time_us = float(file.attrs["time_us"])
        self._snapshot_index = int(file.attrs["snapshot_index"])
        self._parameter_version = int(file.attrs["parameter_version"])
        self._density = file["density"]

    def batch_of(self, row: int) -> PatchBatch:
        """One patch as a batch."""
        offset = self.arrays["bead_offset"][row : row + 2]
        beads = slice(offset[0], offset[1])
        return PatchBatch(
            **{name: self.arrays[name][row : row + 1] for name in _OF_A_PATCH},
            density=self._density[row : row + 1],
            bead_offset=offset - offset[0],
            bead_position_nm=self.arrays["bead_position_nm"][beads],
            bead_state=self.arrays["bead_state"][beads],
            time_us=self._time_us,
            snapshot_index=self._snapshot_index,
            parameter_version=self._parameter_version,
        )


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: Path) -> _PatchFile:
    return _PatchFile(path)
