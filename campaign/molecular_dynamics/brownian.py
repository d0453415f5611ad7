"""Explicit lipids as Brownian particles around the proteins of a patch (DESIGN 3.5).

The lipids of the inner leaflet move in the potentials of mean force of the hidden truth,

    W_i(r) = -Σ_b ln g*_{s(b), i}(|r - R_b|),   g* = exp(-u + Σ_j n_j c_ij * h_j),

which hold the protein's potential and the mean field of all lipids, outer leaflet included. So
their density around a lone protein is exactly the equilibrium of the continuum's functional, and
around several it is Kirkwood's superposition. Proteins are held where the patch has them, as by
position restraints. The square is periodic, as the boxes of the published simulations were: each
lipid keeps its number, which the patch's density decides, and no force reaches past half its side.
The start is drawn from equilibrium, so that every frame counts.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from campaign.molecular_dynamics.brownian_kernels import add_radial_fields, advance
from campaign.molecular_dynamics.frame_statistics import slowest_time
from campaign.molecular_dynamics.hidden_truth import TruthTables
from campaign.molecular_dynamics.job import BadInput
from campaign.molecular_dynamics.patch import Patch
from campaign.molecular_dynamics.results import BINS, MdResult, Surroundings
from campaign.molecular_dynamics.settings import BrownianSettings
from continuum.atomic_file import atomic_path, reading
from continuum.patch_batch import SIDE_NM
from continuum.philox import key_of
from continuum.potential_inversion import BIN_NM

Array = NDArray[np.float64]

NEAR_NM = 3.0  # lipids within it decide how many frames are independent
_BLOCK_FRAMES = 50  # compiled code lets nothing else run, so it is left this often
_LEAST_G = 1e-6


@dataclass(slots=True, kw_only=True, eq=False)
class _Trajectory:
    """Where a simulation stands; changed in place as it proceeds."""

    position: Array  # (P, 2)  nm
    counts: NDArray[np.int64]  # (C, L, bins)
    near: NDArray[np.int64]  # (frames, L)
    frame: int = 0
    accepted: int = 0


class BrownianEngine:
    """Simulates patches under the force field of a hidden truth."""

    def __init__(self, settings: BrownianSettings, truth: TruthTables) -> None:
        self._settings = settings
        self._truth = truth
        self._table = -np.log(np.maximum(truth.g, _LEAST_G))
        self._steps_per_frame = steps_per_frame(settings)
        self._step_nm = np.sqrt(2.0 * truth.diffusivity * settings.time_step_us)

    def run(self, patch: Patch, seed: int, duration_us: float, workspace: Path) -> MdResult:
        """Simulate, from the last checkpoint in `workspace` if there is one of this very job."""
        self._truth.check(patch)
        settings = self._settings
        frames = round(duration_us / settings.frame_interval_us)
        if frames < 1:
            raise BadInput(
                f"patch {patch.patch_id}: duration_us must be >= "
                f"{settings.frame_interval_us} (brownian.frame_interval_us), got {duration_us}"
            )
        counted = self._truth.counted_beads(patch)
        bead_nm = patch.bead_position_nm + SIDE_NM / 2
        field = self.field(patch.bead_state, bead_nm)
        lipid = self._lipids(patch, seed)
        checkpoint = _Checkpoint(workspace, _fingerprint(patch, seed, frames, settings))
        trajectory = checkpoint.read()
        if trajectory is None:
            trajectory = _Trajectory(
                position=_equilibrium_positions(field, lipid, seed),
                counts=np.zeros((len(counted), len(field), BINS), dtype=np.int64),
                near=np.zeros((frames, len(field)), dtype=np.int64),
            )
        key_0, key_1 = key_of(seed)
        between = max(1, round(settings.checkpoint_interval_us / settings.frame_interval_us))
        while trajectory.frame < frames:
            first = trajectory.frame
            last = min(first + _BLOCK_FRAMES, frames, (first // between + 1) * between)
            trajectory.accepted += advance(
                trajectory.position,
                lipid,
                field,
                self._step_nm,
                bead_nm[counted],
                trajectory.counts,
                trajectory.near[first:last],
                first,
                last - first,
                self._steps_per_frame,
                SIDE_NM,
                BIN_NM,
                NEAR_NM,
                key_0,
                key_1,
            )
            trajectory.frame = last
            if last % between == 0 and last < frames:
                checkpoint.write(trajectory)
        return self._result(patch, counted, bead_nm, trajectory)

    def field(self, bead_state: NDArray[np.int8], bead_nm: Array) -> Array:
        """W_i on a periodic square of nodes (L, n, n) at [y, x], kT, for beads in [0, 30) nm."""
        nodes = round(SIDE_NM / self._settings.field_spacing_nm)
        field = np.zeros((len(self._truth.lipid_labels), nodes, nodes))
        dr_nm = float(self._truth.radii_nm[1])
        add_radial_fields(field, bead_nm, bead_state.astype(np.int64), self._table, dr_nm, SIDE_NM)
        return field

    def _lipids(self, patch: Patch, seed: int) -> NDArray[np.int64]:
        """Kind of each particle (P,): the patch's mean densities, rounded up or down at random."""
        inner = [patch.species.index(label) for label in self._truth.lipid_labels]
        rows = np.trapezoid(patch.density[inner].astype(np.float64), axis=2)
        mean = np.trapezoid(rows, axis=1) / (patch.density.shape[1] - 1) ** 2
        if not (mean > 0).all():
            worst = int(np.argmin(mean))
            raise BadInput(
                f"patch {patch.patch_id}: the mean density of {self._truth.lipid_labels[worst]} "
                f"must be > 0, got {mean[worst]:.4g} per nm²"
            )
        expected = mean * SIDE_NM**2
        number = np.floor(expected + _rng(seed, "numbers").random(len(expected))).astype(np.int64)
        return np.repeat(np.arange(len(number)), number)

    def _result(
        self, patch: Patch, counted: list[int], bead_nm: Array, trajectory: _Trajectory
    ) -> MdResult:
        frames, interval_us = trajectory.frame, self._settings.frame_interval_us
        tau = slowest_time(trajectory.near.astype(np.float64)) if counted else 0.5
        counts = np.zeros((len(self._truth.state_names), len(self._table[0]), BINS))
        for bead, of_bead in zip(counted, trajectory.counts, strict=True):
            counts[patch.bead_state[bead]] += of_bead
        moves = len(trajectory.position) * frames * self._steps_per_frame
        return MdResult(
            counts=counts,
            frames=frames,
            effective_frames=frames / (2.0 * tau),
            simulated_us=frames * interval_us,
            surroundings=Surroundings(
                bead_state=patch.bead_state,
                bead_position_nm=bead_nm,
                counted=np.array(counted, dtype=np.int64),
                box_nm=SIDE_NM,
            ),
            summary={
                "correlation_time_us": tau * interval_us,
                "acceptance": trajectory.accepted / max(moves, 1),
                "lipids": float(len(trajectory.position)),
                "beads": float(len(patch.bead_state)),
            },
        )


class _Checkpoint:
    """One file in the workspace of a job, used only by the very same job."""

    def __init__(self, workspace: Path, fingerprint: str) -> None:
        self._path = workspace / "checkpoint.h5"
        self._fingerprint = fingerprint

    def read(self) -> _Trajectory | None:
        """The last checkpoint; None where there is none, or none of this job that is whole."""
        try:
            with reading(self._path, "checkpoint"), h5py.File(self._path, "r") as file:
                if file.attrs["fingerprint"] != self._fingerprint:
                    return None
                return _Trajectory(
                    position=file["position"][...],
                    counts=file["counts"][...],
                    near=file["near"][...],
                    frame=int(file.attrs["frame"]),
                    accepted=int(file.attrs["accepted"]),
                )
        except ValueError:
            return None

    def write(self, trajectory: _Trajectory) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["fingerprint"] = self._fingerprint
            file.attrs["frame"] = trajectory.frame
            file.attrs["accepted"] = trajectory.accepted
            file["position"] = trajectory.position
            file["counts"] = trajectory.counts
            file["near"] = trajectory.near


def _equilibrium_positions(field: Array, lipid: NDArray[np.int64], seed: int) -> Array:
    """Positions (P, 2) nm with density exp(-W), cell by cell of the field's nodes."""
    rng = _rng(seed, "positions")
    nodes = field.shape[1]
    position = np.empty((len(lipid), 2))
    for kind, energy in enumerate(field):
        mine = np.flatnonzero(lipid == kind)
        cumulative = np.cumsum(np.exp(energy.min() - energy.ravel()))
        drawn = rng.random(len(mine)) * cumulative[-1]
        node = np.minimum(np.searchsorted(cumulative, drawn, side="right"), energy.size - 1)
        jitter = rng.random((len(mine), 2)) - 0.5
        position[mine, 0] = node % nodes + jitter[:, 0]
        position[mine, 1] = node // nodes + jitter[:, 1]
    return np.asarray(position * (SIDE_NM / nodes) % SIDE_NM)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    return np.random.Generator(np.random.Philox(sequence))


def _fingerprint(patch: Patch, seed: int, frames: int, settings: BrownianSettings) -> str:
    content = zlib.crc32(patch.density.tobytes(), zlib.crc32(patch.bead_position_nm.tobytes()))
    return json.dumps([patch.patch_id, content, seed, frames, settings.model_dump()])


def steps_per_frame(settings: BrownianSettings) -> int:
    """Time steps between two frames; ValueError where they do not fit."""
    ratio = settings.frame_interval_us / settings.time_step_us
    if not (round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-6 * ratio):
        raise ValueError(
            f"brownian.frame_interval_us must be a whole multiple of brownian.time_step_us = "
            f"{settings.time_step_us}, got {settings.frame_interval_us}"
        )
    return round(ratio)
