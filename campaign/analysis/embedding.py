"""Embeddings of the patches of a run, file by file; a worker holds the densities of one."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.workers import Workers
from continuum import PatchBatch, read_patches
from continuum.atomic_file import reading, stored_hdf5
from ml.encoder import SHIPPED, Encoder, load_encoder

SLOT_BITS = 20
SAME_US = 1e-6  # times within this are one


class AnalysisError(ValueError):
    """A run that lacks what an analysis needs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddedSnapshot:
    """One snapshot's patches without their densities, with the means of these and embeddings."""

    snapshot_index: int
    time_us: float
    parameter_version: int
    patch_id: NDArray[np.uint64]  # (N,)
    centre_nm: NDArray[np.float64]  # (N, 2)
    central_state: NDArray[np.int8]  # (N,)
    proteins: NDArray[np.int64]  # (N,)
    kind: NDArray[np.uint8]  # (N,)
    mean_density: NDArray[np.float32]  # (N, 14) nm⁻²
    z: NDArray[np.float32]  # (N, d)

    @property
    def slot(self) -> NDArray[np.int64]:
        """The slot of each patch in its snapshot."""
        return (self.patch_id & np.uint64((1 << SLOT_BITS) - 1)).astype(np.int64)


def patch_files(
    run: Path, *, first_us: float = 0.0, last_us: float = math.inf, every: int = 1
) -> list[Path]:
    """Patch files of a run in the order of their snapshots, from `first_us` to `last_us`.

    Raises AnalysisError where there are none, and says what the run has instead.
    """
    folder = run / "patches"
    files = sorted(folder.glob("[0-9]*.h5"))
    if not files:
        raise AnalysisError(f"{folder} holds no patch files; a run with patches is required")
    begin, end = 0, len(files)
    if first_us > 0:
        begin = bisect_left(files, first_us - SAME_US, key=read_time_us)
    if begin == len(files):
        raise AnalysisError(
            f"{folder} holds no patch files from {first_us:g} µs on, its {len(files)} end at "
            f"{read_time_us(files[-1]):g} µs: lower --first-us"
        )
    if last_us < math.inf:
        end = bisect_right(files, last_us + SAME_US, key=read_time_us)
    if end <= begin:
        raise AnalysisError(f"{folder} holds no patch files from {first_us:g} to {last_us:g} µs")
    return files[begin:end:every]


def read_time_us(path: Path) -> float:
    """The time of a patch file's snapshot, µs."""
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        return float(file.attrs["time_us"])


def encoder_of(run: Path, encoder: Path | None) -> Path:
    """The folder of the encoder to look at a run with: the one asked for, else the run's own, else
    the one that ships with `ml`.

    Raises AnalysisError where the run's embeddings come from several encoders, or from another one
    than the run holds.
    """
    if encoder is not None:
        return encoder.resolve()
    own = [path for path in (run / "encoders").glob("[!.]*") if path.is_dir()]
    if len(own) > 1:
        names = ", ".join(sorted(path.name for path in own))
        raise AnalysisError(
            f"{run} holds the encoders {names}: choose one with --encoder; its patches are then "
            "embedded anew"
        )
    return own[0].resolve() if own else SHIPPED


def embed_run(
    files: Sequence[Path], encoder: Path, *, proteins_only: bool, workers: Workers | None = None
) -> Iterator[EmbeddedSnapshot]:
    """Embedded snapshots in the order of the files. Raises ValueError for a damaged file."""
    tasks = [(path.resolve(), encoder.resolve(), proteins_only) for path in files]
    return (workers or Workers()).each(embed_file, tasks, "embedding snapshots")


def embed_file(path: Path, encoder: Path, proteins_only: bool) -> EmbeddedSnapshot:
    """The patches of one file, in the order of their slots."""
    batch = read_patches(path)
    chosen = protein_patches(batch) if proteins_only else np.arange(len(batch.patch_id))
    density = batch.density[chosen]
    return EmbeddedSnapshot(
        snapshot_index=batch.snapshot_index,
        time_us=batch.time_us,
        parameter_version=batch.parameter_version,
        patch_id=batch.patch_id[chosen],
        centre_nm=batch.centre_nm[chosen],
        central_state=batch.central_state[chosen],
        proteins=batch.n_ras[chosen].astype(np.int64) + batch.n_raf[chosen],
        kind=batch.kind[chosen],
        mean_density=density.mean(axis=(2, 3)),
        z=loaded(encoder).encode(density),
    )


def protein_patches(batch: PatchBatch) -> NDArray[np.int64]:
    """Indices of the patches around proteins, in the order of their slots."""
    slots = (batch.patch_id & np.uint64((1 << SLOT_BITS) - 1)).astype(np.int64)
    proteins = np.flatnonzero(batch.central_state >= 0)
    return proteins[np.argsort(slots[proteins], kind="stable")]


@lru_cache(maxsize=4)
def loaded(folder: Path) -> Encoder:
    """An encoder, once a process: loading it for each file would cost more than encoding."""
    return load_encoder(folder, threads=1)
