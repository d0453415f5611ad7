"""Patches as arrays to learn from: N images of 14 lipid densities, and where each came from.

Densities are kept as float16: its rounding, at most 5e-4 of the value, is a hundredth of a
channel's standard deviation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

LEAFLETS = {
    "inner": ("POPC", "PAPC", "POPE", "DIPE", "DPSM", "PAPS", "PAP6", "CHOL"),
    "outer": ("POPC", "PAPC", "POPE", "DIPE", "DPSM", "CHOL"),
}
CHANNELS: tuple[str, ...] = tuple(
    f"{leaflet} {lipid}" for leaflet, lipids in LEAFLETS.items() for lipid in lipids
)
INNER_CHANNELS = len(LEAFLETS["inner"])
NODES = 37
SLOT_BITS = 20

_AT_ONCE = 256


class PatchDataError(ValueError):
    """Patches that cannot be used: missing, damaged, of other channels, not finite, one class."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchSet:
    """N patches of one or many runs, ordered by run, snapshot and slot. Nobody writes into it."""

    density: NDArray[np.floating]  # (N, 14, 37, 37)  nm⁻², [channel, y, x]; float16 or float32
    patch_id: NDArray[np.uint64]  # (N,)
    run: NDArray[np.int16]  # (N,)    which run, in the order of the sources
    snapshot_index: NDArray[np.int64]  # (N,)
    time_us: NDArray[np.float64]  # (N,)
    slot: NDArray[np.int32]  # (N,)    the protein followed, or the number of the control
    kind: NDArray[np.uint8]  # (N,)    y: 0 none, 1 one RAS, 2 one RAS-RAF, 3 the rest
    central_state: NDArray[np.int8]  # (N,)    -1 for controls
    n_ras: NDArray[np.uint8]  # (N,)
    n_raf: NDArray[np.uint8]  # (N,)
    centre_nm: NDArray[np.float64]  # (N, 2)  x, y
    parameter_version: NDArray[np.int32]  # (N,)
    side_nm: NDArray[np.float64]  # (runs,)  of the square membrane; NaN if unknown
    fingerprint: str

    def __len__(self) -> int:
        return len(self.patch_id)

    @property
    def history(self) -> NDArray[np.int64]:
        """(N,) one number for each protein followed in one run (for each control slot too)."""
        return (self.run.astype(np.int64) << SLOT_BITS) | self.slot

    def subset(self, index: NDArray[np.integer] | NDArray[np.bool_] | slice) -> "PatchSet":
        """The patches at `index`, in its order; a slice copies no density."""
        picked = {
            field.name: getattr(self, field.name)[index]
            for field in fields(self)
            if field.name not in ("side_nm", "fingerprint")
        }
        return replace(self, **picked)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standardisation:
    """The mean and standard deviation of each channel over a training set, nm⁻²."""

    mean: NDArray[np.float32]  # (14,)
    std: NDArray[np.float32]  # (14,)

    @classmethod
    def of(cls, patches: PatchSet, index: NDArray[np.integer] | None = None) -> "Standardisation":
        """Over every node of the patches at `index`, in one streaming pass.

        Raises PatchDataError if there is no patch, or if a channel does not vary.
        """
        where = np.sort(np.arange(len(patches)) if index is None else np.asarray(index))
        if len(where) == 0:
            raise PatchDataError("a standardisation needs at least one patch, got none")
        total, squares = np.zeros(len(CHANNELS)), np.zeros(len(CHANNELS))
        for block in blocks(where):
            density = load_batch(patches, block).astype(np.float64)
            total += density.sum(axis=(0, 2, 3))
            squares += np.square(density).sum(axis=(0, 2, 3))
        count = len(where) * NODES**2
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        for channel, spread, level in zip(CHANNELS, std, mean, strict=True):
            if not spread > 1e-6 * max(abs(level), 1e-3):
                raise PatchDataError(f"{channel} must vary, it is {level:.4g} nm⁻² everywhere")
        return cls(mean=mean.astype(np.float32), std=std.astype(np.float32))

    def apply(self, density: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, 14, 37, 37) nm⁻² to the standardised images that a network reads."""
        standard: NDArray[np.float32] = np.subtract(
            density, self.mean[:, None, None], dtype=np.float32
        )
        standard /= self.std[:, None, None]
        return standard

    def apply_to_profiles(self, profiles: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, 8, 38) radial profiles in nm⁻² to those of the standardised images.

        Exact, because a maximum and a mean of four commute with a scale > 0 and a shift.
        """
        channels = profiles.shape[-2]
        mean, std = self.mean[:channels, None], self.std[:channels, None]
        standard: NDArray[np.float32] = (profiles.astype(np.float32) - mean) / std
        return standard


def load_batch(patches: PatchSet, index: NDArray[np.integer]) -> NDArray[np.float32]:
    """(B, 14, 37, 37) nm⁻²: the densities at `index`, in its order."""
    batch: NDArray[np.float32] = patches.density[index].astype(np.float32)
    return batch


def blocks(index: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    """`index` in pieces small enough to hold their densities several times."""
    for start in range(0, len(index), _AT_ONCE):
        yield index[start : start + _AT_ONCE]
