"""Commands that judge metrics: `evaluate metric` and `table1`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PATH = click.Path(path_type=Path)


class BadInput(click.ClickException):
    """Input that cannot be used: one sentence, exit code 2."""

    exit_code = 2


@click.group()
def evaluate() -> None:
    """Judge a trained model."""


@evaluate.command("metric")
@click.argument("encoder", type=PATH)
@click.argument("data", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder of evaluation.json and figures.")
@click.option("--patches", default=30_000, show_default=True, type=click.IntRange(min=10))
@click.option(
    "--split",
    type=click.Choice(["auto", "validation", "all"]),
    default="auto",
    show_default=True,
    help="Judge by validation histories only, or by all; auto: the former if trained on DATA.",
)
@click.option("--cache", type=PATH, help="Folder for the densities as one memory-mapped file.")
@click.option(
    "--first-us", type=click.FloatRange(min=0), help="First time that counts; default: as trained."
)
@click.option(
    "--every", type=click.IntRange(min=1), help="Of snapshots, every n-th; default: as trained."
)
@click.option("--factor", type=float, help="λ of MARE; default: the one trained for, else 0.1.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of tensor operations.")
def evaluate_metric_command(
    encoder: Path,
    data: tuple[Path, ...],
    out: Path,
    patches: int,
    split: Any,
    cache: Path | None,
    first_us: float | None,
    every: int | None,
    factor: float | None,
    seed: int,
    device: str,
    threads: int | None,
) -> None:
    """Judge ENCODER (a folder, or `shipped`) on DATA by the criteria and checks of the paper.

    DATA are run folders, folders of patch files, or a cache. Writes evaluation.json and figures 3,
    5, 6, 7a and 11 of Bhatia et al. 2022.
    """
    import torch

    from ml.encoder import load_encoder
    from ml.metric.evaluation_report import EvaluationOptions, evaluate_metric, trained_factor
    from ml.patch_data import open_patches

    with failing_clearly():
        where = chosen_device(device, torch.cuda.is_available())
        folder = None if str(encoder) == "shipped" else encoder
        loaded = load_encoder(folder, device=where, threads=threads)
        trained = loaded.info.training.get("data", {})
        opened = open_patches(
            data,
            cache=cache,
            first_us=trained.get("first_us", 0.0) if first_us is None else first_us,
            every=trained.get("every", 1) if every is None else every,
        )
        options = EvaluationOptions(
            patches=patches,
            split=split,
            seed=seed,
            factor=trained_factor(loaded) if factor is None else factor,
            device=where,
        )
        with steps_shown() as report:
            content = evaluate_metric(loaded, opened, out, options, report)
    criteria, checks = content["criteria"], content["checks"]
    click.echo(
        f"{criteria['patches']} patches ({content['data']['split']}), {criteria['pairs']} pairs:"
        f" AUC {criteria['auc']:.3f}, overlap {criteria['overlap_percent']:.3g} %,"
        f" MARE {criteria['mare']:.3g}, MARE* {criteria['mare_star']:.3g};"
        f" dz-dmu R {_told(checks['dz_dmu'])}"
        + (f", dz-dx R to 15 nm {_told(checks['dz_dx']['near'])}" if "dz_dx" in checks else "")
        + f"; wrote {out} in {content['total_s']:.0f} s"
    )
    for name, reason in checks["left_out"].items():
        click.echo(f"left out {name}: {reason}", err=True)


@click.command()
@click.argument("data", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder of the table and its trainings.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--epochs", type=click.IntRange(min=1), help="Of each training; default: presets'.")
@click.option("--row", "rows", multiple=True, help="Only these rows (repeat the option).")
@click.option("--patches", default=30_000, show_default=True, type=click.IntRange(min=10),
              help="Judge by at most this many validation patches.")  # fmt: skip
@click.option("--every", default=1, show_default=True, type=click.IntRange(min=1),
              help="Use every n-th snapshot.")  # fmt: skip
@click.option("--first-us", default=1.0, show_default=True, type=click.FloatRange(min=0),
              help="First time that counts: a membrane starts uniform.")  # fmt: skip
@click.option("--validation-share", default=0.1, show_default=True, type=float)
@click.option("--split-seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--cache", type=PATH, help="Folder of cached densities; default: OUT/cache.")
@click.option("--set", "overrides", multiple=True, help="key.path=value in every configuration.")
@click.option("--workers", type=click.IntRange(min=1), help="Workers of each training.")
@click.option("--ray", is_flag=True, help="Train through Ray.")
@click.option("--address", help="Ray cluster to train on.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def table1(
    data: tuple[Path, ...],
    out: Path,
    seeds: int,
    epochs: int | None,
    rows: tuple[str, ...],
    patches: int,
    every: int,
    first_us: float,
    validation_share: float,
    split_seed: int,
    cache: Path | None,
    overrides: tuple[str, ...],
    workers: int | None,
    ray: bool,
    address: str | None,
    device: str,
) -> None:
    """Train and judge every row of table 1 on DATA, beside the paper's values.

    Running again with the same OUT continues, and repeats nothing that is done. Writes table1.json,
    table1.csv and table1.png.
    """
    import torch

    from ml.metric.table1 import TableOptions, make_table
    from ml.metric.table1_report import as_text
    from ml.metric.table1_rows import ROW_NAMES

    if workers is not None:
        overrides = (*overrides, f"training.workers={workers}")
    with failing_clearly():
        options = TableOptions(
            sources=data,
            cache=cache,
            rows=rows or ROW_NAMES,
            seeds=seeds,
            epochs=epochs,
            judged=patches,
            every=every,
            first_us=first_us,
            validation_share=validation_share,
            split_seed=split_seed,
            overrides=overrides,
            ray=ray,
            address=address,
            device=chosen_device(device, torch.cuda.is_available()),
            command=("python", "-m", "ml", *sys.argv[1:]),
        )
        content = make_table(out, options, lambda line: click.echo(line, err=True))
    click.echo(as_text(content))
    click.echo(f"wrote {out / 'table1.json'}, table1.csv and table1.png")


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Input that cannot be used ends with exit code 2, a failed run with 1: one sentence each."""
    from ml.training import ClusterError, TrainingError

    try:
        yield
    except (ClusterError, TrainingError) as error:
        raise click.ClickException(str(error)) from None
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def steps_shown() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of named steps: bars on a terminal, a line for each step elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        seen: set[str] = set()

        def line(what: str, done: int, total: int) -> None:
            if what not in seen:
                seen.add(what)
                click.echo(f"{what} ({total})", file=sys.stderr)

        yield line
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield bar


def chosen_device(device: str, has_gpu: bool) -> str:
    """`auto` is the GPU when there is one."""
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    return device


def _told(relation: dict[str, Any]) -> str:
    means, pairs = (relation[name] for name in ("pearson_means", "pearson_pairs"))
    if means is None or pairs is None:
        return "undefined"
    return f"{means:.3f} of means, {pairs:.3f} of pairs"
