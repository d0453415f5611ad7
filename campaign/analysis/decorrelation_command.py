"""`python -m campaign analyse decorrelation` and `evolution`: distance against time, and back."""

import dataclasses
import json
import math
from pathlib import Path

import click
import numpy as np

from campaign.analysis.command_options import (
    ENCODER,
    EVERY,
    FIRST_US,
    OUT,
    RUN,
    one_line_errors,
    report,
    workers_options,
)
from campaign.analysis.decorrelation import (
    DecorrelationTimes,
    decorrelation_times,
    diffusive_estimate_us,
    distance_curve,
)
from campaign.analysis.decorrelation_figure import draw_decorrelation
from campaign.analysis.embedding import AnalysisError, embed_run, encoder_of, patch_files
from campaign.analysis.evolution_time import (
    EvolutionTime,
    estimated_between_snapshots,
    evolution_time,
)
from campaign.analysis.histories import Histories, histories_of, mixed_versions
from campaign.analysis.linear_theory import composition_in_time
from campaign.analysis.membrane_of_run import composition_times_us, model_of
from campaign.analysis.time_correlation import correlation_with_time
from campaign.analysis.workers import Workers
from ml.encoder import load_encoder


@click.command()
@RUN
@ENCODER
@OUT
@workers_options
@FIRST_US
@click.option("--last-us", default=math.inf, help="Leave out what is later.")
@click.option("--resamples", default=400, show_default=True, help="Of the bootstrap.")
def decorrelation(
    run: Path,
    encoder: Path | None,
    out: Path | None,
    workers: Workers,
    first_us: float,
    last_us: float,
    resamples: int,
) -> None:
    """Distance against time within histories, and the decorrelation time (figure 7 b, c)."""

    def act() -> None:
        chosen = encoder_of(run, encoder)
        files = patch_files(run, first_us=first_us, last_us=last_us)
        snapshots = embed_run(files, chosen, proteins_only=True, workers=workers)
        histories = histories_of(snapshots, load_encoder(chosen).version)
        _decorrelation(run, out, histories, workers.processes, resamples)

    one_line_errors(act)


def _decorrelation(
    run: Path, out: Path | None, histories: Histories, threads: int, resamples: int
) -> None:
    version = histories.encoder_version
    curve = distance_curve(histories.z, histories.interval_us, threads=threads)
    times = decorrelation_times(curve, resamples=resamples)
    inverse = evolution_time(curve, times, version)
    pearson = correlation_with_time(histories.z, histories.interval_us)
    modes_us = composition_times_us(run)
    composition = None
    if modes_us:
        composition = composition_in_time(
            model_of(run), histories, resamples=resamples, threads=threads
        )
    frames, count = histories.z.shape[:2]
    numbers = {
        "run": str(run),
        "encoder_version": version,
        "parameter_versions": np.unique(histories.parameter_version).tolist(),
        "histories": count,
        "frames": frames,
        "interval_us": histories.interval_us,
        "pairs": int(curve.pairs.sum()) * count,
        "diffusive_estimate_us": diffusive_estimate_us(),
        "composition_modes_us": modes_us,
        "composition": composition and composition.as_json(),
        **dataclasses.asdict(times),
        "notes": times.notes(curve.lag_us),
        "pearson_r": pearson,
        "mixed_versions": mixed_versions(histories),
        "lag_us": curve.lag_us.tolist(),
        "mean_dz": curve.mean.mean(axis=0).tolist(),
        "rms_dz": np.sqrt(curve.square.mean(axis=0)).tolist(),
        "evolution_time": inverse.as_json(),
    }
    path = report(out, run, "decorrelation", numbers)
    draw_decorrelation(path, curve, times, modes_us, composition)
    click.echo(
        f"{_told_times(times)}; diffusive estimate {diffusive_estimate_us():.3f} µs"
        f"{_modes(modes_us)}; {count} histories of {frames} frames; {path}"
    )
    if composition is not None:
        click.echo(
            "mean concentrations keep to linear theory, without a fit, within "
            f"{composition.largest_difference:.3f} of the plateau up to 2 µs; theory forgets the "
            f"densities of single nodes in {composition.nodes_us:.2f} µs"
        )
    for note in (mixed_versions(histories), *times.notes(curve.lag_us)):
        if note:
            click.echo(f"note: {note}", err=True)


def _told_times(times: DecorrelationTimes) -> str:
    tau, slow, share = times.fitted_us, times.slow_us, times.slow_share
    told = f"decorrelation time {tau.value:.3f} µs (95 %: {tau.low:.3f} to {tau.high:.3f})"
    if slow is not None and share is not None:
        told += (
            f", and {slow.value:.2f} µs ({slow.low:.2f} to {slow.high:.2f}) for "
            f"{100 * share.value:.0f} % of the distance squared"
        )
    return f"{told}; integrated {times.integrated_us.value:.3f} µs"


def _modes(modes_us: list[float]) -> str:
    if not modes_us:
        return ""
    low, middle, high = modes_us[-1], float(np.median(modes_us)), modes_us[0]
    return f", modes of linear theory {low:.2f} to {high:.2f} (median {middle:.2f}) µs"


@click.command()
@RUN
@ENCODER
@OUT
@workers_options
@click.option(
    "--map",
    "source",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="decorrelation.json of a run with histories.",
)
@FIRST_US
@EVERY
def evolution(
    run: Path,
    encoder: Path | None,
    out: Path | None,
    workers: Workers,
    source: Path,
    first_us: float,
    every: int,
) -> None:
    """Evolution times that dz between snapshots stands for, by the map of another run."""

    def act() -> None:
        inverse = _inverse_map(source)
        chosen = encoder_of(run, encoder)
        version = load_encoder(chosen).version
        if version != inverse.encoder_version:
            raise AnalysisError(
                f"{source} is of the encoder {inverse.encoder_version}, {chosen} is {version}: "
                "their distances are not the same; give the other with --encoder"
            )
        files = patch_files(run, first_us=first_us, every=every)
        snapshots = embed_run(files, chosen, proteins_only=True, workers=workers)
        found = estimated_between_snapshots(inverse, snapshots)
        path = report(out, run, "evolution", {"run": str(run), "map": str(source), **found})
        estimated = found["estimated_us"]
        told = f"over {inverse.limit_us:.3g}" if math.isinf(estimated) else f"{estimated:.3g}"
        click.echo(
            f"{found['pairs']} pairs {found['true_us']:.3g} µs apart: median estimate {told} µs, "
            f"{100 * found['within_bounds']:.0f} % within the bounds, "
            f"{100 * found['beyond_the_map']:.0f} % beyond the map; {path.with_suffix('.json')}"
        )

    one_line_errors(act)


def _inverse_map(source: Path) -> EvolutionTime:
    try:
        return EvolutionTime.from_json(json.loads(source.read_text())["evolution_time"])
    except (KeyError, TypeError, ValueError) as error:
        raise AnalysisError(
            f"{source} holds no map of evolution times, which `analyse decorrelation` writes"
        ) from error
