"""Figures of a campaign's report: progress, occupancy, embeddings, coverage, proteins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from campaign.run_story import RunStory
from selector import FarthestPointSampler
from selector.coverage import coverage

Array = NDArray[Any]

KIND_LABELS = ("no protein", "one RAS", "one RAS-RAF", "several proteins")
KIND_COLOURS = ("#9aa5b1", "#2b6ca3", "#3a9d5d", "#d9772b")
MAP_PATCHES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddedPatches:
    """All embedded patches of a run and which of them were selected."""

    z: NDArray[np.float32]  # (N, d)
    kind: NDArray[np.uint8]  # (N,)
    selected: NDArray[np.bool_]  # (N,)


def progress_figure(story: RunStory, slots: int) -> Figure:
    """Patches and selections by simulated time; jobs and slots in use by wall time."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    patches, jobs = figure.subplots(1, 2)
    if story.ingested:
        _, time_us, total = np.array(story.ingested).T
        patches.plot(time_us, total, color="#2b6ca3", label="patches")
    if story.selected:
        _, time_us, total = np.array(story.selected).T
        patches.plot(time_us, np.maximum(total, 0.8), color="#d9772b", label="selected")
    patches.set_yscale("log")
    patches.set_xlabel("simulated time (µs)")
    patches.set_ylabel("patches, cumulative")
    patches.legend(fontsize=8)
    for time_s, version, _ in story.versions:
        jobs.axvline(
            time_s / 60,
            color="0.75",
            lw=0.8,
            label="parameter version" if version == 1 else None,
        )
    if story.running:
        times, running = np.array([*story.running, (story.seconds, story.running[-1][1])]).T
        jobs.step(
            times / 60, running, where="post", color="#3a9d5d", lw=1.0, label="MD jobs running"
        )
    jobs.axhline(slots, color="0.3", ls=":", lw=1.0, label="slots")
    for time_s, _ in story.shells[1:]:
        jobs.axvline(time_s / 60, color="crimson", lw=1.0, ls="--")
    jobs.set_ylim(0, slots * 1.35)
    jobs.set_xlabel("wall time (min)")
    jobs.set_ylabel("MD jobs running")
    jobs.legend(fontsize=8, ncols=3, loc="upper left")
    for axes in (patches, jobs):
        axes.grid(alpha=0.25)
    return figure


def embedding_figure(patches: EmbeddedPatches, seed: int = 0) -> Figure:
    """Two principal components of the embeddings, by kind, with the selected patches marked."""
    generator = np.random.default_rng(seed)
    shown = np.arange(len(patches.z))
    if len(shown) > MAP_PATCHES:
        shown = np.sort(generator.choice(len(shown), MAP_PATCHES, replace=False))
    components = PCA(n_components=2, random_state=seed).fit(patches.z)
    map_xy = components.transform(patches.z[shown])
    figure = Figure(figsize=(6.2, 5.0), layout="constrained")
    axes = figure.subplots()
    for kind, (label, colour) in enumerate(zip(KIND_LABELS, KIND_COLOURS, strict=True)):
        of_kind = patches.kind[shown] == kind
        x, y = map_xy[of_kind].T
        axes.scatter(x, y, s=4, color=colour, alpha=0.45, lw=0, label=label)
    if patches.selected.any():
        x, y = components.transform(patches.z[patches.selected]).T
        axes.scatter(x, y, s=22, facecolors="none", edgecolors="black", lw=0.8, label="selected")
    share = 100 * components.explained_variance_ratio_
    axes.set_xlabel(f"first principal component ({share[0]:.0f} % of variance)")
    axes.set_ylabel(f"second principal component ({share[1]:.0f} %)")
    axes.legend(fontsize=8, markerscale=1.6)
    return figure


def coverage_numbers(patches: EmbeddedPatches, repeats: int = 5) -> dict[str, Any]:
    """Coverage by the campaign's selections and by equally many random ones (mean of repeats).

    Of the kinds of patches that were selected from: a campaign that never simulates patches of many
    proteins does not mean to cover them.
    """
    among = np.isin(patches.kind, np.unique(patches.kind[patches.selected]))
    z, selected = patches.z[among], patches.selected[among]
    count = int(selected.sum())
    random = []
    for seed in range(repeats):
        chosen = np.zeros(len(z), dtype=bool)
        generator = np.random.Generator(np.random.Philox(key=seed))
        chosen[generator.choice(len(z), count, replace=False)] = True
        random.append(_coverage(z, chosen))
    return {
        "patches": len(z),
        "left_out": int(len(among) - len(z)),
        "selected": count,
        "campaign": _coverage(z, selected),
        "random": {key: float(np.mean([run[key] for run in random])) for key in random[0]},
    }


def _coverage(z: NDArray[np.float32], chosen: NDArray[np.bool_]) -> dict[str, float]:
    sampler = FarthestPointSampler(z.shape[1], k=1, capacity=len(z), warm_up=0)
    sampler.add(np.arange(len(z)), z)
    sampler.mark_selected(np.flatnonzero(chosen))
    found = coverage(sampler)
    return {
        "fill_distance": found.fill_distance,
        "mean": found.mean,
        **{f"percentile_{p}": value for p, value in found.percentiles.items()},
    }


def coverage_figure(numbers: dict[str, Any]) -> Figure:
    """Distance to the nearest selected patch: the campaign's selection against a random one."""
    keys = ("mean", "percentile_50", "percentile_90", "percentile_99", "fill_distance")
    labels = ("mean", "median", "90 %", "99 %", "largest (fill distance)")
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(keys))
    for shift, who, colour in ((-0.2, "campaign", "#2b6ca3"), (0.2, "random", "#9aa5b1")):
        axes.bar(place + shift, [numbers[who][key] for key in keys], 0.38, color=colour, label=who)
    axes.set_xticks(place, labels)
    axes.set_ylabel("distance to nearest selected patch\n(embedding units)")
    left_out = numbers["left_out"]
    others = f", {left_out} of kinds never selected left out" if left_out else ""
    axes.set_title(f"{numbers['selected']} of {numbers['patches']} patches{others}", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25, axis="y")
    return figure


def protein_figure(
    time_us: Sequence[float],
    mean: Sequence[float],
    largest: Sequence[float],
    lipid: Sequence[float],
    versions: Sequence[int],
    *,
    lipid_name: str,
) -> Figure:
    """Proteins per RAS patch and the lipid's patch mean over simulated time."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    proteins, density = figure.subplots(1, 2)
    proteins.plot(time_us, largest, color="#d9772b", lw=1.0, label="largest")
    proteins.plot(time_us, mean, color="#2b6ca3", label="mean of protein patches")
    proteins.set_ylabel("proteins in a patch")
    proteins.set_ylim(bottom=0)
    density.plot(time_us, lipid, color="#2b6ca3")
    density.set_ylabel(f"mean {lipid_name} of protein patches (nm⁻²)")
    changed = np.flatnonzero(np.diff(versions)) + 1
    for axes in (proteins, density):
        for number, i in enumerate(changed):
            axes.axvline(
                time_us[int(i)],
                color="0.8",
                lw=0.7,
                zorder=0,
                label="new parameters" if number == 0 and axes is proteins else None,
            )
        axes.set_xlabel("simulated time (µs)")
        axes.grid(alpha=0.25)
    proteins.legend(fontsize=8)
    return figure
