"""`python -m campaign replay CONFIG`: the coordinator under a virtual clock (DESIGN 4 and 5).

The same coordinator and selector as in a real campaign; the cluster is a model. Occupancy found
here is that of the model, never a measurement of a machine.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from campaign.configuration import CampaignSetup, ConfigurationError, read_campaign, rules_of
from campaign.coordinator import Coordinator
from campaign.events import CampaignOpened
from campaign.journal import MemoryJournal
from campaign.report_figures import progress_figure
from campaign.run_folder import selection_settings
from campaign.run_story import RunStory, tell
from campaign.selection import PatchSelection
from campaign.state import apply, initial_state
from campaign.virtual_shell import ClusterModel, SyntheticEmbeddings, VirtualShell
from continuum.atomic_file import atomic_path, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOutcome:
    """What a replay came to; occupancies are of the model."""

    reason: str
    virtual_days: float
    patches: int
    selected: int
    jobs_done: int
    jobs_abandoned: int
    parameter_versions: int
    events: int
    days_to_fill: float | None  # until every slot was first in use
    occupancy_once_full: float  # from then to the last selection
    share_of_time_above_98_percent: float
    real_s: float


def replay_campaign(
    setup: CampaignSetup, model: ClusterModel, progress: Progress | None = None
) -> tuple[ReplayOutcome, RunStory]:
    """Run a campaign's coordinator on a modelled cluster to its end."""
    began = time.perf_counter()
    rules = rules_of(setup)
    state, journal = initial_state(rules), MemoryJournal()
    opened = CampaignOpened(config_hash="", code_version="", encoder_version="synthetic")
    apply(state, opened)
    journal.append(opened, 0.0)
    task = progress.add_task("replay", total=rules.last_snapshot + 1) if progress else None

    def tick(now_s: float) -> None:
        if progress is not None and task is not None:
            progress.update(task, completed=state.ingested)

    shell = VirtualShell(model, tick)
    coordinator = Coordinator(
        state,
        journal,
        shell,
        PatchSelection(selection_settings(setup)),
        SyntheticEmbeddings(model, rules.last_snapshot),
    )
    coordinator.begin(pid=0)
    reason = coordinator.run()
    story = tell(journal.records)
    filled_s = next((t for t, running in story.running if running >= model.slots), None)
    once_full, above = _occupancy(story, model.slots, filled_s)
    return (
        ReplayOutcome(
            reason=reason,
            virtual_days=story.seconds / 86400,
            patches=state.patches_ingested,
            selected=len(state.order),
            jobs_done=state.done,
            jobs_abandoned=state.abandoned,
            parameter_versions=state.version,
            events=len(journal.records),
            days_to_fill=None if filled_s is None else filled_s / 86400,
            occupancy_once_full=once_full,
            share_of_time_above_98_percent=above,
            real_s=time.perf_counter() - began,
        ),
        story,
    )


def _occupancy(story: RunStory, slots: int, filled_s: float | None) -> tuple[float, float]:
    """Mean, and share of time above 98 %, from the first full use to the last selection."""
    if filled_s is None or story.last_selection_s is None or story.last_selection_s <= filled_s:
        return 0.0, 0.0
    times = np.array([time_s for time_s, _ in story.running])
    running = np.array([count for _, count in story.running], dtype=np.float64)
    edges = np.clip(np.append(times, story.seconds), filled_s, story.last_selection_s)
    weight = np.diff(edges) / (story.last_selection_s - filled_s)
    return float(weight @ running / slots), float(weight @ (running > 0.98 * slots))


@click.command()
@click.argument("config")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE")
@click.option("--snapshots", type=click.IntRange(0), help="Stop after this snapshot.")
@click.option(
    "--cluster", multiple=True, metavar="KEY=VALUE", help="Of the model, such as slots=2400."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of replay.json and .png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(
    config: str,
    overrides: tuple[str, ...],
    snapshots: int | None,
    cluster: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Replay CONFIG's coordinator and selector in the virtual time of a modelled cluster."""
    try:
        if snapshots is not None:
            overrides = (*overrides, f"continuum.snapshots={snapshots}")
        setup, model = read_campaign(config, overrides), cluster_model(cluster)
    except (ConfigurationError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    with Progress(console=Console(stderr=True), transient=True) as progress:
        outcome, story = replay_campaign(setup, model, progress)
    numbers = {"model": model.model_dump(), **asdict(outcome)}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "replay.json", json.dumps(numbers, indent=1) + "\n")
        figure = progress_figure(story, model.slots)
        figure.suptitle("virtual time of a modelled cluster, synthetic embeddings", fontsize=9)
        with atomic_path(out / "replay.png") as temporary:
            figure.savefig(temporary, dpi=150, format="png")
    if as_json:
        click.echo(json.dumps(numbers))
        return
    click.echo(
        f"{outcome.reason}: {outcome.virtual_days:.1f} virtual days in {outcome.real_s:.0f} s: "
        f"{outcome.patches:,} patches, {outcome.selected:,} selected, {outcome.jobs_done:,} jobs, "
        f"occupancy once full {100 * outcome.occupancy_once_full:.1f} % (modelled)"
    )


def cluster_model(assignments: tuple[str, ...]) -> ClusterModel:
    """The model with overrides `KEY=VALUE`. Raises ConfigurationError."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, _, value = text.partition("=")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigurationError(
                f"--cluster needs KEY=VALUE with a number, got {text!r}"
            ) from error
    try:
        return ClusterModel(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(
            f"--cluster {'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r};"
            f" known keys are {', '.join(ClusterModel.model_fields)}"
        ) from error
