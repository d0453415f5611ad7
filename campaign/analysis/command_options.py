"""What the commands of `analyse` share: options, errors of one sentence, and where results go."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from campaign.analysis.workers import Workers
from continuum.atomic_file import write_atomically
from ml.training.errors import ClusterError

RUN = click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
ENCODER = click.option(
    "--encoder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Encoder folder; by default the run's own, else the metric that ships with Bilayer.",
)
OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="RUN/report by default."
)
FIRST_US = click.option(
    "--first-us", default=1.0, show_default=True, help="Leave out what is earlier."
)
EVERY = click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="Snapshot."
)


def workers_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say where a command works; it is given `workers`."""

    @click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
    @click.option("--address", help="Of a Ray cluster to work on: host:port or auto.")
    @functools.wraps(command)
    def with_workers(*arguments: Any, workers: int, address: str | None, **options: Any) -> None:
        place = Workers(processes=workers, address=address)
        command(*arguments, workers=place, **options)

    return with_workers


def report(folder: Path | None, run: Path, name: str, numbers: dict[str, Any]) -> Path:
    """Write NAME.json; returns the path of the figure NAME.png that belongs beside it."""
    out = folder or run / "report"
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{name}.json", json.dumps(numbers, indent=1) + "\n")
    return out / f"{name}.png"


def one_line_errors(action: Callable[[], None]) -> None:
    """What a run lacks ends with one sentence and exit code 2, a cluster that fails with 1."""
    try:
        action()
    except ClusterError as error:
        raise click.ClickException(str(error)) from error
    except (FileNotFoundError, ValueError) as error:
        raise click.UsageError(str(error)) from error
