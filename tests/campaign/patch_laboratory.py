"""Small batches of patches, and changed ones, for tests of what carries them."""

from dataclasses import fields

import numpy as np

from continuum.patch_batch import PatchBatch

SPECIES = ("inner A", "outer B")
STATES = ("RASa", "RASb")


def batch_of(snapshot: int, count: int = 5, controls: int = 2) -> PatchBatch:
    """Random patches, the same for the same snapshot; the last `controls` without a protein."""
    rng = np.random.default_rng(snapshot)
    central = np.arange(count, dtype=np.int8) % 2
    central[count - controls :] = -1
    return PatchBatch(
        patch_id=(np.uint64(snapshot << 20) + np.arange(count, dtype=np.uint64)),
        density=rng.random((count, len(SPECIES), 37, 37), dtype=np.float32),
        centre_nm=rng.random((count, 2)),
        central_state=central,
        n_ras=np.ones(count, np.uint8),
        n_raf=np.zeros(count, np.uint8),
        kind=np.arange(count).astype(np.uint8) % 4,
        bead_offset=np.arange(count + 1, dtype=np.int64) * 2,
        bead_position_nm=rng.random((2 * count, 2)),
        bead_state=np.zeros(2 * count, np.int8),
        time_us=0.5 * snapshot,
        snapshot_index=snapshot,
        parameter_version=0,
    )


def changed(batch: PatchBatch, **values: object) -> PatchBatch:
    """The batch with other values, unchecked, as a fault would leave it."""
    other = object.__new__(PatchBatch)
    for field in fields(batch):
        object.__setattr__(other, field.name, values.get(field.name, getattr(batch, field.name)))
    return other
