"""Small patch files in the real format, made up: lipids that gather around, or leave, proteins."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from ml.patch_set import CHANNELS, NODES, PatchSet

INNER_PER_NM2 = [0.229, 0.124, 0.089, 0.266, 0.178, 0.266, 0.036, 0.462]
OUTER_PER_NM2 = [0.433, 0.215, 0.036, 0.109, 0.431, 0.557]
BULK_PER_NM2 = np.array([*INNER_PER_NM2, *OUTER_PER_NM2])
# How a lipid answers a protein at its centre, as a share of the bulk; RAF makes it stronger.
RESPONSE = np.array([-0.1, -0.05, -0.1, 0.05, -0.15, 0.3, 1.5, -0.1, *[0.0] * 6])
SIDE_NM = 300.0
STATES = (0, 3, 6)  # RASa, zRASa, zRAFa

PatchMaker = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def write_run(tmp_path_factory: pytest.TempPathFactory) -> PatchMaker:
    """A function that writes a run folder of `snapshots` files and gives its path."""

    def write(snapshots: int = 3, ras: int = 6, controls: int = 3, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("run")
        (folder / "patches").mkdir()
        config = {"membrane": {"side_nm": SIDE_NM}, "seed": seed}
        (folder / "config.resolved.yaml").write_text(yaml.safe_dump(config))
        for snapshot in range(snapshots):
            write_patch_file(
                folder / "patches" / f"{snapshot:010d}.h5", snapshot, ras, controls, seed
            )
        return folder

    return write


@pytest.fixture(scope="session")
def run_folder(write_run: PatchMaker) -> Path:
    """A run of three snapshots with six proteins and three controls; nobody writes into it."""
    return write_run()


def write_patch_file(
    path: Path, snapshot: int = 0, ras: int = 6, controls: int = 3, seed: int = 0
) -> None:
    """One file of schema bilayer/patches/1 with every kind of patch, if `ras` is four or more."""
    rng = np.random.default_rng([seed, snapshot])
    count = ras + controls
    kind = np.where(np.arange(count) < ras, 1 + np.arange(count) % 3, 0).astype(np.uint8)
    positions, states, offsets = [], [], [0]
    density = np.empty((count, len(CHANNELS), NODES, NODES), np.float32)
    for patch in range(count):
        beads, bead_states = _beads(int(kind[patch]), rng)
        density[patch] = _density(beads, bead_states, rng)
        positions.append(beads)
        states.append(bead_states)
        offsets.append(offsets[-1] + len(beads))
    bead_state = np.concatenate(states).astype(np.int8)
    raf = [int(np.sum(patch == STATES[2])) for patch in states]
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "bilayer/patches/1"
        file.attrs["species"] = list(CHANNELS)
        file.attrs["state_names"] = ["RASa", "RASb", "RASc", "zRASa", "mRASa", "mRASb", "zRAFa"]
        file.attrs["node_spacing_nm"] = 30.0 / 36
        file.attrs["time_us"] = 0.5 * snapshot
        file.attrs["snapshot_index"] = snapshot
        file.attrs["parameter_version"] = snapshot // 2
        file["patch_id"] = (np.uint64(snapshot) << np.uint64(20)) + np.arange(count, dtype="u8")
        file["centre_nm"] = rng.uniform(0, SIDE_NM, (count, 2))
        file["central_state"] = np.where(np.arange(count) < ras, 0, -1).astype(np.int8)
        file["n_ras"] = np.array([len(s) for s in states], np.uint8) - np.array(raf, np.uint8)
        file["n_raf"] = np.array(raf, np.uint8)
        file["kind"] = kind
        file["bead_offset"] = np.array(offsets, np.int64)
        file["bead_position_nm"] = np.concatenate(positions).astype(np.float64)
        file["bead_state"] = bead_state
        file.create_dataset(
            "density", data=density, chunks=(1, *density.shape[1:]), fletcher32=True
        )


def _beads(kind: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions (M, 2) and states (M,) of the proteins in a patch of `kind`."""
    ras, raf = STATES[0], STATES[2]
    states = {0: [], 1: [ras], 2: [STATES[1], raf], 3: [ras, *[ras] * int(rng.integers(1, 3))]}
    chosen = np.array(states[kind], np.int64)
    places = rng.uniform(-12, 12, (len(chosen), 2))
    if len(chosen):
        places[0] = 0.0
    if kind == 2:
        places[1] = rng.normal(0, 1.5, 2)
    return places, chosen


def _density(
    beads: NDArray[np.float64], states: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    nm = np.linspace(-15, 15, NODES)
    response = np.zeros((NODES, NODES))
    for (x, y), state in zip(beads, states, strict=True):
        reach = 3.0 if state == STATES[2] else 2.0
        response += np.exp(-((nm[None, :] - x) ** 2 + (nm[:, None] - y) ** 2) / (2 * reach**2))
    noise = 1 + 0.06 * rng.standard_normal((len(CHANNELS), NODES, NODES))
    return BULK_PER_NM2[:, None, None] * (1 + RESPONSE[:, None, None] * response) * noise


def patches_of(density: NDArray[np.floating], kind: NDArray[np.integer]) -> PatchSet:
    """A patch set in memory with these densities, each patch its own history."""
    count = len(density)
    return PatchSet(
        density=density,
        patch_id=np.arange(count, dtype=np.uint64),
        run=np.zeros(count, np.int16),
        snapshot_index=np.zeros(count, np.int64),
        time_us=np.zeros(count),
        slot=np.arange(count, dtype=np.int32),
        kind=kind.astype(np.uint8),
        central_state=np.where(kind > 0, 0, -1).astype(np.int8),
        n_ras=(kind > 0).astype(np.uint8),
        n_raf=(kind == 2).astype(np.uint8),
        centre_nm=np.zeros((count, 2)),
        parameter_version=np.zeros(count, np.int32),
        side_nm=np.array([SIDE_NM]),
        fingerprint="made up",
    )
