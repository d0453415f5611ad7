"""The HDF5 patch files of continuum runs, found, checked and read (DESIGN 3.2)."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import psutil
import yaml
from numpy.typing import NDArray

from ml.patch_set import CHANNELS, NODES, SLOT_BITS, PatchDataError, PatchSet

SCHEMA = "bilayer/patches/1"
_SHAPE = (len(CHANNELS), NODES, NODES)
# What h5py raises on a file that is damaged or lacks what was asked of it.
_UNREADABLE = (OSError, RuntimeError, KeyError, TypeError, ValueError, UnicodeDecodeError)
_PER_PATCH = {
    "patch_id": np.uint64,
    "kind": np.uint8,
    "central_state": np.int8,
    "n_ras": np.uint8,
    "n_raf": np.uint8,
    "centre_nm": np.float64,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Snapshot:
    path: Path
    run: int
    time_us: float
    snapshot_index: int
    parameter_version: int
    arrays: dict[str, NDArray[np.generic]]
    digest: str

    def __len__(self) -> int:
        return len(self.arrays["patch_id"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchFiles:
    """Patch files whose every dataset but `density` has been read and checked."""

    snapshots: tuple[_Snapshot, ...]
    side_nm: NDArray[np.float64]  # (runs,)

    @classmethod
    def of(cls, sources: Sequence[Path], *, first_us: float = 0.0, every: int = 1) -> "PatchFiles":
        """Those of run folders, folders of patch files, or single files. Raises PatchDataError."""
        if not sources:
            raise PatchDataError("patches need at least one source, got none")
        runs: dict[Path, list[Path]] = {}
        for source in sources:
            for path in _files_of(source):
                held = runs.setdefault(path.parent.resolve(), [])
                if path.resolve() not in held:
                    held.append(path.resolve())
        chosen: list[_Snapshot] = []
        for run, paths in enumerate(runs.values()):
            late = [
                snapshot
                for snapshot in (_read_snapshot(path, run) for path in sorted(paths))
                if snapshot.time_us >= first_us and len(snapshot)
            ]
            chosen += sorted(late, key=lambda snapshot: snapshot.snapshot_index)[::every]
        if not chosen:
            raise PatchDataError(
                f"no patch from {first_us} µs on in {', '.join(str(source) for source in sources)}"
            )
        _refuse_repeats(chosen)
        sides = np.array([_side_nm(folder.parent) for folder in runs])
        return cls(snapshots=tuple(chosen), side_nm=sides)

    def __len__(self) -> int:
        return sum(len(snapshot) for snapshot in self.snapshots)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every file: its name, its ids, kinds and places, its first patch."""
        parts = sorted((snapshot.path.name, snapshot.digest) for snapshot in self.snapshots)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def densities(self) -> Iterator[NDArray[np.float16]]:
        """The densities of one file after the other. Raises PatchDataError."""
        for snapshot in self.snapshots:
            yield _read_density(snapshot)

    def with_density(self, density: NDArray[np.floating]) -> PatchSet:
        """The patch set of these files with `density` (N, 14, 37, 37)."""
        counts = [len(snapshot) for snapshot in self.snapshots]
        arrays = {
            name: np.concatenate([snapshot.arrays[name] for snapshot in self.snapshots])
            for name in _PER_PATCH
        }
        slot = (arrays["patch_id"] & np.uint64((1 << SLOT_BITS) - 1)).astype(np.int32)
        scalars = {
            name: np.repeat(
                np.array([getattr(snapshot, name) for snapshot in self.snapshots], kind), counts
            )
            for name, kind in (
                ("run", np.int16),
                ("snapshot_index", np.int64),
                ("time_us", np.float64),
                ("parameter_version", np.int32),
            )
        }
        return PatchSet(
            density=density,
            slot=slot,
            side_nm=self.side_nm,
            fingerprint=self.fingerprint,
            **arrays,
            **scalars,
        )

    def in_memory(self) -> PatchSet:
        """The patch set with its densities read. Raises PatchDataError if they do not fit."""
        needed = len(self) * int(np.prod(_SHAPE)) * 2
        available = psutil.virtual_memory().available
        if needed > available:
            raise PatchDataError(
                f"{len(self)} patches need {needed / 1e9:.1f} GB of memory, "
                f"{available / 1e9:.1f} GB are free: name a cache folder to map them from"
            )
        density = np.empty((len(self), *_SHAPE), np.float16)
        start = 0
        for part in self.densities():
            density[start : start + len(part)] = part
            start += len(part)
        return self.with_density(density)


def _files_of(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise PatchDataError(f"{source} must be a run folder, a folder of patches or a patch file")
    folder = source / "patches" if (source / "patches").is_dir() else source
    found = sorted(folder.glob("*.h5"))
    if not found:
        raise PatchDataError(f"{folder} holds no patch file (*.h5)")
    return found


def _read_snapshot(path: Path, run: int) -> _Snapshot:
    with _open(path) as file:
        try:
            found = tuple(str(name) for name in file.attrs["species"])
            arrays = {name: file[name][()] for name in _PER_PATCH}
            shape, sample = file["density"].shape, file["density"][:1]
            time_us = float(file.attrs["time_us"])
            snapshot_index = int(file.attrs["snapshot_index"])
            parameter_version = int(file.attrs["parameter_version"])
        except _UNREADABLE as error:
            raise _damaged(path, error) from error
    if found != CHANNELS:
        raise PatchDataError(f"{path} must hold the channels {list(CHANNELS)}, got {list(found)}")
    count = len(arrays["patch_id"])
    if shape != (count, *_SHAPE):
        raise PatchDataError(f"density of {path} must be {(count, *_SHAPE)}, got {shape}")
    for name, kind in _PER_PATCH.items():
        wanted = (count, 2) if name == "centre_nm" else (count,)
        if arrays[name].shape != wanted or arrays[name].dtype != kind:
            given = f"{arrays[name].dtype} {arrays[name].shape}"
            raise PatchDataError(f"{name} of {path} must be {kind.__name__} {wanted}, got {given}")
    if count and arrays["kind"].max() > 3:
        raise PatchDataError(f"kind in {path} must be 0 to 3, got {arrays['kind'].max()}")
    digest = hashlib.sha256(repr((time_us, snapshot_index, parameter_version)).encode())
    for name in _PER_PATCH:
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    digest.update(np.ascontiguousarray(sample).tobytes())
    return _Snapshot(
        path=path,
        run=run,
        time_us=time_us,
        snapshot_index=snapshot_index,
        parameter_version=parameter_version,
        arrays=arrays,
        digest=digest.hexdigest(),
    )


def _read_density(snapshot: _Snapshot) -> NDArray[np.float16]:
    path = snapshot.path
    with _open(path) as file:
        try:
            density = file["density"][()]
        except _UNREADABLE as error:
            raise _damaged(path, error) from error
    if density.shape != (len(snapshot), *_SHAPE):
        raise PatchDataError(f"{path} changed while it was read")
    finite = np.isfinite(density) & (np.abs(density) <= np.finfo(np.float16).max)
    if not finite.all():
        patch, channel, row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise PatchDataError(
            f"density in {path} must be finite, patch {patch} has "
            f"{density[patch, channel, row, column]} nm⁻² of {CHANNELS[channel]} at "
            f"node ({row}, {column})"
        )
    half: NDArray[np.float16] = density.astype(np.float16)
    return half


def _open(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    schema = file.attrs.get("schema", "")
    if schema != SCHEMA:
        file.close()
        raise PatchDataError(f"the schema of {path} must be {SCHEMA!r}, got {schema!r}")
    return file


def _damaged(path: Path, error: BaseException) -> PatchDataError:
    reason = " ".join(str(error).split())
    return PatchDataError(f"{path} is not a whole patch file: {reason}")


def _refuse_repeats(snapshots: Sequence[_Snapshot]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for snapshot in snapshots:
        for patch in snapshot.arrays["patch_id"].tolist():
            other = seen.setdefault((snapshot.run, patch), snapshot.path)
            if other != snapshot.path:
                raise PatchDataError(f"patch {patch} is both in {other} and in {snapshot.path}")
        if len(np.unique(snapshot.arrays["patch_id"])) != len(snapshot):
            raise PatchDataError(f"{snapshot.path} holds the same patch twice")


def _side_nm(run_folder: Path) -> float:
    """Of a run's membrane, whose configuration a campaign keeps beside its own; NaN if unknown."""
    names = ("continuum.resolved.yaml", "config.resolved.yaml")
    path = next((run_folder / name for name in names if (run_folder / name).is_file()), None)
    if path is None:
        return float("nan")
    try:
        config = yaml.safe_load(path.read_text())
        return float(config["membrane"]["side_nm"])
    except (yaml.YAMLError, OSError, KeyError, TypeError, ValueError) as error:
        raise PatchDataError(f"{path} must hold membrane.side_nm: {error}") from error
