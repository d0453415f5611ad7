"""The report of a campaign: one self-contained HTML page, its figures and numbers beside it."""

import io
import json
import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from matplotlib.figure import Figure

from campaign.audit import audit_run
from campaign.configuration import CampaignSetup, ConfigurationError
from campaign.html_page import Picture, Section, html_page
from campaign.journal import Contents, JournalError
from campaign.lineage import lineage_lines
from campaign.recovery import recovery_study
from campaign.recovery_bars import weights_behind
from campaign.report_data import embedded_patches, lipid_to_follow, patch_history
from campaign.report_figures import (
    coverage_figure,
    coverage_numbers,
    embedding_figure,
    progress_figure,
    protein_figure,
)
from campaign.run_folder import RunFolderError, read_state
from campaign.run_story import RunStory, tell
from campaign.state import CampaignState, JobStatus
from continuum.atomic_file import write_atomically


def write_report(run: Path) -> Path:
    """Write `report/index.html`, its figures as PNG and `report/report.json`; the page's path.

    Raises RunFolderError, ConfigurationError, JournalError where there is no run to report on.
    """
    setup, state, contents = read_state(run)
    story = tell(contents.records)
    sections, numbers = _sections(run, setup, state, contents, story)
    out = run / "report"
    out.mkdir(exist_ok=True)
    for section in sections:
        for picture in section.pictures:
            write_atomically(out / f"{picture.name}.png", picture.png)
    write_atomically(out / "report.json", json.dumps(numbers, indent=1) + "\n")
    page = html_page(
        f"Campaign {run.resolve().name}",
        f"{setup.config.description} {_state_line(state, story)}",
        _tiles(setup, state, story, numbers),
        sections,
    )
    write_atomically(out / "index.html", page)
    return out / "index.html"


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report(run: Path) -> None:
    """Write RUN/report/index.html; the campaign may still be running."""
    try:
        page = write_report(run)
    except (RunFolderError, ConfigurationError, JournalError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(str(page))


def _sections(
    run: Path, setup: CampaignSetup, state: CampaignState, contents: Contents, story: RunStory
) -> tuple[list[Section], dict[str, Any]]:
    slots = setup.config.molecular_dynamics.slots
    occupancy, whole = story.occupancy(slots)
    numbers: dict[str, Any] = {
        "patches": state.patches_ingested,
        "selected": len(state.order),
        "jobs_done": state.done,
        "jobs_abandoned": state.abandoned,
        "parameter_version": state.version,
        "occupancy_to_last_selection": occupancy,
        "occupancy_to_the_end": whole,
        "wall_s": story.seconds,
        "simulated_us": state.batches[-1].time_us if state.batches else 0.0,
        "md_simulated_us": sum(job.simulated_us for job in state.order),
    }
    sections = [
        Section(
            "What ran",
            "Patches and selections over simulated time; MD jobs over wall time, with new "
            "parameter versions (grey) and restarts (dashed red).",
            [_picture("progress", "Progress and occupancy.", progress_figure(story, slots))],
        )
    ]
    lipid = lipid_to_follow(run)
    if lipid is not None:
        history = patch_history(run, lipid)
        numbers["patch_history"] = {"lipid": lipid, **asdict(history)}
        if history.time_us:
            figure = protein_figure(
                history.time_us,
                history.mean_proteins,
                history.largest_proteins,
                history.lipid,
                history.version,
                lipid_name=lipid,
            )
            caption = f"Proteins per patch and {lipid} around them."
            sections.append(Section("The membrane", "", [_picture("proteins", caption, figure)]))
    patches = embedded_patches(run, state)
    if patches is not None and len(patches.z) > 2:
        numbers["coverage"] = coverage_numbers(patches) if state.order else None
        section = Section(
            "Selection", "", [_picture("embedding", "Embeddings.", embedding_figure(patches))]
        )
        if numbers["coverage"]:
            figure = coverage_figure(numbers["coverage"])
            section.pictures.append(
                _picture("coverage", "Coverage by the selection and by a random one.", figure)
            )
        sections.append(section)
    sections += _feedback(run, setup, state, numbers)
    sections += _lineage(run, state)
    sections.append(_jobs(state))
    sections.append(_audit(run, numbers))
    opened = state.opened
    sections.append(
        Section(
            "Provenance",
            rows=[
                ["bilayer", opened.code_version if opened else ""],
                ["configuration hash", opened.config_hash if opened else ""],
                ["encoder", opened.encoder_version if opened else ""],
                ["journal records", str(len(contents.records))],
            ],
            listing=(run / "config.yaml").read_text(),
        )
    )
    return sections, numbers


def _feedback(
    run: Path, setup: CampaignSetup, state: CampaignState, numbers: dict[str, Any]
) -> list[Section]:
    if state.version == 0:
        return []
    study = recovery_study(
        run,
        setup.model,
        limits=setup.config.feedback.limits,
        weights=partial(weights_behind, run, state, setup.config.feedback),
    )
    numbers["recovery"] = study.numbers
    caption = "RDFs and potentials by parameter version, against the truth hidden in the mock MD."
    pictures = [] if study.figure is None else [_picture("recovery", caption, study.figure)]
    return [Section("Feedback", study.sentence, pictures)]


def _lineage(run: Path, state: CampaignState) -> list[Section]:
    informed = [
        job for job in state.order if job.status == JobStatus.DONE and math.isfinite(job.importance)
    ]
    if not informed:
        return []
    chosen = max(informed, key=lambda job: job.importance)
    text = (
        f"Why the selected patch of the largest importance was simulated; `python -m campaign why "
        f"{run.name} {chosen.job}` answers for any job."
    )
    return [Section("Lineage", text, steps=lineage_lines(run, chosen.job))]


def _jobs(state: CampaignState) -> Section:
    rows = []
    for engine in sorted({job.engine for job in state.order}):
        jobs = [job for job in state.order if job.engine == engine]
        done = [job for job in jobs if job.status == JobStatus.DONE]
        wall = sum(job.wall_s for job in done)
        simulated = sum(job.simulated_us for job in done)
        rows.append(
            [
                engine,
                str(len(jobs)),
                str(len(done)),
                str(sum(job.status == JobStatus.ABANDONED for job in jobs)),
                _plain(simulated),
                _plain(wall),
            ]
        )
    header = ["engine", "jobs", "done", "abandoned", "simulated (µs)", "slot time (s)"]
    return Section("Molecular dynamics", header=header, rows=rows)


def _audit(run: Path, numbers: dict[str, Any]) -> Section:
    found = audit_run(run)
    numbers["audit_sound"] = found.sound
    verdict = (
        "Every conservation law holds." if found.sound else "Broken: " + "; ".join(found.breaks)
    )
    return Section("Audit", verdict, rows=[[str(law)] for law in found.laws])


def _state_line(state: CampaignState, story: RunStory) -> str:
    if story.finished is None:
        return "Still running, or cut off."
    return f"Ended: {story.finished}, after {story.seconds / 60:.1f} minutes."


def _tiles(
    setup: CampaignSetup, state: CampaignState, story: RunStory, numbers: dict[str, Any]
) -> list[tuple[str, str]]:
    return [
        (f"{_plain(numbers['simulated_us'])} µs", "membrane simulated"),
        (f"{state.patches_ingested:,}", "patches"),
        (f"{len(state.order):,}", "selected for MD"),
        (f"{state.done:,}", "MD jobs done"),
        (f"{_plain(numbers['md_simulated_us'])} µs", "MD simulated"),
        (str(state.version), "parameter versions"),
        (f"{100 * numbers['occupancy_to_last_selection']:.1f} %", "occupancy of MD slots"),
        (f"{story.seconds / 60:.1f} min", "wall time"),
    ]


def _picture(name: str, caption: str, figure: Figure) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png")
    return Picture(name, caption, buffer.getvalue())


def _plain(value: float) -> str:
    """Four digits, and no exponent of ten above them."""
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"
