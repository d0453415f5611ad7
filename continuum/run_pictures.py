"""The pictures of a run: its last frame, an animation, patches of the four kinds, and numbers."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from continuum.atomic_file import write_atomically
from continuum.patch_batch import PatchBatch
from continuum.patch_files import read_patches
from continuum.render import render_animation, render_membrane, render_patches, save_figure
from continuum.snapshots import Snapshot, read_snapshot


def draw_run(path: Path, out: Path | None, fields: Sequence[str], animation: str) -> Iterator[Path]:
    """Draw a run folder, or one snapshot file; yields the files written.

    Raises FileNotFoundError where there is nothing to draw, ValueError for unknown fields.
    """
    chosen = tuple(fields) or None
    if path.is_file():
        out = out or path.parent
        yield _drawn_frame(read_snapshot(path), out / f"{path.stem}.png", chosen)
        return
    snapshots = sorted((path / "snapshots").glob("[0-9]*.h5"))
    if not snapshots:
        raise FileNotFoundError(f"{path} holds no snapshots to draw")
    out = out or path / "report"
    out.mkdir(parents=True, exist_ok=True)
    last = read_snapshot(snapshots[-1])
    yield _drawn_frame(last, out / "membrane.png", chosen)
    if animation != "none" and len(snapshots) > 1:
        render_animation(snapshots, out / f"membrane.{animation}", chosen, dpi=56)
        yield out / f"membrane.{animation}"
    batches = sorted((path / "patches").glob("[0-9]*.h5"))
    if batches:
        gallery = _one_of_each_kind(batches)
        figure = render_patches(
            gallery,
            last.info.species,
            chosen,
            bulk_density=last.info.bulk_density,
            state_kinds=last.info.state_kinds,
        )
        save_figure(figure, out / "patches.png")
        yield out / "patches.png"
    yield _written_numbers(last, batches, out / "membrane.json")


def _drawn_frame(snapshot: Snapshot, path: Path, fields: Sequence[str] | None) -> Path:
    save_figure(render_membrane(snapshot, fields), path)
    return path


def _one_of_each_kind(batches: Sequence[Path]) -> PatchBatch:
    """The latest snapshot's patches, or an earlier one's if that shows more kinds."""
    best = read_patches(batches[-1])
    for path in reversed(batches[-20:-1]):
        if len(set(best.kind.tolist())) == 4:
            break
        batch = read_patches(path)
        if len(set(batch.kind.tolist())) > len(set(best.kind.tolist())):
            best = batch
    return best


def _written_numbers(snapshot: Snapshot, batches: Sequence[Path], path: Path) -> Path:
    info = snapshot.info
    numbers: dict[str, object] = {
        "time_us": info.time_us,
        "species": {
            name: {
                "bulk_per_nm2": float(bulk),
                "min_per_nm2": float(field.min()),
                "max_per_nm2": float(field.max()),
                "relative_standard_deviation": float(field.std() / bulk),
            }
            for name, bulk, field in zip(
                info.species, info.bulk_density, snapshot.density, strict=True
            )
        },
    }
    if batches:
        batch = read_patches(batches[-1])
        primaries = batch.central_state >= 0
        numbers["patches_by_kind"] = np.bincount(batch.kind, minlength=4).tolist()
        numbers["mean_primaries_in_a_protein_patch"] = (
            float(batch.n_ras[primaries].mean()) if primaries.any() else None
        )
    write_atomically(path, json.dumps(numbers, indent=1) + "\n")
    return path
