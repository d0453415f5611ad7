"""Commands that make metrics: `train metric` and `search metric`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ml.configuration_errors import ConfigurationError
from ml.metric.configuration import MetricConfig, preset_names, read_metric_config
from ml.patch_set import PatchDataError
from ml.training import ClusterError, TrainingError, read_records

BAD_INPUT, RUN_FAILED, INTERRUPTED = 2, 1, 130
PATH = click.Path(path_type=Path)
CONFIG = f"CONFIG is a YAML file or a preset: {', '.join(preset_names())}."


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """The options of training and searching."""
    for option in (
        click.option("--address", help="Head of a Ray cluster, host:port or auto; implies --ray."),
        click.option("--seed", type=click.IntRange(0), help="Override training.seed."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY.PATH=VALUE",
            help="Override one value of the configuration.",
        ),
        click.option(
            "--data",
            "sources",
            type=PATH,
            multiple=True,
            help="A run, a folder of patch files or a patch file; overrides data.sources.",
        ),
        click.option("--out", type=PATH, required=True, help="Folder of the results."),
        click.argument("config"),
    ):
        command = option(command)
    return command


@click.command(
    "metric",
    help=f"Train the similarity metric; the same command continues a killed run. {CONFIG}",
)
@_common
@click.option("--workers", type=click.IntRange(1), help="Override training.workers; > 1 uses Ray.")
@click.option("--ray", is_flag=True, help="Train through Ray, on RAY_ADDRESS or on this machine.")
def train_command(
    config: str,
    out: Path,
    sources: tuple[Path, ...],
    overrides: tuple[str, ...],
    seed: int | None,
    workers: int | None,
    ray: bool,
    address: str | None,
) -> None:
    with _failing_clearly():
        from ml.metric.training_run import train_metric

        given = _configured(config, sources, overrides, seed=seed, workers=workers)
        encoder = train_metric(given, out, ray=ray, address=address, command=_typed())
        records = read_records(out / "metrics.jsonl")
        best = min(records, key=lambda record: record.validation["total"])
        click.echo(
            f"wrote {encoder}: {len(records)} epochs, best validation loss"
            f" {best.validation['total']:.5g} in epoch {best.epoch + 1}",
            err=True,
        )


@click.command(
    "metric",
    help=f"Search the paper's ranges for metrics with Ray Tune and ASHA. {CONFIG}",
)
@_common
@click.option("--trials", type=click.IntRange(1), help="Override search.trials.")
@click.option("--concurrent", type=click.IntRange(1), help="Override search.concurrent.")
def search_command(
    config: str,
    out: Path,
    sources: tuple[Path, ...],
    overrides: tuple[str, ...],
    seed: int | None,
    trials: int | None,
    concurrent: int | None,
    address: str | None,
) -> None:
    with _failing_clearly():
        from ml.metric.model_search import search_metric

        given = _configured(config, sources, overrides, seed=seed)
        changes = {"trials": trials, "concurrent": concurrent}
        settings = given.search.model_copy(update={k: v for k, v in changes.items() if v})
        given = given.model_copy(update={"search": settings})
        found = search_metric(given, out, address=address, command=_typed())
        click.echo(found.table())
        click.echo(
            f"wrote {out}: {len(found.models)} models, {len(found.front)} on the Pareto front",
            err=True,
        )


def _configured(
    config: str, sources: tuple[Path, ...], overrides: tuple[str, ...], **training: Any
) -> MetricConfig:
    """The configuration with what options say; raises ConfigurationError."""
    if sources:
        overrides = (*overrides, f"data.sources={json.dumps([str(p.resolve()) for p in sources])}")
    given = [f"training.{name}={value}" for name, value in training.items() if value is not None]
    return read_metric_config(config, (*overrides, *given))


def _typed() -> list[str]:
    return ["python", "-m", "ml", *sys.argv[1:]]


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """Errors of input end with exit code 2, those of a run with 1, both with one sentence."""
    try:
        yield
    except (TrainingError, ClusterError) as error:
        _end(error, RUN_FAILED)
    except (ConfigurationError, PatchDataError) as error:
        _end(error, BAD_INPUT)
    except OSError as error:
        _end(error, RUN_FAILED)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command continues from the last epoch", err=True)
        sys.exit(INTERRUPTED)


def _end(error: Exception, code: int) -> None:
    click.echo(f"error: {error}", err=True)
    sys.exit(code)
