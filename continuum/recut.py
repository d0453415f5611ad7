"""Patches cut anew from stored snapshots, at any angle: views of the same surroundings.

A metric learns invariance to rotation from views of one patch that differ in their angle alone. The
patch ids are those of the run, so that the views of a patch can be matched.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from continuum.parameters import Model
from continuum.patch_batch import PatchBatch
from continuum.patch_files import write_patches
from continuum.patch_sampling import sample_patches
from continuum.patches import assemble_patches, patch_centres
from continuum.snapshots import Snapshot, read_snapshot

QUANTUM = 2.0**-27  # nm⁻²


def recut(snapshot: Snapshot, model: Model, rotation: float) -> PatchBatch:
    """The patches of a snapshot with their axes turned by `rotation` radians from x to y.

    Rotation 0 gives the patches of the run to the precision of the snapshot's float32. Raises
    ValueError where the snapshot is not of the model's species and proteins.
    """
    info, side_nm = snapshot.info, model.membrane.side_nm
    if info.species != model.lipids.labels:
        raise ValueError(f"the snapshot must hold {model.lipids.labels}, it holds {info.species}")
    position, state = _slots(snapshot, model.proteins.count)
    centres = patch_centres(
        position,
        state,
        side_nm,
        control_count=model.output.control_patches,
        control_distance_nm=model.output.control_distance_nm,
        seed=model.seed,
        snapshot_index=info.snapshot_index,
    )
    quanta = np.rint(snapshot.density / QUANTUM).astype(np.int32)
    density = sample_patches(quanta, QUANTUM, centres.centre_nm, side_nm, rotation=rotation)
    return assemble_patches(
        centres,
        density,
        position,
        state,
        side_nm,
        time_us=info.time_us,
        snapshot_index=info.snapshot_index,
        parameter_version=info.parameter_version,
        rotation=rotation,
    )


def recut_run(run: Path, out: Path, model: Model, copies: int, seed: int) -> Iterator[Path]:
    """Cut every stored snapshot of a run `copies` times; yields the files written.

    Copy c goes to `out/view-c/patches/`; each snapshot has its own angle there, uniform in
    [0, 2π) and keyed by (seed, copy, snapshot). Raises FileNotFoundError without snapshots.
    """
    snapshots = sorted((run / "snapshots").glob("[0-9]*.h5"))
    if not snapshots:
        raise FileNotFoundError(f"{run} holds no snapshots to cut patches from")
    names = tuple(state.name for state in model.proteins.states)
    for path in snapshots:
        snapshot = read_snapshot(path)
        for copy in range(copies):
            index = snapshot.info.snapshot_index
            batch = recut(snapshot, model, angle(seed, copy, index))
            folder = out / f"view-{copy}" / "patches"
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / f"{index:010d}.h5"
            compression = model.output.compression
            write_patches(target, batch, model.lipids.labels, names, compression=compression)
            yield target


def angle(seed: int, copy: int, snapshot_index: int) -> float:
    """The rotation of a view, radians in [0, 2π)."""
    generator = np.random.Generator(
        np.random.Philox(key=seed, counter=[0, 0, copy, snapshot_index])
    )
    return float(generator.uniform(0.0, 2 * np.pi))


def _slots(snapshot: Snapshot, primaries: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Positions (2P, 2) and states (2P,) by slot, as the membrane holds them."""
    beads = snapshot.beads
    if len(beads.bead_id) and int(beads.bead_id.max()) >= 2 * primaries:
        raise ValueError(
            f"the snapshot must be of {primaries} proteins, it has one with number "
            f"{int(beads.bead_id.max())}"
        )
    position = np.full((2 * primaries, 2), np.nan)
    state = np.full(2 * primaries, -1, dtype=np.int8)
    position[beads.bead_id] = beads.position_nm
    state[beads.bead_id] = beads.state
    return position, state
