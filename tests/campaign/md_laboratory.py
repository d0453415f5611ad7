"""Small membranes, patches and jobs for the tests of molecular dynamics and feedback."""

from dataclasses import replace
from functools import cache

import numpy as np

from campaign.molecular_dynamics.hidden_truth import true_model, truth_tables
from campaign.molecular_dynamics.job import JobSpec
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.settings import HiddenTruth
from campaign.recovery import lone_patch
from continuum.configuration import load_model, read_configuration
from continuum.patch_batch import PatchBatch
from continuum.patch_files import write_patches

START = load_model("laptop-pre-campaign")
TRUTH = true_model(HiddenTruth(), read_configuration("laptop-pre-campaign"))
STATES = [state.name for state in START.proteins.states]
INNER = START.lipids.leaflet == 0
RASA, RASB, ZRASA, MRASA, ZRAFA, MRAFA = 0, 1, 3, 4, 6, 7
PAPS, PAP6, CHOL = 5, 6, 7


@cache
def tables():
    return truth_tables(TRUTH)


def patch_of(state=RASA, patch_id=0, *, density=None, beads=()):
    """Bulk membrane around a bead at the centre and `beads`, (state, x, y) each.

    A state of -1 stands for no protein; `density` (8,) replaces that of the inner lipids.
    """
    patch = lone_patch(START, max(state, 0), patch_id)
    batch = patch.batch
    if density is not None:
        full = batch.density.copy()
        full[0, INNER] = np.asarray(density, dtype=np.float32)[:, None, None]
        batch = replace(batch, density=full)
    states = [state, *(bead[0] for bead in beads)] if state >= 0 else []
    places = [(0.0, 0.0), *(bead[1:] for bead in beads)] if state >= 0 else []
    batch = replace(
        batch,
        central_state=np.array([state], dtype=np.int8),
        bead_offset=np.array([0, len(states)]),
        bead_state=np.array(states, dtype=np.int8),
        bead_position_nm=np.array(places, dtype=np.float64).reshape(-1, 2),
    )
    return Patch(batch=batch, species=patch.species, state_names=patch.state_names)


def batch_of(patches, snapshot_index=0):
    """Patches as one snapshot's batch, slots 0, 1, ..."""
    batches = [patch.batch for patch in patches]
    offsets = np.cumsum([0, *(len(batch.bead_state) for batch in batches)])
    joined = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in (
            "density",
            "centre_nm",
            "central_state",
            "n_ras",
            "n_raf",
            "kind",
            "bead_position_nm",
            "bead_state",
        )
    }
    return PatchBatch(
        **joined,
        patch_id=np.arange(len(batches), dtype=np.uint64) + np.uint64(snapshot_index << 20),
        bead_offset=offsets.astype(np.int64),
        time_us=0.0,
        snapshot_index=snapshot_index,
        parameter_version=0,
    )


def write_batch(path, patches, snapshot_index=0):
    batch = batch_of(patches, snapshot_index)
    write_patches(path, batch, START.lipids.labels, STATES)
    return batch


def spec_of(folder, patch_id, **changes):
    """A short job on a patch of folder/patches.h5."""
    values = {
        "job": f"{patch_id:016x}",
        "attempt": 1,
        "patch_id": patch_id,
        "patch_file": folder / "patches.h5",
        "engine": "poisson",
        "seed": 100 + patch_id,
        "duration_us": 1.0,
        "time_limit_s": 60.0,
        "result_path": folder / "md" / f"{patch_id:016x}.h5",
    }
    return JobSpec(**(values | changes))
