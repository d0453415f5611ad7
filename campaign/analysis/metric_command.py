"""`python -m campaign analyse metric`: the criteria of the metric on a run's patches."""

from pathlib import Path

import click
import numpy as np

from campaign.analysis.command_options import (
    ENCODER,
    FIRST_US,
    OUT,
    RUN,
    one_line_errors,
    report,
    workers_options,
)
from campaign.analysis.embedding import encoder_of, patch_files
from campaign.analysis.judged_patches import draw_patches, judged_patches, with_densities
from campaign.analysis.metric import NEAR_NM2, MetricOnCampaign, judge_on_campaign, versions_of
from campaign.analysis.workers import Workers
from ml.encoder import load_encoder
from ml.metric.commands import steps_shown
from ml.metric.evaluation_report import SHOWN_IN_PLANE, trained_factor
from ml.metric.figures import draw_criteria, draw_neighbourhoods, in_plane
from ml.metric.figures_of_checks import draw_relation_to_means, draw_similar_patches

PAPER = {"overlap_percent": 0.01, "mare": 0.03, "auc": 0.59}


@click.command()
@RUN
@ENCODER
@OUT
@workers_options
@FIRST_US
@click.option(
    "--patches",
    default=30_000,
    show_default=True,
    type=click.IntRange(min=10),
    help="Drawn at random; all their pairs are compared.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def metric(
    run: Path,
    encoder: Path | None,
    out: Path | None,
    workers: Workers,
    first_us: float,
    patches: int,
    seed: int,
) -> None:
    """AUC, overlap and MARE on a run's patches, and dz against dμ (figures 3, 5, 6 b, 11)."""

    def act() -> None:
        chosen = encoder_of(run, encoder)
        loaded = load_encoder(chosen)
        drawn = draw_patches(patch_files(run, first_us=first_us), patches, seed)
        judged = judged_patches(drawn, chosen, workers)
        count = len(judged.patches)
        with steps_shown() as step:
            found = judge_on_campaign(
                judged,
                factor=trained_factor(loaded),
                seed=seed,
                progress=lambda done: step("comparing all pairs", done, count),
            )
        numbers = {
            "run": str(run),
            "encoder_version": loaded.version,
            "parameter_versions": versions_of(judged),
            "patches": count,
            "seed": seed,
            "paper": PAPER,
            **found.as_json(),
        }
        path = report(out, run, "metric", numbers)
        kinds = judged.patches.kind
        shown = slice(0, SHOWN_IN_PLANE)
        order = np.random.default_rng(seed).permutation(count)[shown]
        plane = in_plane(judged.embedding.vectors[order], seed=seed)
        draw_criteria(path, found.criteria, plane, kinds[order])
        draw_neighbourhoods(path.with_name("metric_figure_11.png"), found.criteria)
        draw_relation_to_means(
            path.with_name("metric_figure_6b.png"),
            found.to_means,
            count,
            near=found.to_near_means,
            limit=NEAR_NM2,
        )
        if found.similar is not None:
            similar = found.similar
            rows = [similar.reference, similar.similar, similar.dissimilar, similar.crowded]
            four = with_densities(run, judged.patches.subset(np.array(rows)))
            draw_similar_patches(path.with_name("metric_figure_5.png"), four, similar)
        click.echo(f"{_summary(found)}; {path}")
        for name, reason in found.left_out.items():
            click.echo(f"left out {name}: {reason}", err=True)

    one_line_errors(act)


def _summary(found: MetricOnCampaign) -> str:
    criteria = found.criteria
    near, whole = found.to_near_means, found.to_means
    return (
        f"{criteria.patches} patches: AUC {criteria.auc:.3f} (by chance "
        f"{criteria.precision_recall.prevalence:.3f}; paper 0.59), overlap "
        f"{criteria.overlap_percent:.3g} % (0.01 %), MARE {criteria.mare:.3g} (0.03), MARE* "
        f"{criteria.mare_star:.3g}; R of dz with dμ {whole.pearson_pairs:.3f} of pairs, "
        f"{whole.pearson_means:.3f} of means, to {NEAR_NM2:g} nm⁻² "
        f"({100 * found.near_share:.1f} % of pairs) {near.pearson_pairs:.3f} and "
        f"{near.pearson_means:.3f}"
    )
