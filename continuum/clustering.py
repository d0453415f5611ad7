"""How proteins cluster as a function of the protein-lipid strength λ (membrane-physics 7.6).

For each λ a membrane is run and the proteins in every protein-centred patch are counted, as is the
enrichment of one lipid in those patches. λ is the one knob that sets how strongly proteins
aggregate, and its effect is steep; this is the measurement to turn it by.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from continuum.atomic_file import write_atomically
from continuum.halo import SingleProcess
from continuum.membrane import Membrane
from continuum.parameters import Model
from continuum.patch_batch import PatchBatch
from continuum.render import save_figure
from continuum.run import cut_patches, snapshots_in

BLOCKS = 5  # the second half of a run is cut into this many for the standard error


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringSeries:
    """One λ: what each snapshot showed, snapshot by snapshot."""

    strength: float
    time_us: tuple[float, ...]
    mean_primaries: tuple[float, ...]  # in a protein-centred patch, itself included
    most_beads: tuple[int, ...]  # primaries and ligands in the fullest patch
    enrichment: tuple[float, ...]  # patch mean of the chosen lipid over bulk, protein patches

    def settled(self, values: Sequence[float]) -> tuple[float, float]:
        """Mean and block standard error over the second half."""
        half = np.asarray(values[len(values) // 2 :], dtype=np.float64)
        blocks = [block.mean() for block in np.array_split(half, min(BLOCKS, len(half)))]
        error = np.std(blocks, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.nan
        return float(half.mean()), float(error)


def measure_clustering(
    strength: float, model: Model, lipid: str, tick: Callable[[float], None]
) -> ClusteringSeries:
    """Run a model in memory and count; `lipid` is one of `Lipids.labels`.

    Raises ValueError for an unknown lipid.
    """
    labels = model.lipids.labels
    if lipid not in labels:
        raise ValueError(f"lipid must be one of {', '.join(labels)}, got {lipid!r}")
    species = labels.index(lipid)
    bulk = model.lipids.bulk_density[species]
    membrane = Membrane(model, SingleProcess())
    steps = round(model.output.snapshot_interval_us / model.numerics.time_step_us)
    rows: list[tuple[float, float, int, float]] = []

    def look(batch: PatchBatch) -> None:
        own = batch.central_state >= 0
        beads = batch.n_ras[own].astype(int) + batch.n_raf[own]
        rows.append(
            (
                batch.time_us,
                float(batch.n_ras[own].mean()),
                int(beads.max()),
                float(batch.density[own, species].mean() / bulk),
            )
        )

    for index in range(snapshots_in(model) + 1):
        cut_patches(membrane, index, look)
        tick(membrane.time_us)
        if index < snapshots_in(model):
            for _ in range(steps):
                membrane.advance()
            membrane.check_finite()
    times, means, most, enrichment = zip(*rows, strict=True)
    return ClusteringSeries(
        strength=strength,
        time_us=times,
        mean_primaries=means,
        most_beads=most,
        enrichment=enrichment,
    )


def draw_clustering(series: Sequence[ClusteringSeries], lipid: str, unit: str) -> Figure:
    """Clustering against time for each λ, and settled values against λ with standard errors."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    over_time, against_strength = figure.subplots(1, 2)
    for one in series:
        over_time.plot(one.time_us, one.mean_primaries, label=f"λ = {one.strength:g}")
    over_time.set(xlabel="time (µs)", ylabel=f"mean {unit} in a {unit}-centred 30 nm patch")
    over_time.legend(frameon=False)
    strengths = [one.strength for one in series]
    quantities = (
        (f"mean {unit} per patch", "mean_primaries", "o-"),
        (f"mean {lipid} / bulk in patches", "enrichment", "s--"),
    )
    for label, name, style in quantities:
        points = [one.settled(getattr(one, name)) for one in series]
        against_strength.errorbar(
            strengths,
            [mean for mean, _ in points],
            yerr=[error for _, error in points],
            fmt=style,
            capsize=3,
            label=label,
        )
    against_strength.set(xlabel="protein-lipid strength λ", ylabel="second half of the run")
    against_strength.legend(frameon=False)
    return figure


def write_clustering(
    series: Sequence[ClusteringSeries], lipid: str, unit: str, folder: Path
) -> Iterator[Path]:
    """Write `clustering.png` and the numbers behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(draw_clustering(series, lipid, unit), folder / "clustering.png")
    yield folder / "clustering.png"
    content = [
        asdict(one)
        | {
            "settled_mean_primaries": one.settled(one.mean_primaries),
            "settled_enrichment": one.settled(one.enrichment),
        }
        for one in series
    ]
    write_atomically(folder / "clustering.json", json.dumps(content, indent=1) + "\n")
    yield folder / "clustering.json"
