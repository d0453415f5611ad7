"""Patches on their way through the run's folder: RUN/patches, and permits back in RUN/control.

The rank side writes one durable file a snapshot and then waits for a permit to pass the boundary;
the campaign's side lists what is new, in order. The folder is the queue, so nothing is lost with
either process, and patches that are there already serve as an input as well.
"""

import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from continuum.atomic_file import write_atomically
from continuum.patch_batch import PatchBatch
from continuum.patch_files import read_patches, write_patches

_ARRAYS = (
    "patch_id",
    "density",
    "centre_nm",
    "central_state",
    "n_ras",
    "n_raf",
    "kind",
    "bead_offset",
    "bead_position_nm",
    "bead_state",
)
_POLL_S = 0.01


class Fenced(RuntimeError):
    """A younger incarnation of the same continuum is at work: this one must end."""


class DivergentBatch(RuntimeError):
    """Two batches of one snapshot differ, which a deterministic continuum never produces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """The membrane may pass every boundary up to `snapshot_index`, the last one with a version."""

    snapshot_index: int
    parameter_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedBatch:
    """What the journal says of a batch that is durable in `path`."""

    snapshot_index: int
    time_us: float
    count: int
    controls: int
    crc32: int
    parameter_version: int
    path: Path


class PatchTransport(Protocol):
    """How rank 0 hands patches to the campaign."""

    def send(self, batch: PatchBatch) -> None:
        """Return once the batch is safe; raise Fenced or DivergentBatch if it must not be taken."""

    def wait_permit(self, snapshot_index: int) -> Permit:
        """Wait until the membrane may pass a boundary; raise Fenced if it never may."""


def batch_crc32(batch: PatchBatch) -> int:
    """CRC-32 of the content of a batch, the same however it travelled or is stored."""
    crc = zlib.crc32(
        np.array([batch.time_us], np.float64).tobytes()
        + np.array([batch.snapshot_index, batch.parameter_version], np.int64).tobytes()
    )
    for name in _ARRAYS:
        array = np.ascontiguousarray(getattr(batch, name))
        crc = zlib.crc32(np.array(array.shape, np.int64).tobytes(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return crc


def patch_path(run: Path, snapshot_index: int) -> Path:
    """Where the patches of a snapshot lie."""
    return run / "patches" / f"{snapshot_index:010d}.h5"


def store_batch(
    run: Path,
    batch: PatchBatch,
    species: Sequence[str],
    state_names: Sequence[str],
    *,
    compression: int = 0,
) -> ArrivedBatch:
    """Write a batch durably, once: one that is there already is left as it is.

    Raises DivergentBatch where the one that is there differs, OSError if there is no room.
    """
    path, crc32 = patch_path(run, batch.snapshot_index), batch_crc32(batch)
    if path.exists():
        stored = batch_crc32(read_patches(path))
        if stored != crc32:
            raise DivergentBatch(
                f"{path} holds patches with checksum {stored:08x}, and the continuum now sends"
                f" others, {crc32:08x}: nothing is overwritten"
            )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_patches(path, batch, species, state_names, compression=compression)
    return describe_batch(batch, crc32, path)


def describe_batch(batch: PatchBatch, crc32: int, path: Path) -> ArrivedBatch:
    return ArrivedBatch(
        snapshot_index=batch.snapshot_index,
        time_us=batch.time_us,
        count=len(batch),
        controls=int((batch.central_state < 0).sum()),
        crc32=crc32,
        parameter_version=batch.parameter_version,
        path=path,
    )


def write_permit(run: Path, permit: Permit) -> None:
    """Let the membrane pass up to a boundary."""
    _write_control(run, "permit.json", asdict(permit))


def read_permit(run: Path) -> Permit | None:
    """The newest permit, None before the first. ValueError where the file is not one."""
    values = _read_control(run, "permit.json", ("snapshot_index", "parameter_version"))
    return None if values is None else Permit(**values)


def write_incarnation(run: Path, incarnation: int) -> None:
    """Make `incarnation` the only one whose patches are taken."""
    _write_control(run, "incarnation.json", {"incarnation": incarnation})


def read_incarnation(run: Path) -> int | None:
    """The incarnation at work, None before the first. ValueError where the file is not one."""
    values = _read_control(run, "incarnation.json", ("incarnation",))
    return None if values is None else values["incarnation"]


def check_incarnation(run: Path, incarnation: int) -> None:
    """Raise Fenced where a younger incarnation has been started."""
    current = read_incarnation(run)
    if current is not None and current > incarnation:
        raise Fenced(
            f"incarnation {incarnation} of the continuum of {run} was replaced by {current}"
        )


class SpoolTransport:
    """Rank side: a file a snapshot, a permit file back. Safe to repeat after a crash."""

    def __init__(
        self,
        run: Path,
        incarnation: int,
        species: Sequence[str],
        state_names: Sequence[str],
        *,
        compression: int = 0,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """`waiting` is called again and again while there is no permit."""
        self._run, self._incarnation = run, incarnation
        self._species, self._state_names = tuple(species), tuple(state_names)
        self._compression = compression
        self._waiting = waiting

    def send(self, batch: PatchBatch) -> None:
        check_incarnation(self._run, self._incarnation)
        store_batch(
            self._run, batch, self._species, self._state_names, compression=self._compression
        )

    def wait_permit(self, snapshot_index: int) -> Permit:
        while True:
            permit = read_permit(self._run)
            if permit is not None and permit.snapshot_index >= snapshot_index:
                return permit
            check_incarnation(self._run, self._incarnation)
            self._waiting()
            time.sleep(_POLL_S)


class SpoolIntake:
    """Campaign side: the batches that have appeared since the last look, in order."""

    def __init__(self, run: Path, next_snapshot: int = 0) -> None:
        """`next_snapshot` is the first one not yet taken in."""
        self._run, self._next = run, next_snapshot

    def poll(self) -> list[ArrivedBatch]:
        """New batches, without gaps. ValueError that names the file where one is damaged."""
        arrived = []
        while (path := patch_path(self._run, self._next)).exists():
            batch = read_patches(path)
            arrived.append(describe_batch(batch, batch_crc32(batch), path))
            self._next += 1
        return arrived


def _write_control(run: Path, name: str, values: dict[str, int]) -> None:
    folder = run / "control"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / name, json.dumps(values) + "\n")


def _read_control(run: Path, name: str, keys: tuple[str, ...]) -> dict[str, int] | None:
    path = run / "control" / name
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if (
        not isinstance(values, dict)
        or sorted(values) != sorted(keys)
        or not all(type(value) is int and value >= 0 for value in values.values())
    ):
        raise ValueError(f"{path} must hold whole numbers {', '.join(keys)}, it holds {values!r}")
    return values
