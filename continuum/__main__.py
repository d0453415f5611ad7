"""`python -m continuum`: run, resume, render, inspect, validate (DESIGN 3.7)."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.progress import TaskID

from continuum.configuration import (
    configuration_hash,
    load_model,
    preset_names,
    read_configuration,
    resolved_yaml,
)
from continuum.halo import World, WrongLauncher, connect
from continuum.inspection import describe_file
from continuum.parameters import Model
from continuum.run import RunPlan, claim_folder, directory_sink, resume, run, snapshots_in
from continuum.validation import check_model

BAD_INPUT, RUN_FAILED = 2, 1
_FORWARDING_S = 0.3  # mpiexec drops what it has not passed on when a rank aborts
CONFIG_HELP = "CONFIG is a YAML file or a preset: " + ", ".join(preset_names()) + "."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("bilayer"))
def main() -> None:
    """A DDFT cell membrane on MPI ranks."""


_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override one value of the configuration.",
)


@main.command("run", help=f"Run a membrane from its beginning. {CONFIG_HELP}")
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder.")
@_overrides
@click.option("--snapshots", type=click.IntRange(0), help="Stop after this snapshot.")
@click.option("--seed", type=click.IntRange(0), help="Override the seed.")
@click.option(
    "--patches",
    type=click.Choice(["directory", "none"]),
    default="directory",
    show_default=True,
    help="Where patches go.",
)
def run_command(
    config: str,
    out: Path,
    overrides: tuple[str, ...],
    snapshots: int | None,
    seed: int | None,
    patches: str,
) -> None:
    with _failing_clearly() as world:
        if seed is not None:
            overrides = (*overrides, f"seed={seed}")
        configuration = read_configuration(config, overrides)
        model = load_model(config, overrides)
        check_model(model, world.size)
        if world.rank == 0:
            claim_folder(out)
            _describe_run(out, config, resolved_yaml(configuration), patches)
        world.barrier()
        _carry_out(world, model, configuration_hash(configuration), out, patches, snapshots, False)


@main.command("resume", help="Continue a run from its last checkpoint, bit for bit.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--snapshots", type=click.IntRange(0), help="Stop after this snapshot.")
@click.option(
    "--duration-us", type=float, help="Run until this simulated time instead of the configured one."
)
def resume_command(folder: Path, snapshots: int | None, duration_us: float | None) -> None:
    with _failing_clearly() as world:
        resolved = folder / "config.resolved.yaml"
        if not resolved.is_file():
            raise click.UsageError(f"{folder} holds no run: {resolved} does not exist")
        overrides = () if duration_us is None else (f"duration_us={duration_us}",)
        configuration = read_configuration(resolved, overrides)
        model = load_model(resolved, overrides)
        check_model(model, world.size)
        patches = json.loads((folder / "run.json").read_text())["patches"]
        _carry_out(
            world, model, configuration_hash(configuration), folder, patches, snapshots, True
        )


@main.command("validate", help=f"Check a configuration and print what it means. {CONFIG_HELP}")
@click.argument("config")
@_overrides
@click.option("--ranks", type=click.IntRange(1), default=1, help="Number of ranks to check for.")
def validate_command(config: str, overrides: tuple[str, ...], ranks: int) -> None:
    from continuum.validation import describe_model

    with _failing_clearly(parallel=False):
        click.echo(describe_model(load_model(config, overrides), ranks))


@main.command("calibrate", help=f"Measure how proteins cluster against λ. {CONFIG_HELP}")
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where results go.")
@click.option(
    "--strength", "strengths", type=float, multiple=True, default=(0.4, 0.8, 1.2), show_default=True
)
@click.option("--lipid", default="inner PAP6", show_default=True)
@_overrides
def calibrate_command(
    config: str, out: Path, strengths: tuple[float, ...], lipid: str, overrides: tuple[str, ...]
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from continuum.clustering import measure_clustering, write_clustering

    with _failing_clearly(parallel=False):
        models = {
            strength: load_model(config, (*overrides, f"potentials.strength={strength}"))
            for strength in strengths
        }
        series = []
        with Progress(console=Console(stderr=True)) as bar:
            for strength, model in models.items():
                task = bar.add_task(f"λ = {strength:g}", total=model.duration_us)

                def tick(time_us: float, task: TaskID = task) -> None:
                    bar.update(task, completed=time_us)

                series.append(measure_clustering(strength, model, lipid, tick))
        kind = next(iter(models.values())).proteins.kinds[0]
        for path in write_clustering(series, lipid, kind, out):
            click.echo(str(path))


@main.command("recut", help="Cut the patches of a run's snapshots again, at random angles.")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where views go.")
@click.option("--copies", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def recut_command(run_folder: Path, out: Path, copies: int, seed: int) -> None:
    from rich.console import Console
    from rich.progress import track

    from continuum.recut import recut_run

    with _failing_clearly(parallel=False):
        model = load_model(str(run_folder / "config.resolved.yaml"))
        total = copies * len(list((run_folder / "snapshots").glob("[0-9]*.h5")))
        views = recut_run(run_folder, out, model, copies, seed)
        written = list(track(views, "recut", total=total, console=Console(stderr=True)))
        click.echo(f"{out}: {copies} views of {len(written) // copies} snapshots")


@main.command("inspect", help="Say what is in a snapshot, patch, checkpoint or parameter file.")
@click.argument("file", type=click.Path(path_type=Path))
def inspect_command(file: Path) -> None:
    with _failing_clearly(parallel=False):
        click.echo(describe_file(file))


@main.command("render", help="Draw the membrane, an animation and patches of a run or a snapshot.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the pictures.")
@click.option("--field", "fields", multiple=True, help='Such as "inner PAP6"; may be repeated.')
@click.option("--animation", type=click.Choice(["gif", "mp4", "none"]), default="gif")
def render_command(path: Path, out: Path | None, fields: tuple[str, ...], animation: str) -> None:
    from continuum.run_pictures import draw_run

    with _failing_clearly(parallel=False):
        for picture in draw_run(path, out, fields, animation):
            click.echo(str(picture))


def _carry_out(
    world: World,
    model: Model,
    hash_: str,
    folder: Path,
    patches: str,
    snapshots: int | None,
    resuming: bool,
) -> None:
    from continuum.progress import showing

    whole = snapshots_in(model)
    last = whole if snapshots is None else min(snapshots, whole)
    plan = RunPlan(
        model=model,
        configuration_hash=hash_,
        folder=folder,
        sink=directory_sink(model, folder / "patches") if patches == "directory" else None,
        last_snapshot=last,
    )
    began = time.monotonic()
    end_us = last * model.output.snapshot_interval_us
    with showing(0.0, end_us, world.rank) as report:
        membrane = (resume if resuming else run)(plan, world, report)
    if world.rank == 0:
        click.echo(
            f"{folder}: {membrane.time_us:g} µs, snapshots 0 to {last}, on {world.size} rank"
            f"{'s' if world.size > 1 else ''} in {time.monotonic() - began:.0f} s"
        )


def _describe_run(folder: Path, config: str, resolved: str, patches: str) -> None:
    from continuum.atomic_file import write_atomically

    given = Path(config)
    write_atomically(
        folder / "config.yaml",
        given.read_text() if given.is_file() else f"preset: {config}\n",
    )
    write_atomically(folder / "config.resolved.yaml", resolved)
    run_facts = {"bilayer": version("bilayer"), "config": config, "patches": patches}
    write_atomically(folder / "run.json", json.dumps(run_facts, indent=1) + "\n")


@contextmanager
def _failing_clearly(parallel: bool = True) -> Iterator[World]:
    """One sentence and exit code 2 for bad input, 1 for a failure on the way; never a traceback.

    Bad input fails alike on every rank, so each leaves by itself and rank 0 speaks; a failure on
    the way may be one rank's alone, so it takes the others down.
    """
    from continuum.halo import SingleProcess

    world: World = SingleProcess()
    try:
        world = connect() if parallel else world
        yield world
    except (
        WrongLauncher,
        ValueError,
        FileNotFoundError,
        FileExistsError,
        PermissionError,
    ) as error:
        _leave(world, str(error), BAD_INPUT)
    except (FloatingPointError, OSError, OverflowError) as error:
        click.echo(f"Error: {error}", err=True)
        world.abort(RUN_FAILED)


def _leave(world: World, message: str, code: int) -> Any:
    click.echo(f"Error: {message}", err=True)
    if world.size > 1:
        time.sleep(_FORWARDING_S)
        world.abort(code)
    sys.exit(code)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(prog_name="python -m continuum")
