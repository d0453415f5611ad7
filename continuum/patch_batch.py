"""The patches of one snapshot as arrays (DESIGN 3.2); nothing here needs a compiler."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NODES = 37
SIDE_NM = 30.0
NODE_SPACING_NM = SIDE_NM / (NODES - 1)
CENTRE_NODE = NODES // 2
SLOT_BITS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchBatch:
    """The N patches of one snapshot; M beads lie in them, counted once for every patch.

    Arrays belong to the batch: nobody writes into them. Raises ValueError unless shapes, types and
    the ragged offsets fit together.
    """

    patch_id: NDArray[np.uint64]  # (N,)            snapshot_index << 20 | slot
    density: NDArray[np.float32]  # (N, S, 37, 37)  nm⁻² at [species, y, x]
    centre_nm: NDArray[np.float64]  # (N, 2)          x, y
    central_state: NDArray[np.int8]  # (N,)            -1 for controls
    n_ras: NDArray[np.uint8]  # (N,)            primaries in the square
    n_raf: NDArray[np.uint8]  # (N,)            ligands in the square
    kind: NDArray[np.uint8]  # (N,)            0 none, 1 one primary, 2 one pair, 3 the rest
    bead_offset: NDArray[np.int64]  # (N + 1,)        beads of patch n: offset[n]:offset[n + 1]
    bead_position_nm: NDArray[np.float64]  # (M, 2)          relative to the centre
    bead_state: NDArray[np.int8]  # (M,)
    time_us: float
    snapshot_index: int
    parameter_version: int

    def __post_init__(self) -> None:
        count = len(self.patch_id)
        species = self.density.shape[1] if self.density.ndim == 4 else 0
        beads = len(self.bead_state)
        _require("patch_id", self.patch_id, np.uint64, (count,))
        _require("density", self.density, np.float32, (count, species, NODES, NODES))
        _require("centre_nm", self.centre_nm, np.float64, (count, 2))
        _require("central_state", self.central_state, np.int8, (count,))
        for name in ("n_ras", "n_raf", "kind"):
            _require(name, getattr(self, name), np.uint8, (count,))
        _require("bead_offset", self.bead_offset, np.int64, (count + 1,))
        _require("bead_position_nm", self.bead_position_nm, np.float64, (beads, 2))
        _require("bead_state", self.bead_state, np.int8, (beads,))
        if self.bead_offset[0] != 0 or self.bead_offset[-1] != beads:
            raise ValueError(
                f"bead_offset must run from 0 to the {beads} beads, "
                f"got {self.bead_offset[0]} to {self.bead_offset[-1]}"
            )
        if (np.diff(self.bead_offset) < 0).any():
            raise ValueError("bead_offset must never fall")
        if (np.diff(self.patch_id.astype(np.int64)) <= 0).any():
            raise ValueError("patch_id must rise: an id is missing its order or is given twice")
        if (self.patch_id >> np.uint64(SLOT_BITS) != self.snapshot_index).any():
            raise ValueError(f"patch_id must be of snapshot {self.snapshot_index} throughout")
        if not np.isfinite(self.time_us):
            raise ValueError(f"time_us must be finite, got {self.time_us}")

    def __len__(self) -> int:
        return len(self.patch_id)

    @property
    def slot(self) -> NDArray[np.int64]:
        """The index of the central primary, or from their number on, of the control; (N,)."""
        return (self.patch_id & np.uint64((1 << SLOT_BITS) - 1)).astype(np.int64)


def _require(
    name: str, values: NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    if values.dtype != dtype or values.shape != shape:
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} of shape {shape}, "
            f"got {values.dtype} of shape {values.shape}"
        )
