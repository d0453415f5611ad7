"""Embeddings of the patches of a run, file by file on several cores or a Ray cluster.

Workers come from joblib, whose backend may be Ray's; memory holds one snapshot of densities a
worker, and the embeddings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from continuum import PatchBatch, read_patches
from continuum.atomic_file import reading, stored_hdf5
from ml.encoder import load_encoder

SLOT_BITS = 20


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


def patch_files(run: Path, *, first_us: float = 0.0, every: int = 1) -> list[Path]:
    """Patch files of a run in the order of their snapshots, from `first_us` on.

    Raises AnalysisError where there are none.
    """
    folder = run / "patches"
    files = sorted(folder.glob("[0-9]*.h5"))
    if first_us > 0:
        files = [path for path in files if read_time_us(path) >= first_us]
    if not files:
        since = f" from {first_us:g} µs on" if first_us > 0 else ""
        raise AnalysisError(f"{folder} holds no patch files{since}; a run with patches is required")
    return files[::every]


def read_time_us(path: Path) -> float:
    """The time of a patch file's snapshot, µs."""
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        return float(file.attrs["time_us"])


def embed_run(
    files: Sequence[Path], encoder: Path | None, *, proteins_only: bool, workers: int = 2
) -> Iterator[EmbeddedSnapshot]:
    """Embedded snapshots in the order of the files, with a progress bar on a terminal.

    `encoder` None is the one that ships with `ml`. Raises AnalysisError and ml's EncoderError.
    """
    tasks = (joblib.delayed(embed_file)(path, encoder, proteins_only) for path in files)
    done = joblib.Parallel(n_jobs=workers, return_as="generator")(tasks)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        yield from progress.track(done, total=len(files))


def embed_file(path: Path, encoder: Path | None, proteins_only: bool) -> EmbeddedSnapshot:
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
        z=_encoder(encoder).encode(density),
    )


def protein_patches(batch: PatchBatch) -> NDArray[np.int64]:
    """Indices of the patches around proteins, in the order of their slots."""
    slots = (batch.patch_id & np.uint64((1 << SLOT_BITS) - 1)).astype(np.int64)
    proteins = np.flatnonzero(batch.central_state >= 0)
    return proteins[np.argsort(slots[proteins], kind="stable")]


_loaded: dict[Path | None, Any] = {}


def _encoder(path: Path | None) -> Any:
    """One encoder a process; loading it for each file would cost more than encoding."""
    if path not in _loaded:
        _loaded[path] = load_encoder(path, threads=1)
    return _loaded[path]
