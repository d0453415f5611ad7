"""A run and its folder: snapshots, patches, checkpoints, parameters taken up on the way.

At every snapshot boundary, in this order: patches go to the sink, fields to `snapshots/`, a new
version from `parameters/` is taken up and recorded, and a checkpoint is written. A run that is
killed continues from its last checkpoint and repeats what followed bit for bit, taking up recorded
versions where they were taken up before; so every patch exists once, with one content.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.checkpoints import (
    checkpoint_writer,
    discard_partial_files,
    latest_checkpoint,
    open_checkpoint,
)
from continuum.halo import World
from continuum.membrane import Membrane
from continuum.parameter_versions import latest_version, read_parameter_version, version_path
from continuum.parameters import Model
from continuum.paraview import write_sidecar
from continuum.patch_batch import PatchBatch
from continuum.patch_files import write_patches
from continuum.patch_sampling import HALO_ROWS, sample_patches
from continuum.patches import assemble_patches, patch_centres
from continuum.snapshots import SnapshotInfo, beads_of, snapshot_writer

Array = NDArray[Any]
PatchSink = Callable[[PatchBatch], None]
Progress = Callable[["Membrane", int], None]

ADOPTED = "adopted.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What to run and where; `sink` None writes no patches."""

    model: Model
    configuration_hash: str
    folder: Path
    sink: PatchSink | None
    last_snapshot: int


def snapshots_in(model: Model) -> int:
    """Index of the last snapshot of a whole run."""
    return int(np.floor(model.duration_us / model.output.snapshot_interval_us + 1e-9))


def directory_sink(model: Model, folder: Path) -> PatchSink:
    """Patches as one HDF5 file a snapshot, `folder/0000000123.h5` (DESIGN 3.2)."""
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(state.name for state in model.proteins.states)

    def write(batch: PatchBatch) -> None:
        path = folder / f"{batch.snapshot_index:010d}.h5"
        write_patches(path, batch, model.lipids.labels, names, compression=model.output.compression)

    return write


def run(plan: RunPlan, world: World, progress: Progress) -> Membrane:
    """Run from the beginning to the plan's last snapshot."""
    membrane = Membrane(plan.model, world)
    return _continue(plan, membrane, 0, progress, resumed=False)


def resume(plan: RunPlan, world: World, progress: Progress) -> Membrane:
    """Continue from the last checkpoint, or begin where there is none yet.

    Raises ValueError for checkpoints of another configuration or all damaged.
    """
    folder = plan.folder / "checkpoints"
    if world.rank == 0:
        for sub in ("checkpoints", "snapshots", "patches"):
            discard_partial_files(plan.folder / sub)
    path = world.broadcast(
        latest_checkpoint(folder, plan.configuration_hash) if world.rank == 0 else None
    )
    membrane = Membrane(plan.model, world)
    if path is None:
        return _continue(plan, membrane, 0, progress, resumed=False)
    index = _restore(membrane, path, plan)
    return _continue(plan, membrane, index, progress, resumed=True)


def _continue(
    plan: RunPlan, membrane: Membrane, index: int, progress: Progress, *, resumed: bool
) -> Membrane:
    output = plan.model.output
    steps = round(output.snapshot_interval_us / plan.model.numerics.time_step_us)
    while True:
        if not resumed:
            _at_boundary(plan, membrane, index)
        resumed = False
        if index >= plan.last_snapshot:
            return membrane
        for _ in range(steps):
            membrane.advance()
            progress(membrane, index)
        membrane.check_finite()
        index += 1


def _at_boundary(plan: RunPlan, membrane: Membrane, index: int) -> None:
    output = plan.model.output
    if plan.sink is not None:
        cut_patches(membrane, index, plan.sink)
    if index % output.field_every == 0:
        write_snapshot(membrane, index, plan.folder / "snapshots")
    _adopt_parameters(plan, membrane, index)
    if index % output.checkpoint_every == 0 or index >= plan.last_snapshot:
        _write_checkpoint(plan, membrane, index)


def cut_patches(membrane: Membrane, index: int, sink: PatchSink, rotation: float = 0.0) -> None:
    """Cut the patches of a snapshot across all slabs and hand them to the sink on rank 0."""
    model, fields = membrane.model, membrane.fields
    side_nm = model.membrane.side_nm
    centres = patch_centres(
        membrane.position,
        membrane.state,
        side_nm,
        control_count=model.output.control_patches,
        control_distance_nm=model.output.control_distance_nm,
        seed=model.seed,
        snapshot_index=index,
    )
    membrane.world.fill_halo(fields.density, fields.halo)
    spare = fields.halo - HALO_ROWS
    rows = fields.density.shape[1]
    density = membrane.world.sum_to_root(
        sample_patches(
            fields.density[:, spare : rows - spare],
            fields.quantum,
            centres.centre_nm,
            side_nm,
            first_row=membrane.slab.first_row,
            halo=HALO_ROWS,
            rotation=rotation,
        )
    )
    if density is not None:
        sink(
            assemble_patches(
                centres,
                density,
                membrane.position,
                membrane.state,
                side_nm,
                time_us=membrane.time_us,
                snapshot_index=index,
                parameter_version=membrane.parameter_version,
                rotation=rotation,
            )
        )


def write_snapshot(membrane: Membrane, index: int, folder: Path) -> None:
    """Write the densities and proteins; rank 0 takes them row block by row block from all ranks."""
    model, world, slab = membrane.model, membrane.world, membrane.slab
    own, quantum = membrane.fields.own_density(), membrane.fields.quantum
    slabs = world.gather_to_root((slab.first_row, slab.rows))
    if slabs is None:
        for layer in own:
            world.send_rows(_as_density(layer, quantum))
        return
    folder.mkdir(parents=True, exist_ok=True)
    info = SnapshotInfo(
        snapshot_index=index,
        time_us=membrane.time_us,
        spacing_nm=model.membrane.spacing_nm,
        parameter_version=membrane.parameter_version,
        seed=model.seed,
        species=model.lipids.labels,
        bulk_density=model.lipids.bulk_density,
        state_names=tuple(state.name for state in model.proteins.states),
        state_kinds=tuple(state.kind for state in model.proteins.states),
    )
    with snapshot_writer(
        folder / f"{index:010d}.h5",
        info,
        beads_of(membrane.position, membrane.state),
        (slab.cells, slab.cells),
        compression=model.output.compression,
    ) as writer:
        for species, layer in enumerate(own):
            writer.write_rows(species, slab.first_row, _as_density(layer, quantum))
            for source, (first_row, rows) in enumerate(slabs[1:], start=1):
                received = np.empty((rows, slab.cells), np.float32)
                world.receive_rows(received, source)
                writer.write_rows(species, first_row, received)
    write_sidecar(folder / f"{index:010d}.h5")


def _as_density(quanta: Array, quantum: float) -> Array:
    density: Array = quanta.astype(np.float32)
    density *= np.float32(quantum)
    return density


def _adopt_parameters(plan: RunPlan, membrane: Membrane, index: int) -> None:
    """Take up the version recorded for this boundary, else the newest there is, and record it.

    Boundaries that change nothing are recorded too: a version that arrives between a crash and the
    resumption must not be taken up where the first pass did without it.
    """
    version = None
    if membrane.world.rank == 0:
        folder = plan.folder / "parameters"
        recorded = _recorded_versions(folder)
        if index in recorded:
            version = recorded[index]
        else:
            version = max(latest_version(folder) or 0, membrane.parameter_version)
            _record_version(folder, index, version)
    version = membrane.world.broadcast(version)
    if version is not None and version != membrane.parameter_version:
        _set_version(plan, membrane, version)


def _recorded_versions(folder: Path) -> dict[int, int]:
    """Version by snapshot index; a last line cut short by a crash does not count."""
    path = folder / ADOPTED
    if not path.exists():
        return {}
    whole = path.read_text().rpartition("\n")[0]
    records = [json.loads(line) for line in whole.splitlines()]
    return {record["snapshot_index"]: record["parameter_version"] for record in records}


def _record_version(folder: Path, index: int, version: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ADOPTED, "a+b") as file:
        content_end = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.truncate(file.read(content_end).rfind(b"\n") + 1)
        record = {"snapshot_index": index, "parameter_version": version}
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _set_version(plan: RunPlan, membrane: Membrane, version: int) -> None:
    path = version_path(plan.folder / "parameters", version)
    parameters = read_parameter_version(path)
    model = plan.model
    expected = tuple(state.name for state in model.proteins.states), model.lipids.labels
    if (parameters.state_names, parameters.lipid_labels) != expected:
        raise ValueError(f"{path} is for other protein states or lipids than this run's")
    membrane.set_potentials(parameters.potentials, version)


def _write_checkpoint(plan: RunPlan, membrane: Membrane, index: int) -> None:
    world, slab, cells = membrane.world, membrane.slab, membrane.slab.cells
    slabs = world.gather_to_root((slab.first_row, slab.rows))
    arrays = membrane.fields.state_arrays()
    if slabs is None:
        for _, layers, _ in arrays:
            for layer in layers:
                world.send_rows(layer)
        return
    attributes = {
        "step": membrane.step,
        "parameter_version": membrane.parameter_version,
        "started": membrane.fields.started,
    }
    folder = plan.folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint_writer(folder, index, plan.configuration_hash, attributes) as writer:
        writer.write("position_nm", membrane.position)
        writer.write("state", membrane.state)
        for name, layers, factor in arrays:
            for number, layer in enumerate(layers):
                key = f"{name}.{number}"
                writer.declare(key, (cells // factor, cells // factor), layer.dtype)
                writer.write_rows(key, slab.first_row // factor, layer)
                for source, (first_row, rows) in enumerate(slabs[1:], start=1):
                    received = np.empty((rows // factor, cells // factor), layer.dtype)
                    world.receive_rows(received, source)
                    writer.write_rows(key, first_row // factor, received)


def _restore(membrane: Membrane, path: Path, plan: RunPlan) -> int:
    """Fill a membrane from a checkpoint; its snapshot index."""
    slab = membrane.slab
    with open_checkpoint(path, plan.configuration_hash) as checkpoint:
        version = int(checkpoint.attributes["parameter_version"])
        if version:
            _set_version(plan, membrane, version)
        membrane.step = int(checkpoint.attributes["step"])
        membrane.fields.started = bool(checkpoint.attributes["started"])
        membrane.position = checkpoint.read("position_nm")
        membrane.state = checkpoint.read("state")
        for name, layers, factor in membrane.fields.state_arrays():
            for number, layer in enumerate(layers):
                first, rows = slab.first_row // factor, slab.rows // factor
                layer[:] = checkpoint.read_rows(f"{name}.{number}", first, rows)
        membrane.fields.restored()
        return checkpoint.index


def claim_folder(folder: Path) -> None:
    """Make a run folder; FileExistsError where it holds a run already."""
    if any((folder / name).exists() for name in ("config.resolved.yaml", "snapshots", "patches")):
        raise FileExistsError(
            f"{folder} already holds a run: continue it with `continuum resume {folder}`,"
            " or choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to")
