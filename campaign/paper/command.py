"""`python -m campaign paper`: membrane, training, campaign, analyses, and the page of it all."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from campaign.configuration import read_campaign
from campaign.paper.configuration import (
    ConfigurationError,
    PaperConfig,
    preset_names,
    read_paper,
    resolved_yaml,
)
from campaign.paper.page import write_page
from campaign.paper.stages import (
    Place,
    Stage,
    configurations,
    is_done,
    mark_done,
    stages_of,
    stopped_early,
)
from campaign.run_lock import run_lock
from continuum import load_model
from continuum.atomic_file import write_atomically
from ml.metric.configuration import read_metric_config

RESOLVED = "config.resolved.yaml"


@click.command(
    help="Tell the paper's story: pre-campaign, training, table 1, campaign, post-campaign, every"
    " figure, and OUT/index.html with our numbers beside the paper's. The same command continues"
    f" after a kill. CONFIG is a YAML file or a preset: {', '.join(preset_names())}."
)
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of it all.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE",
              help="Override one value of the configuration.")  # fmt: skip
@click.option("--address", help="Ray cluster for training, campaign and analyses.")
def paper(config: str, out: Path, overrides: tuple[str, ...], address: str | None) -> None:
    try:
        sizes = read_paper(config, overrides)
        place = claim(out, sizes, address)
        with run_lock(place.out / "stages"):
            tell(place)
    except (FileNotFoundError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def claim(out: Path, config: PaperConfig, address: str | None = None) -> Place:
    """Make the folder of a story, or come back to it.

    Raises ConfigurationError where it holds another story, or a stage cannot be configured so.
    """
    place = Place(out=out.resolve(), config=config, address=address)
    text, path = resolved_yaml(config), place.out / RESOLVED
    if path.is_file() and path.read_text() != text:
        raise ConfigurationError(
            f"{out} holds a story of other sizes ({path}): choose another --out"
        )
    with tempfile.TemporaryDirectory() as folder:
        _check(configurations(Place(out=Path(folder), config=config)))
    place.out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return place


def _check(paths: dict[str, str]) -> None:
    """Raise ValueError where a configuration of another package cannot be read."""
    for name in ("pre-campaign", "post-campaign"):
        load_model(paths[name])
    read_metric_config(paths["training"])
    read_campaign(paths["campaign"])


def tell(place: Place) -> Path:
    """Carry out what is not done yet, and write the page after every stage; its path."""
    stages = stages_of(place.config)
    page = write_page(place, stages)
    for number, stage in enumerate(stages, start=1):
        if is_done(place, stage):
            continue
        click.echo(f"[{number}/{len(stages)}] {stage.what}", err=True)
        carry_out(place, stage)
        page = write_page(place, stages)
    click.echo(f"{len(stages)} stages done: {page}")
    return page


def carry_out(place: Place, stage: Stage) -> None:
    """Run the commands of a stage; a failure ends the program with exit code 1."""
    began = time.monotonic()
    commands = stage.commands(place)
    for words in commands:
        code = _run(words)
        if code:
            raise click.ClickException(
                f"{stage.what} failed with exit code {code}; the same command continues from here"
            )
    reason = stopped_early(place, stage)
    if reason is not None:
        raise click.ClickException(f"{stage.what} is {reason}; the same command continues it")
    mark_done(place, stage, time.monotonic() - began, commands)


def _run(words: list[str]) -> int:
    """The exit code of a command, which hears of an interrupt and ends with this process."""
    command = [sys.executable, "-m", "campaign.paper.child", *words]
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        raise click.ClickException(f"{words[0]}: {error}") from error
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
