"""Patches: 30 nm squares of the membrane around proteins, and protein-free controls (DESIGN 3.2).

Cutting is pure: every rank computes the same centres, samples the nodes whose stencil starts in its
own rows, and leaves the others 0, so that the sum over ranks is exact and no rank needs the whole
membrane.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from continuum.control_patches import place_controls
from continuum.patch_batch import (
    SIDE_NM,
    SLOT_BITS,
    PatchBatch,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchCentres:
    """Where the patches of one snapshot are cut."""

    slot: NDArray[np.int64]  # (N,)
    centre_nm: NDArray[np.float64]  # (N, 2)
    central_state: NDArray[np.int8]  # (N,)   -1 for controls


def patch_centres(
    position_nm: NDArray[np.float64],
    state: NDArray[np.int8],
    side_nm: float,
    *,
    control_count: int,
    control_distance_nm: float,
    seed: int,
    snapshot_index: int,
) -> PatchCentres:
    """One patch on each of the P primaries, then the protein-free controls.

    `position_nm` (2P, 2) and `state` (2P,) hold primaries, then their ligands (state -1: absent).
    Control j has slot P + j; one that cannot be placed free of proteins leaves its slot unused. The
    centres depend on the arguments alone (see `place_controls`).

    Raises ValueError if the membrane is narrower than a patch or there are more than 2^20 slots.
    """
    _require_room(side_nm)
    primaries = len(state) // 2
    if primaries + control_count > 1 << SLOT_BITS:
        raise ValueError(
            f"a snapshot holds at most {1 << SLOT_BITS} patches, "
            f"got {primaries} proteins and {control_count} controls"
        )
    controls, placed = place_controls(
        position_nm[state >= 0],
        side_nm,
        window_nm=SIDE_NM,
        count=control_count,
        distance_nm=control_distance_nm,
        seed=seed,
        snapshot_index=snapshot_index,
    )
    return PatchCentres(
        slot=np.concatenate([np.arange(primaries), primaries + np.flatnonzero(placed)]),
        centre_nm=np.concatenate([position_nm[:primaries], controls[placed]]),
        central_state=np.concatenate(
            [state[:primaries], np.full(int(placed.sum()), -1, dtype=np.int8)]
        ),
    )


def assemble_patches(
    centres: PatchCentres,
    density: NDArray[np.float32],
    position_nm: NDArray[np.float64],
    state: NDArray[np.int8],
    side_nm: float,
    *,
    time_us: float,
    snapshot_index: int,
    parameter_version: int,
    rotation: float = 0.0,
) -> PatchBatch:
    """A batch from sampled nodes (N, S, 37, 37), summed over ranks, and the proteins around them.

    Proteins are found, and their positions given, along the axes of the patch, which are turned by
    `rotation` radians from x to y. Counts above 255 are stored as 255.
    """
    offset, slots, relative_nm = _beads_in_squares(
        centres.centre_nm, position_nm, state, side_nm, rotation
    )
    patch = np.repeat(np.arange(len(centres.slot)), np.diff(offset))
    is_primary = slots < len(state) // 2
    n_primary = np.bincount(patch[is_primary], minlength=len(centres.slot))
    n_ligand = np.bincount(patch[~is_primary], minlength=len(centres.slot))
    return PatchBatch(
        patch_id=np.uint64(snapshot_index << SLOT_BITS) | centres.slot.astype(np.uint64),
        density=density,
        centre_nm=centres.centre_nm,
        central_state=centres.central_state,
        n_ras=np.minimum(n_primary, 255).astype(np.uint8),
        n_raf=np.minimum(n_ligand, 255).astype(np.uint8),
        kind=kind_of(n_primary, n_ligand),
        bead_offset=offset,
        bead_position_nm=relative_nm,
        bead_state=state[slots],
        time_us=time_us,
        snapshot_index=snapshot_index,
        parameter_version=parameter_version,
    )


def kind_of(n_primary: NDArray[np.int64], n_ligand: NDArray[np.int64]) -> NDArray[np.uint8]:
    """y of the paper: 0 for no protein, 1 for (1, 0), 2 for (1, 1), 3 for the rest."""
    kind = np.full(len(n_primary), 3, dtype=np.uint8)
    kind[(n_primary == 0) & (n_ligand == 0)] = 0
    kind[(n_primary == 1) & (n_ligand == 0)] = 1
    kind[(n_primary == 1) & (n_ligand == 1)] = 2
    return kind


def _beads_in_squares(
    centre_nm: NDArray[np.float64],
    position_nm: NDArray[np.float64],
    state: NDArray[np.int8],
    side_nm: float,
    rotation: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Beads with |Δx|, |Δy| <= 15 nm of the nearest image, nearest first: offsets, slots, Δ."""
    reach_nm = SIDE_NM / 2 * (abs(np.cos(rotation)) + abs(np.sin(rotation)))
    if not side_nm >= 2 * reach_nm * (1 - 1e-12):
        raise ValueError(
            f"a patch turned by {rotation} rad needs a membrane of {2 * reach_nm:.2f} nm, "
            f"got {side_nm} nm"
        )
    present = np.flatnonzero(state >= 0)
    cosine, sine = np.cos(rotation), np.sin(rotation)
    offset = np.zeros(len(centre_nm) + 1, dtype=np.int64)
    slots = []
    relative_nm = []
    for patch, centre in enumerate(centre_nm):
        away = position_nm[present] - centre
        away -= side_nm * np.rint(away / side_nm)
        if rotation:
            away = away @ np.array([[cosine, -sine], [sine, cosine]])
        inside = np.flatnonzero((np.abs(away) <= SIDE_NM / 2).all(axis=1))
        nearest_first = inside[np.argsort((away[inside] ** 2).sum(axis=1), kind="stable")]
        offset[patch + 1] = offset[patch] + len(inside)
        slots.append(present[nearest_first])
        relative_nm.append(away[nearest_first])
    if not slots:
        return offset, np.zeros(0, dtype=np.int64), np.zeros((0, 2))
    return offset, np.concatenate(slots), np.concatenate(relative_nm)


def _require_room(side_nm: float) -> None:
    if not side_nm >= SIDE_NM:
        raise ValueError(f"patches need a membrane of at least {SIDE_NM} nm, got {side_nm} nm")
