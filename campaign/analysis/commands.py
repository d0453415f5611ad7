"""`python -m campaign analyse`: a figure and its numbers from a finished run."""

from functools import partial
from pathlib import Path

import click
from matplotlib.figure import Figure

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
from campaign.analysis.control import control_recovery
from campaign.analysis.decorrelation_command import decorrelation, evolution
from campaign.analysis.drift_analysis import (
    channel_of,
    drift_between,
    period,
    periods_of,
    species_of,
)
from campaign.analysis.drift_figure import draw_drift
from campaign.analysis.embedding import AnalysisError, embed_run, encoder_of, patch_files
from campaign.analysis.membrane_of_run import model_of
from campaign.analysis.metric_command import metric
from campaign.analysis.space import relation_in_space
from campaign.analysis.time_course import course_lines, draw_time_courses, period_means
from campaign.analysis.workers import Workers
from campaign.recovery import recovery_study
from campaign.recovery_bars import weights_behind
from campaign.report_data import embedded_patches, patch_history
from campaign.report_figures import coverage_figure, coverage_numbers
from campaign.run_folder import read_state
from continuum.atomic_file import atomic_path
from ml.encoder import load_encoder
from ml.metric.figures_of_checks import draw_relation_to_space
from ml.metric.pairs_in_space import HALF_DIAGONAL_NM


@click.group()
def analyse() -> None:
    """Analyse a finished run; each command writes a figure and its numbers."""


for command in (decorrelation, evolution, metric):
    analyse.add_command(command)


@analyse.command()
@RUN
@ENCODER
@OUT
@workers_options
@click.option(
    "--reference",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The run whose patches the encoder was trained on.",
)
@click.option("--periods", type=click.IntRange(1), default=3, show_default=True)
@EVERY
@click.option("--lipid", default="inner PAP6", show_default=True)
def drift(
    run: Path,
    encoder: Path | None,
    out: Path | None,
    workers: Workers,
    reference: Path,
    periods: int,
    every: int,
    lipid: str,
) -> None:
    """A lipid and proteins per patch against a reference run, and in time (figure 12)."""

    def act() -> None:
        before, after = patch_files(reference, every=every), patch_files(run, every=every)
        channel = channel_of(species_of(after[0]), lipid)
        chosen = encoder_of(run, encoder)
        known = list(embed_run(before, chosen, proteins_only=True, workers=workers))
        seen = list(embed_run(after, chosen, proteins_only=True, workers=workers))
        first = period("reference", known, channel)
        later = periods_of(seen, periods, channel)
        found = drift_between(first, later)
        courses = {"reference": reference, run.name: run}
        histories = {name: patch_history(of, lipid) for name, of in courses.items()}
        means = {name: period_means(each, periods) for name, each in histories.items()}
        numbers = {
            "run": str(run),
            "reference": str(reference),
            "lipid": lipid,
            "encoder_version": load_encoder(chosen).version,
            "periods": [each.as_json() for each in found],
            "time_courses": means,
        }
        path = report(out, run, "drift", numbers)
        shown = [first, *later]
        draw_drift(
            path,
            {each.name: each.lipid for each in shown},
            {each.name: each.proteins for each in shown},
            {name.name: each.outside for name, each in zip(shown, found, strict=True)},
            lipid=lipid,
        )
        draw_time_courses(
            path.with_name("drift-in-time.png"),
            histories,
            lipid=lipid,
            bulk_per_nm2=float(model_of(run).lipids.bulk_density[channel]),
        )
        for line in course_lines(means, lipid):
            click.echo(line)
        last = found[-1]
        click.echo(
            f"{last.period}: mean {lipid} {last.lipid.mean_before:.4f} -> "
            f"{last.lipid.mean_after:.4f} nm⁻², most proteins in a patch "
            f"{last.proteins.largest_before:.0f} -> {last.proteins.largest_after:.0f}, "
            f"{100 * last.outside:.1f} % of embeddings outside the training data"
            f"{' (alarm: train the metric anew)' if last.alarm else ''}; {path}"
        )

    one_line_errors(act)


@analyse.command()
@RUN
@ENCODER
@OUT
@workers_options
@FIRST_US
@EVERY
def space(
    run: Path, encoder: Path | None, out: Path | None, workers: Workers, first_us: float, every: int
) -> None:
    """Distance in the metric against distance in the membrane (figure 7 a)."""

    def act() -> None:
        side_nm = model_of(run).membrane.side_nm
        files = patch_files(run, first_us=first_us, every=every)
        chosen = encoder_of(run, encoder)
        snapshots = embed_run(files, chosen, proteins_only=True, workers=workers)
        found = relation_in_space(snapshots, side_nm)
        told = {"run": str(run), "encoder_version": load_encoder(chosen).version}
        path = report(out, run, "space", {**told, **found.as_json()})
        relation, interval = found.relation, found.interval_of_near
        draw_relation_to_space(path, relation)
        sure = "" if interval is None else f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})"
        click.echo(
            f"R up to 15 nm: {relation.near.pearson_pairs:.3f} of pairs, "
            f"{relation.near.pearson_means:.3f} of means{sure}; beyond: "
            f"{relation.far.pearson_pairs:.3f} of pairs; beyond {HALF_DIAGONAL_NM:.1f} nm: "
            f"{relation.apart.pearson_pairs:.3f}; {path}"
        )

    one_line_errors(act)


@analyse.command()
@RUN
@OUT
def coverage(run: Path, out: Path | None) -> None:
    """What a campaign's selection covers, against a random one of equal size."""

    def act() -> None:
        _, state, _ = read_state(run)
        patches = embedded_patches(run, state)
        if patches is None or not patches.selected.any():
            raise AnalysisError(f"{run} has selected nothing yet, so there is no coverage")
        numbers = coverage_numbers(patches)
        path = report(out, run, "coverage", numbers)
        save(coverage_figure(numbers), path)
        ours, random = numbers["campaign"], numbers["random"]
        click.echo(
            f"{numbers['selected']} of {numbers['patches']} patches: fill distance "
            f"{ours['fill_distance']:.3g} (random {random['fill_distance']:.3g}), mean "
            f"{ours['mean']:.3g} (random {random['mean']:.3g}); {path}"
        )

    one_line_errors(act)


@analyse.command()
@RUN
@OUT
@click.option(
    "--control",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A run of the same membrane and truth without feedback.",
)
@click.option("--bars", type=click.IntRange(1), default=6, show_default=True, help="Versions.")
def feedback(run: Path, out: Path | None, control: Path | None, bars: int) -> None:
    """RDFs and potentials by parameter version, against the truth hidden in the mock MD."""

    def act() -> None:
        setup, state, _ = read_state(run)
        if state.version == 0:
            raise AnalysisError(f"{run} has no parameter versions; its feedback made none")
        study = recovery_study(
            run,
            setup.model,
            limits=setup.config.feedback.limits,
            weights=partial(weights_behind, run, state, setup.config.feedback),
            bars=bars,
            control=None if control is None else control_recovery(run, control),
        )
        numbers = {"run": str(run), "control_run": control and str(control), **study.numbers}
        path = report(out, run, "feedback", numbers)
        for line in study.table:
            click.echo(line)
        if study.figure is not None:
            save(study.figure, path)
        click.echo(f"{study.sentence} {path}")

    one_line_errors(act)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png")
