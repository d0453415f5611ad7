"""Pictures of a membrane: lipid densities relative to bulk, with the proteins on them."""

import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from continuum.atomic_file import write_atomically
from continuum.patch_batch import NODE_SPACING_NM, SIDE_NM, PatchBatch
from continuum.snapshots import Beads, Snapshot, SnapshotInfo, read_snapshot

Limits = Mapping[str, tuple[float, float]]

# Perceptually uniform, and different enough to tell the fields of one figure apart.
_COLOUR_MAPS = ("inferno", "viridis", "cividis", "magma")
# Okabe and Ito's colours that stand out on all of them.
_KIND_COLOURS = ("#ffffff", "#56b4e9", "#ff9e1b", "#cc79a7", "#f0e442")
_KIND_MARKERS = ("o", "s", "^", "D", "v")
_KIND_TITLES = ("no protein", "one {0}", "one {0} with {1}", "several")
_PREFERRED = (("inner", "PAP6"), ("inner", "CHOL"), ("outer", "CHOL"))
_INK = "#222222"


def default_fields(species: Sequence[str]) -> tuple[str, ...]:
    """PAP6 and CHOL of the inner leaflet and CHOL of the outer, or what comes closest."""
    chosen: list[str] = []
    for leaflet, lipid in _PREFERRED:
        same_leaflet = [name for name in species if name.split()[0] == leaflet]
        for name in (f"{leaflet} {lipid}", *same_leaflet, *species):
            if name in species and name not in chosen:
                chosen.append(name)
                break
    return tuple(chosen)


def colour_limits(snapshots: Sequence[Snapshot]) -> dict[str, tuple[float, float]]:
    """For each species read, the range of density / bulk that all but 0.1 % at either end keep."""
    limits: dict[str, tuple[float, float]] = {}
    for snapshot in snapshots:
        for name in snapshot.species:
            low, high = np.percentile(_relative(snapshot, name), (0.1, 99.9)).tolist()
            before = limits.get(name, (math.inf, -math.inf))
            limits[name] = (min(low, before[0]), max(high, before[1]))
    return {name: _opened(low, high) for name, (low, high) in limits.items()}


def render_membrane(
    snapshot: Snapshot, fields: Sequence[str] | None = None, limits: Limits | None = None
) -> Figure:
    """One panel for each field (default: see `default_fields`), proteins drawn by kind.

    `limits` fixes the colour range of fields, in density / bulk. Raises ValueError for a field that
    the snapshot lacks or that was not read.
    """
    fields = default_fields(snapshot.species) if fields is None else tuple(fields)
    if not fields:
        raise ValueError("a picture needs at least one field, got none")
    limits = {**colour_limits([_only(snapshot, fields)]), **(limits or {})}
    figure = _figure(4.3 * len(fields), 5.85)
    axes = figure.subplots(1, len(fields), squeeze=False, sharey=True)[0]
    for index, (name, panel) in enumerate(zip(fields, axes, strict=True)):
        image = panel.imshow(
            _relative(snapshot, name),
            origin="lower",
            extent=(0, snapshot.side_nm[0], 0, snapshot.side_nm[1]),
            cmap=_COLOUR_MAPS[index % len(_COLOUR_MAPS)],
            vmin=limits[name][0],
            vmax=limits[name][1],
        )
        panel.set_title(_title(name), fontsize=12)
        panel.set_xlabel("x (nm)")
        _draw_beads(panel, snapshot.info, snapshot.beads)
        _colour_bar(figure, image, panel, "density / bulk")
    axes[0].set_ylabel("y (nm)")
    _scale_bar(axes[0], snapshot.side_nm[0])
    figure.suptitle(_stamp(snapshot), fontsize=13, color=_INK)
    _legend(figure, _kinds(snapshot.info))
    return figure


def render_animation(
    snapshot_paths: Sequence[Path],
    path: Path | str,
    fields: Sequence[str] | None = None,
    *,
    frames_per_second: float = 8.0,
    dpi: int = 80,
) -> None:
    """An animation of snapshots with one colour range throughout: .gif, or .mp4 if ffmpeg exists.

    Raises ValueError without snapshots, for another suffix, or for .mp4 without ffmpeg.
    """
    path = Path(path)
    if not snapshot_paths:
        raise ValueError("an animation needs at least one snapshot, got none")
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"an animation must end in .gif or .mp4, got {path.name}")
    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise ValueError(f"{path.name} needs ffmpeg, which is not installed; .gif does not")
    if fields is None:
        fields = default_fields(read_snapshot(snapshot_paths[0], ()).info.species)
    chosen = tuple(fields)
    limits: dict[str, tuple[float, float]] = {}
    for snapshot_path in snapshot_paths:
        for name, (low, high) in colour_limits([read_snapshot(snapshot_path, chosen)]).items():
            before = limits.get(name, (low, high))
            limits[name] = (min(low, before[0]), max(high, before[1]))
    writer_type = PillowWriter if path.suffix == ".gif" else FFMpegWriter
    writer = writer_type(fps=frames_per_second)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / path.name
        first = render_membrane(read_snapshot(snapshot_paths[0], chosen), chosen, limits)
        with writer.saving(first, film, dpi):
            for snapshot_path in snapshot_paths:
                writer.fig = render_membrane(read_snapshot(snapshot_path, chosen), chosen, limits)
                writer.grab_frame()
        write_atomically(path, film.read_bytes())


def render_patches(
    batch: PatchBatch,
    species: Sequence[str],
    fields: Sequence[str] | None = None,
    *,
    bulk_density: NDArray[np.float64] | None = None,
    state_kinds: Sequence[str] = (),
) -> Figure:
    """A gallery: the first patch of each kind present (rows) in the chosen fields (columns).

    Densities are divided by `bulk_density` (S,) in nm⁻² if given. `state_kinds` names the kind of
    bead of each protein state. Raises ValueError for an empty batch or an unknown field.
    """
    fields = default_fields(species) if fields is None else tuple(fields)
    if len(batch) == 0 or not fields:
        raise ValueError("a gallery needs at least one patch and one field")
    for name in fields:
        if name not in species:
            raise ValueError(f"no density of {name!r}; there are {', '.join(species)}")
    rows = [(kind, int(np.flatnonzero(batch.kind == kind)[0])) for kind in np.unique(batch.kind)]
    kinds = list(dict.fromkeys(state_kinds)) or ["protein"]
    figure = _figure(2.6 * len(fields) + 1.2, 2.35 * len(rows) + 1.6)
    axes = figure.subplots(len(rows), len(fields), squeeze=False, sharex=True, sharey=True)
    reach_nm = (SIDE_NM + NODE_SPACING_NM) / 2
    for column, name in enumerate(fields):
        index = list(species).index(name)
        bulk = 1.0 if bulk_density is None else float(bulk_density[index])
        shown = batch.density[[patch for _, patch in rows], index] / bulk
        colours = ScalarMappable(
            Normalize(*_opened(float(shown.min()), float(shown.max()))),
            _COLOUR_MAPS[column % len(_COLOUR_MAPS)],
        )
        for panel, (_, patch) in zip(axes[:, column], rows, strict=True):
            panel.imshow(
                batch.density[patch, index] / bulk,
                origin="lower",
                extent=(-reach_nm, reach_nm, -reach_nm, reach_nm),
                cmap=colours.cmap,
                norm=colours.norm,
            )
            beads = slice(batch.bead_offset[patch], batch.bead_offset[patch + 1])
            position_nm, state = batch.bead_position_nm[beads], batch.bead_state[beads]
            for kind_index, kind in enumerate(kinds):
                here = [not state_kinds or state_kinds[s] == kind for s in state.tolist()]
                _draw_kind(panel, position_nm[np.array(here, dtype=bool)], kind_index, 60.0)
        axes[0, column].set_title(_title(name), fontsize=11)
        axes[-1, column].set_xlabel("Δx (nm)")
        unit = "density (nm⁻²)" if bulk_density is None else "density / bulk"
        figure.colorbar(
            colours,
            ax=axes[:, column].tolist(),
            location="bottom",
            label=unit,
            shrink=0.9,
            aspect=18,
            pad=0.02,
        )
    titles = [*kinds, "ligand"][:2]
    for row, (kind, _) in enumerate(rows):
        axes[row, 0].set_ylabel(f"{_KIND_TITLES[kind].format(*titles)}\nΔy (nm)")
    figure.suptitle(
        f"Patches of snapshot {batch.snapshot_index}, t = {batch.time_us:g} µs", color=_INK
    )
    if batch.bead_state.size:
        _legend(figure, kinds)
    return figure


def save_figure(figure: Figure, path: Path | str, dpi: int = 200) -> None:
    """Write a figure, whole or not at all, in the format of the suffix (.png, .pdf, .svg)."""
    path = Path(path)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix(".") or "png", dpi=dpi)
    write_atomically(path, content.getvalue())


def _figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _only(snapshot: Snapshot, fields: Sequence[str]) -> Snapshot:
    return Snapshot(
        info=snapshot.info,
        species=tuple(fields),
        density=np.stack([snapshot.field(name) for name in fields]),
        beads=snapshot.beads,
    )


def _relative(snapshot: Snapshot, name: str) -> NDArray[np.float32]:
    bulk = np.float32(snapshot.info.bulk_density[snapshot.info.species.index(name)])
    relative: NDArray[np.float32] = snapshot.field(name) / bulk
    return relative


def _opened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty: a uniform field is drawn in the middle of its colours."""
    margin = max(0.0, 1e-3 * max(abs(low), abs(high), 1e-6) - (high - low))
    return low - margin, high + margin


def _title(species: str) -> str:
    leaflet, _, lipid = species.partition(" ")
    return f"{lipid}, {leaflet} leaflet" if lipid else species


def _stamp(snapshot: Snapshot) -> str:
    info = snapshot.info
    kinds = [info.state_kinds[state] for state in snapshot.beads.state.tolist()]
    counts = [f"{kinds.count(kind)} {kind}" for kind in _kinds(info)]
    return " · ".join([f"t = {info.time_us:.2f} µs", *counts])


def _kinds(info: SnapshotInfo) -> list[str]:
    return list(dict.fromkeys(info.state_kinds))


def _draw_beads(panel: Axes, info: SnapshotInfo, beads: Beads) -> None:
    area = float(np.clip(9000 / max(len(beads.state), 1), 14, 60))
    for index, kind in enumerate(_kinds(info)):
        here = [info.state_kinds[state] == kind for state in beads.state.tolist()]
        _draw_kind(panel, beads.position_nm[np.array(here, dtype=bool)], index, area)


def _draw_kind(panel: Axes, position_nm: NDArray[np.float64], index: int, area: float) -> None:
    """Open marks, dark under light: the lipids inside them stay visible on any colour."""
    marker = _KIND_MARKERS[index % len(_KIND_MARKERS)]
    colour = _KIND_COLOURS[index % len(_KIND_COLOURS)]
    size = area * 0.7**index
    for edge, width in (("#000000", 2.0), (colour, 1.0)):
        panel.scatter(
            position_nm[:, 0],
            position_nm[:, 1],
            s=size,
            marker=marker,
            facecolors="none",
            edgecolors=edge,
            linewidths=width,
        )


def _colour_bar(figure: Figure, image: AxesImage, panel: Axes, label: str) -> None:
    bar = figure.colorbar(
        image,
        ax=panel,
        location="bottom",
        label=label,
        extend="both",
        shrink=0.9,
        aspect=28,
        pad=0.02,
    )
    bar.ax.tick_params(labelsize=9)


def _scale_bar(panel: Axes, side_nm: float) -> None:
    """A round length, about a fifth of the side, on a dark plate in the lower left corner."""
    rough_nm = side_nm / 5
    decade = 10.0 ** math.floor(math.log10(rough_nm))
    length_nm = max(step * decade for step in (1, 2, 5) if step * decade <= rough_nm)
    x_nm, y_nm, thick_nm = 0.05 * side_nm, 0.04 * side_nm, 0.012 * side_nm
    plate = (x_nm - 0.025 * side_nm, y_nm - 0.02 * side_nm)
    panel.add_patch(
        Rectangle(
            plate,
            length_nm + 0.05 * side_nm,
            0.105 * side_nm,
            facecolor="black",
            alpha=0.55,
            linewidth=0,
            zorder=3,
        )
    )
    panel.add_patch(
        Rectangle((x_nm, y_nm), length_nm, thick_nm, facecolor="white", linewidth=0, zorder=4)
    )
    panel.text(
        x_nm + length_nm / 2,
        y_nm + 1.8 * thick_nm,
        f"{length_nm:g} nm",
        color="white",
        ha="center",
        va="bottom",
        fontsize=9,
        zorder=4,
    )


def _legend(figure: Figure, kinds: Sequence[str]) -> None:
    marks = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=_KIND_MARKERS[index % len(_KIND_MARKERS)],
            markersize=8,
            markerfacecolor=_KIND_COLOURS[index % len(_KIND_COLOURS)],
            markeredgecolor="black",
            label=kind,
        )
        for index, kind in enumerate(kinds)
    ]
    if marks:
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
