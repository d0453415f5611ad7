"""`python -m campaign`: run, resume, status, audit, validate, control and explain (DESIGN 3.7)."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from campaign.lazy_commands import LazyGroup
from continuum.configuration_tree import preset_names

if TYPE_CHECKING:
    from campaign.coordinator import Watcher

BAD_INPUT, RUN_FAILED = 2, 1
_PRESETS = preset_names(resources.files("campaign") / "presets")
CONFIG_HELP = f"CONFIG is a YAML file or a preset: {', '.join(_PRESETS)}."
_ELSEWHERE = {
    "analyse": ("campaign.analysis.commands:analyse", "Analyse a finished run."),
    "continuum-rank": (
        "campaign.continuum_rank:continuum_rank",
        "The continuum on one rank; mpiexec starts it.",
    ),
    "paper": (
        "campaign.paper.command:paper",
        "The paper's story in one resumable command, and a page of its numbers beside ours.",
    ),
    "replay": ("campaign.replay:replay", "The coordinator under a virtual clock."),
    "report": ("campaign.report:report", "Write the report of a run."),
}


@click.group(
    cls=LazyGroup,
    elsewhere=_ELSEWHERE,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(version("bilayer"))
def main() -> None:
    """The multiscale campaign: a membrane, patches, selection, molecular dynamics, feedback."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override one value of the configuration.",
)
_run_argument = click.argument("run", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_local = click.option("--local", is_flag=True, help="Without Ray: threads and processes here.")
_address = click.option(
    "--address", help="Of a Ray cluster; by default $RAY_ADDRESS, else one is started here."
)


@main.command("run", help=f"Run a campaign from its beginning. {CONFIG_HELP}")
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder.")
@_overrides
@click.option("--snapshots", type=click.IntRange(0), help="Stop after this snapshot.")
@click.option("--seed", type=click.IntRange(0), help="Override the seed.")
@_local
@_address
def run_command(
    config: str,
    out: Path,
    overrides: tuple[str, ...],
    snapshots: int | None,
    seed: int | None,
    local: bool,
    address: str | None,
) -> None:
    with _failing_clearly():
        from campaign.configuration import read_campaign
        from campaign.encoder_store import TrainingPlace
        from campaign.running import begin_campaign

        _require_one_place(local, address)
        if seed is not None:
            overrides = (*overrides, f"seed={seed}")
        if snapshots is not None:
            overrides = (*overrides, f"continuum.snapshots={snapshots}")
        setup = read_campaign(config, overrides)
        given = Path(config)
        text = given.read_text() if given.is_file() else f"preset: {config}\n"
        place = TrainingPlace(ray=not local, address=address)
        begin_campaign(out, setup, text, place)
        _carry_on(out, local=local, address=address, repair=False)


@main.command("resume")
@_run_argument
@click.option("--snapshots", type=click.IntRange(0), help="Stop after this snapshot instead.")
@click.option("--repair", is_flag=True, help="Cut a damaged journal after its last whole record.")
@_local
@_address
def resume_command(
    run: Path, snapshots: int | None, repair: bool, local: bool, address: str | None
) -> None:
    """Continue a run that was stopped, drained or killed, as if nothing had happened."""
    with _failing_clearly():
        from campaign.control import send_command
        from campaign.run_folder import read_setup

        _require_one_place(local, address)
        read_setup(run)
        if snapshots is not None:
            send_command(run, "set", ("snapshots", str(snapshots)))
        _carry_on(run, local=local, address=address, repair=repair)


def _require_one_place(local: bool, address: str | None) -> None:
    if local and address:
        raise click.UsageError("--local runs without Ray, so --address cannot be meant")


def _carry_on(run: Path, *, local: bool, address: str | None, repair: bool) -> None:
    from campaign.running import carry_on, local_shell
    from campaign.status import status_of

    began = time.monotonic()
    with _watcher(run) as watch:
        if local:
            state = carry_on(run, local_shell, watch=watch, repair=repair)
        else:
            try:
                from campaign.ray_driver import carry_on_with_ray
            except ModuleNotFoundError as error:
                raise RuntimeError(
                    f"Ray cannot be used ({error}): pip install 'bilayer[campaign]', or go on"
                    f" without it: campaign resume {run} --local"
                ) from error
            state = carry_on_with_ray(run, address=address, watch=watch, repair=repair)
    status = status_of(state)
    click.echo(
        f"{run}: {status.phase}: {status.time_us:g} µs of membrane,"
        f" {status.patches['ingested']:,} patches, {status.patches['selected']:,} selected,"
        f" {status.jobs['done']:,} jobs done and {status.jobs['abandoned']:,} given up, parameter"
        f" version {status.version}, in {time.monotonic() - began:.0f} s"
    )
    if status.phase.startswith("failed"):
        sys.exit(RUN_FAILED)


@contextmanager
def _watcher(run: Path) -> Iterator["Watcher"]:
    """A live view on a terminal, log lines elsewhere."""
    if not sys.stderr.isatty():
        from campaign.log_lines import log_lines

        yield log_lines()
        return
    from rich.console import Console

    from campaign.live_view import live_view
    from campaign.run_folder import read_setup

    setup = read_setup(run)
    end_us = setup.last_snapshot * setup.model.output.snapshot_interval_us
    slots = setup.config.molecular_dynamics.slots
    with live_view(run, slots, end_us, Console(stderr=True)) as watch:
        yield watch


@main.command("validate", help=f"Check a configuration and say what it means. {CONFIG_HELP}")
@click.argument("config")
@_overrides
@_json
def validate_command(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    with _failing_clearly():
        from campaign.configuration import read_campaign
        from campaign.description import description_lines

        setup = read_campaign(config, overrides)
        if as_json:
            click.echo(json.dumps(setup.config.model_dump(mode="json"), indent=1))
        else:
            click.echo("\n".join(description_lines(setup)))


@main.command("status")
@_run_argument
@_json
def status_command(run: Path, as_json: bool) -> None:
    """Say where a run stands, whether it is live or not."""
    with _failing_clearly():
        from campaign.status import lines, read_status

        found = read_status(run)
        click.echo(found.as_json() if as_json else "\n".join(lines(found)))


@main.command("audit")
@_run_argument
@click.option("--journal-only", is_flag=True, help="Do not read the files it speaks of.")
@_json
def audit_command(run: Path, journal_only: bool, as_json: bool) -> None:
    """Check the conservation laws of patches and jobs; exit code 1 on any break."""
    with _failing_clearly():
        from campaign.audit import audit_run

        report = audit_run(run, files=not journal_only)
        if as_json:
            click.echo(json.dumps({"sound": report.sound, **asdict(report)}, indent=1))
        else:
            for line in (*map(str, report.laws), *report.notes):
                click.echo(f"  {line}")
            for line in report.breaks:
                click.echo(f"  BREAK: {line}")
            click.echo(
                f"{run}: {'sound' if report.sound else 'NOT SOUND'}: {len(report.breaks)} breaks,"
                f" {report.files_checked:,} files read, {report.selections_replayed:,} selections"
                " repeated"
            )
        if not report.sound:
            sys.exit(RUN_FAILED)


@main.command("why")
@_run_argument
@click.argument("job")
def why_command(run: Path, job: str) -> None:
    """Trace a job: selection, patch, snapshot, parameter version, the jobs behind that."""
    with _failing_clearly():
        from campaign.lineage import lineage_lines

        click.echo("\n".join(lineage_lines(run, job)))


@main.command("drain")
@_run_argument
def drain_command(run: Path) -> None:
    """Start nothing more, let running jobs end, then end the campaign; `resume` continues it."""
    _command(run, "drain")


@main.command("stop")
@_run_argument
def stop_command(run: Path) -> None:
    """End a live campaign now; `resume` continues it."""
    _command(run, "stop")


@main.command("set")
@_run_argument
@click.argument("assignment", metavar="KEY=VALUE")
def set_command(run: Path, assignment: str) -> None:
    """Change a live campaign: mix.ENGINE=SHARE, or snapshots=N."""
    with _failing_clearly():
        from campaign.control import checked_assignment
        from campaign.run_folder import read_state

        arguments = checked_assignment(read_state(run)[1], assignment)
    _command(run, "set", arguments)


def _command(run: Path, command: str, arguments: tuple[str, ...] = ()) -> None:
    with _failing_clearly():
        from campaign.control import send_command
        from campaign.run_folder import read_setup
        from campaign.run_lock import holder

        read_setup(run)
        if holder(run / "journal") is None:
            click.echo(f"Error: no live campaign works on {run}", err=True)
            sys.exit(RUN_FAILED)
        number = send_command(run, command, arguments)
        click.echo(f"{run}: command {number}: {' '.join((command, *arguments))}")


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """One sentence and exit code 2 for bad input, 1 for a failure on the way; never a traceback."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, PermissionError, ValueError) as error:
        _leave(error, BAD_INPUT)
    except (OSError, ArithmeticError, RuntimeError) as error:
        _leave(error, RUN_FAILED)


def _leave(error: Exception, code: int) -> NoReturn:
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="python -m campaign")
