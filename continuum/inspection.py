"""What is in a file of a run, as text: snapshot, patches, checkpoint or parameters."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from continuum.atomic_file import FORMATS, reading, schema_of, stored_hdf5
from continuum.checkpoints import open_checkpoint
from continuum.patch_files import read_patches
from continuum.snapshots import read_snapshot

KIND_NAMES = ("no protein", "one primary", "one primary with ligand", "the rest")


def describe_file(path: Path | str) -> str:
    """A summary for people, several lines.

    Raises FileNotFoundError, or ValueError that names the file if it is damaged or none of ours.
    """
    path = Path(path)
    with stored_hdf5(path, *FORMATS) as file:
        schema = schema_of(file)
    kind = next(kind for kind, known in FORMATS.items() if known == schema)
    describe = {
        "snapshot": _snapshot_lines,
        "patches": _patch_lines,
        "checkpoint": _checkpoint_lines,
        "parameters": _parameter_lines,
    }[kind]
    size_mb = path.stat().st_size / 1e6
    return "\n".join([f"{path}: {kind}, schema {schema}, {size_mb:.3g} MB", *describe(path)])


def _snapshot_lines(path: Path) -> Iterator[str]:
    snapshot = read_snapshot(path, ())
    info, beads = snapshot.info, snapshot.beads
    rows, columns = snapshot.density.shape[1:]
    side_x_nm, side_y_nm = snapshot.side_nm
    yield f"snapshot {info.snapshot_index} at {info.time_us:g} µs, seed {info.seed}"
    yield f"parameter version {info.parameter_version}"
    yield f"{columns} x {rows} cells of {info.spacing_nm:g} nm: {side_x_nm:g} x {side_y_nm:g} nm"
    yield from _heading(info.species)
    width = _width(info.species)
    for name, bulk in zip(info.species, info.bulk_density.tolist(), strict=True):
        yield _range_line(name, read_snapshot(path, (name,)).density, width, bulk)
    yield f"{len(beads.state)} beads, {len(beads.bonds)} bonds"
    yield from _state_lines(beads.state, info.state_names)


def _patch_lines(path: Path) -> Iterator[str]:
    batch = read_patches(path)
    with stored_hdf5(path, "patches") as file, reading(path, "patches"):
        species = [str(name) for name in file.attrs["species"]]
        state_names = [str(name) for name in file.attrs["state_names"]]
    yield f"snapshot {batch.snapshot_index} at {batch.time_us:g} µs"
    yield f"parameter version {batch.parameter_version}"
    yield f"{len(batch)} patches of {' x '.join(map(str, batch.density.shape[1:]))}"
    for kind, count in enumerate(np.bincount(batch.kind, minlength=4).tolist()):
        yield f"  {count:5d} with {KIND_NAMES[kind]}"
    if len(batch):
        yield from _heading(species)
        for index, name in enumerate(species):
            yield _range_line(name, batch.density[:, index], _width(species))
        yield f"at most {batch.n_ras.max()} primaries and {batch.n_raf.max()} ligands in a patch"
    yield f"{len(batch.bead_state)} beads in all patches"
    yield from _state_lines(batch.bead_state, state_names)


def _checkpoint_lines(path: Path) -> Iterator[str]:
    with open_checkpoint(path) as checkpoint:
        yield f"checkpoint of snapshot {checkpoint.index}"
        yield f"configuration {checkpoint.configuration_hash}"
        for name, value in checkpoint.attributes.items():
            yield f"  {name} = {value}"
        for name in checkpoint.shapes:
            yield _array_line(name, checkpoint.read(name))
    yield "every checksum is right"


def _parameter_lines(path: Path) -> Iterator[str]:
    with stored_hdf5(path, "parameters") as file, reading(path, "parameters"):
        for name, value in file.attrs.items():
            if name != "schema":
                yield f"  {name} = {value}"
        for name in file:
            dataset = file[name]
            if not isinstance(dataset, h5py.Dataset):
                continue
            if h5py.check_string_dtype(dataset.dtype):
                yield f"  {name}: {', '.join(np.atleast_1d(dataset.asstr()[()]).tolist())}"
            else:
                yield _array_line(name, np.asarray(dataset[()]))


def _heading(species: Sequence[str]) -> Iterator[str]:
    yield f"  {'nm⁻²':{_width(species)}}  {'min':>9}  {'mean':>9}  {'max':>9}"


def _range_line(
    name: str, density: NDArray[np.float32], width: int, bulk_density: float | None = None
) -> str:
    mean = density.mean(dtype=np.float64)
    line = f"  {name:{width}}  {density.min():9.5f}  {mean:9.5f}  {density.max():9.5f}"
    return line if bulk_density is None else f"{line}  (bulk {bulk_density:.5f})"


def _state_lines(state: NDArray[np.int8], names: Sequence[str]) -> Iterator[str]:
    for index, count in enumerate(np.bincount(state, minlength=len(names)).tolist()):
        yield f"  {count:5d} {names[index] if index < len(names) else f'state {index}'}"


def _array_line(name: str, values: NDArray[np.generic]) -> str:
    line = f"  {name}: {values.dtype} {' x '.join(map(str, values.shape)) or 'scalar'}"
    if values.size == 0 or values.dtype.kind not in "iufb":
        return line
    numbers = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if numbers.size == 0:
        return f"{line}, no finite value"
    mean = numbers.mean(dtype=np.float64)
    return f"{line}, {numbers.min():g} to {numbers.max():g}, mean {mean:g}"


def _width(species: Sequence[str]) -> int:
    return max((len(name) for name in species), default=4)
