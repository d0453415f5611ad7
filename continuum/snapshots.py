"""Snapshots: the lipid fields and the proteins at one time, in HDF5 (DESIGN 3.3).

Densities of a noisy membrane hardly compress: for 14 x 2400 x 2400 values gzip level 1 takes
12 s of CPU for 68 % of the size, and rounded to 14 significant bits 7 s for 40 %, against 0.6 s for
plain checksummed values. So plain is the default, and both are choices. (The LZF filter is not
offered: ParaView cannot read it.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from continuum.atomic_file import atomic_hdf5, reading, stored_hdf5

FLOAT32_MANTISSA_BITS = 23
_CHUNK_BYTES = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SnapshotInfo:
    """What a snapshot says besides the fields.

    `species` are names unique across leaflets, such as "inner POPC"; `state_kinds` gives the kind
    of bead of each of `state_names`.
    """

    snapshot_index: int
    time_us: float
    spacing_nm: float
    parameter_version: int
    seed: int
    species: tuple[str, ...]
    bulk_density: NDArray[np.float64]  # (S,)   nm⁻²
    state_names: tuple[str, ...]
    state_kinds: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.spacing_nm > 0:
            raise ValueError(f"spacing_nm must be > 0, got {self.spacing_nm}")
        if self.bulk_density.shape != (len(self.species),):
            raise ValueError(
                f"bulk_density must be one number for each of {len(self.species)} species, "
                f"got shape {self.bulk_density.shape}"
            )
        if len(self.state_kinds) != len(self.state_names):
            raise ValueError(
                f"{len(self.state_names)} states need as many kinds, got {len(self.state_kinds)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beads:
    """The M protein beads that are present, and the bonds between them."""

    position_nm: NDArray[np.float64]  # (M, 2)   x, y
    state: NDArray[np.int8]  # (M,)
    bead_id: NDArray[np.int64]  # (M,)     primary i: i; its ligand: P + i
    bonds: NDArray[np.int64]  # (B, 2)   ids of primary and ligand


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """A snapshot as read; `density` and `species` hold the species that were asked for."""

    info: SnapshotInfo
    species: tuple[str, ...]
    density: NDArray[np.float32]  # (len(species), ny, nx)   nm⁻²
    beads: Beads

    @property
    def time_us(self) -> float:
        return self.info.time_us

    @property
    def spacing_nm(self) -> float:
        return self.info.spacing_nm

    @property
    def side_nm(self) -> tuple[float, float]:
        """Extent along x and y."""
        rows, columns = self.density.shape[1:]
        return columns * self.spacing_nm, rows * self.spacing_nm

    def field(self, species: str) -> NDArray[np.float32]:
        """The density (ny, nx) of one species; ValueError if it was not read."""
        if species not in self.species:
            raise ValueError(f"no density of {species!r}; there are {', '.join(self.species)}")
        values: NDArray[np.float32] = self.density[self.species.index(species)]
        return values


def beads_of(position_nm: NDArray[np.float64], state: NDArray[np.int8]) -> Beads:
    """Present beads of slot arrays (2P, 2), (2P,) in which slot P + i is the ligand of slot i."""
    primaries = len(state) // 2
    present = np.flatnonzero(state >= 0)
    bound = np.flatnonzero(state[primaries:] >= 0)
    return Beads(
        position_nm=position_nm[present],
        state=state[present],
        bead_id=present.astype(np.int64),
        bonds=np.stack([bound, bound + primaries], axis=1).astype(np.int64),
    )


class SnapshotWriter:
    """Takes the density of a snapshot in any pieces of whole rows; made by `snapshot_writer`."""

    def __init__(self, density: h5py.Dataset, mantissa_bits: int) -> None:
        self._density = density
        self._mantissa_bits = mantissa_bits
        self._missing = np.ones(density.shape[:2], dtype=np.bool_)

    def write_rows(self, species: int, first_row: int, values: NDArray[np.float32]) -> None:
        """Rows [first_row, first_row + len(values)) of one species, in nm⁻²."""
        rows = slice(first_row, first_row + len(values))
        self._density[species, rows] = round_mantissa(values, self._mantissa_bits)
        self._missing[species, rows] = False

    def check_complete(self) -> None:
        if self._missing.any():
            species, row = np.argwhere(self._missing)[0]
            raise ValueError(
                f"a snapshot needs every row, {int(self._missing.sum())} were not written, "
                f"the first of them row {row} of species {species}"
            )


@contextmanager
def snapshot_writer(
    path: Path | str,
    info: SnapshotInfo,
    beads: Beads,
    shape: tuple[int, int],
    *,
    compression: int = 0,
    mantissa_bits: int = FLOAT32_MANTISSA_BITS,
) -> Iterator[SnapshotWriter]:
    """Yield a writer for the density (S, *shape); the file appears when the block succeeds.

    `compression` is a gzip level, 0 for none; `mantissa_bits` of 13 keeps densities to 6e-5
    relative and lets them compress. Raises ValueError if a row is missing at the end, OSError if
    there is no room; then nothing is written.
    """
    rows, columns = shape
    packed = {"compression": "gzip", "compression_opts": compression, "shuffle": True}
    with atomic_hdf5(Path(path), "snapshot") as file:
        file.attrs["snapshot_index"] = info.snapshot_index
        file.attrs["time_us"] = info.time_us
        file.attrs["spacing_nm"] = info.spacing_nm
        file.attrs["parameter_version"] = info.parameter_version
        file.attrs["seed"] = np.uint64(info.seed)
        file.attrs["bulk_density"] = info.bulk_density
        for name in ("species", "state_names", "state_kinds"):
            names = np.array(getattr(info, name), dtype=h5py.string_dtype())
            file.attrs.create(name, names, dtype=h5py.string_dtype())
        file["bead_position_nm"] = beads.position_nm
        file["bead_state"] = beads.state
        file["bead_id"] = beads.bead_id
        file["bonds"] = beads.bonds
        density = file.create_dataset(
            "density",
            (len(info.species), rows, columns),
            np.float32,
            chunks=(1, min(rows, max(1, _CHUNK_BYTES // (4 * columns))), columns),
            fletcher32=True,
            **(packed if compression else {}),
        )
        writer = SnapshotWriter(density, mantissa_bits)
        yield writer
        writer.check_complete()


def read_snapshot(path: Path | str, species: Sequence[str] | None = None) -> Snapshot:
    """The snapshot in a file, with the densities of `species` only (None: all; (): none).

    Raises FileNotFoundError, or ValueError that names the file if it is truncated, damaged,
    foreign, of another schema, or lacks a species.
    """
    path = Path(path)
    with stored_hdf5(path, "snapshot") as file, reading(path, "snapshot"):
        info = _read_info(file)
        wanted = info.species if species is None else tuple(species)
        for name in wanted:
            if name not in info.species:
                raise ValueError(f"{path} has no {name!r}; it has {', '.join(info.species)}")
        stored = file["density"]
        density = np.empty((len(wanted), *stored.shape[1:]), dtype=np.float32)
        for index, name in enumerate(wanted):
            stored.read_direct(density, np.s_[info.species.index(name)], np.s_[index])
        beads = Beads(
            position_nm=file["bead_position_nm"][()],
            state=file["bead_state"][()],
            bead_id=file["bead_id"][()],
            bonds=file["bonds"][()],
        )
    return Snapshot(info=info, species=wanted, density=density, beads=beads)


def round_mantissa(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Round to `bits` explicit bits of mantissa, half to even: relative error <= 2^-(bits + 1)."""
    if not 1 <= bits <= FLOAT32_MANTISSA_BITS:
        raise ValueError(f"mantissa_bits must be 1 to {FLOAT32_MANTISSA_BITS}, got {bits}")
    if bits == FLOAT32_MANTISSA_BITS:
        return values
    dropped = np.uint32(FLOAT32_MANTISSA_BITS - bits)
    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (words >> dropped) & np.uint32(1)
    half = np.uint32((1 << (int(dropped) - 1)) - 1)
    kept = np.uint32(0xFFFFFFFF & ~((1 << int(dropped)) - 1))
    return ((words + half + odd) & kept).view(np.float32)


def _read_info(file: h5py.File) -> SnapshotInfo:
    attributes = file.attrs
    return SnapshotInfo(
        snapshot_index=int(attributes["snapshot_index"]),
        time_us=float(attributes["time_us"]),
        spacing_nm=float(attributes["spacing_nm"]),
        parameter_version=int(attributes["parameter_version"]),
        seed=int(attributes["seed"]),
        species=tuple(str(name) for name in attributes["species"]),
        bulk_density=np.asarray(attributes["bulk_density"], dtype=np.float64),
        state_names=tuple(str(name) for name in attributes["state_names"]),
        state_kinds=tuple(str(name) for name in attributes["state_kinds"]),
    )
