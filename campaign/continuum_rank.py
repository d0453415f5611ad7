"""The program that mpiexec starts: a continuum whose patches go to a campaign.

At every boundary rank 0 hands over the patches and waits for a permit, and only then do the ranks
take up parameters and go on. The other ranks of its host sleep meanwhile instead of spinning in
MPI, so that the cores are free for molecular dynamics.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
from numpy.typing import NDArray

from campaign.heartbeat import HeartbeatWriter
from campaign.rank_contract import (
    BAD_INPUT,
    CONFIGURATION,
    FENCED,
    RUN_FAILED,
    TransportName,
)
from campaign.rules import Pacing
from campaign.spool import (
    DivergentBatch,
    Fenced,
    PatchTransport,
    Permit,
    SpoolTransport,
    read_incarnation,
)
from continuum.configuration import (
    Configuration,
    build_model,
    configuration_hash,
    read_configuration,
)
from continuum.halo import SingleProcess, World, WrongLauncher, connect
from continuum.membrane import Membrane
from continuum.parameter_versions import latest_version
from continuum.parameters import Model
from continuum.patch_batch import PatchBatch
from continuum.progress import showing
from continuum.run import ADOPTED, RunPlan, resume
from continuum.validation import check_model

Array = NDArray[Any]

_POLL_S = 0.005


class WrongVersion(RuntimeError):
    """The parameters on disk are not those the permit was given for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlan:
    """What one incarnation of a continuum has to do."""

    run: Path
    incarnation: int
    last_snapshot: int
    transport: TransportName
    pacing: Pacing


class BoundarySignal:
    """Tells the ranks on rank 0's host which boundary has been passed, through a file."""

    def __init__(self, run: Path, incarnation: int) -> None:
        self._path = run / "control" / "passed"
        self._incarnation = incarnation

    def announce(self, snapshot_index: int) -> None:
        temporary = self._path.with_name(".passed.partial")
        temporary.write_text(f"{self._incarnation} {snapshot_index}\n")
        os.replace(temporary, self._path)

    def passed(self, snapshot_index: int) -> bool:
        try:
            incarnation, index = map(int, self._path.read_text().split())
        except FileNotFoundError:
            return False
        return incarnation == self._incarnation and index >= snapshot_index


class PatientWorld:
    """A world whose ranks sleep where they would wait for rank 0 at a boundary.

    MPI waits by spinning. A rank that shares rank 0's host waits for the signal instead, between
    its part of the patches and whatever it does next together with rank 0.
    """

    def __init__(self, world: World, signal: BoundarySignal) -> None:
        self.rank, self.size = world.rank, world.size
        self.next_boundary: int | None = None
        self.fill_halo, self.sum = world.fill_halo, world.sum
        self.send_rows, self.receive_rows = world.send_rows, world.receive_rows
        self.barrier, self.abort = world.barrier, world.abort
        self._world, self._signal = world, signal
        hosts = world.gather_to_root(socket.gethostname())
        root_host = world.broadcast(None if hosts is None else hosts[0])
        self._sleeps = world.rank != 0 and root_host == socket.gethostname()
        self._at_boundary = False

    def sum_to_root(self, array: Array) -> Array | None:
        total = self._world.sum_to_root(array)
        self._at_boundary = True
        return total

    def broadcast(self, value: Any) -> Any:
        self._await_root()
        return self._world.broadcast(value)

    def gather_to_root(self, value: Any) -> list[Any] | None:
        self._await_root()
        return self._world.gather_to_root(value)

    def _await_root(self) -> None:
        if self._at_boundary and self._sleeps and self.next_boundary is not None:
            while not self._signal.passed(self.next_boundary):
                time.sleep(_POLL_S)
        self._at_boundary = False


def carry_out(plan: RankPlan, world: World) -> Membrane:
    """Run the ranks of a plan to its last snapshot, from the last checkpoint if there is one.

    Raises what `continuum.run.resume` raises; Fenced where a younger incarnation took over,
    DivergentBatch where patches differ from those sent before, WrongVersion where the parameters on
    disk are not the permitted ones.
    """
    configuration = _configuration(plan.run)
    model = build_model(configuration)
    check_model(model, world.size)
    signal = BoundarySignal(plan.run, plan.incarnation)
    patient = PatientWorld(world, signal)
    beat = HeartbeatWriter(plan.run, plan.incarnation) if world.rank == 0 else None
    sink = _boundary_sink(plan, model, signal, beat) if beat else _no_sink
    whole = RunPlan(
        model=model,
        configuration_hash=configuration_hash(configuration),
        folder=plan.run,
        sink=sink,
        last_snapshot=plan.last_snapshot,
    )
    patient.next_boundary = 0
    end_us = plan.last_snapshot * model.output.snapshot_interval_us
    with showing(0.0, end_us, world.rank) as show:

        def report(membrane: Membrane, index: int) -> None:
            patient.next_boundary = index + 1
            if beat:
                beat.beat("stepping", index + 1, membrane.step, membrane.time_us)
            show(membrane, index)

        return resume(whole, patient, report)


def _configuration(run: Path) -> Configuration:
    path = run / CONFIGURATION
    if not path.is_file():
        raise FileNotFoundError(f"{run} holds no campaign: {path} does not exist")
    return read_configuration(path)


def _no_sink(batch: PatchBatch) -> NoReturn:
    raise RuntimeError("only rank 0 holds whole patches")


def _boundary_sink(
    plan: RankPlan, model: Model, signal: BoundarySignal, beat: HeartbeatWriter
) -> Callable[[PatchBatch], None]:
    transport = _open_transport(plan, model, beat)
    parameters = plan.run / "parameters"

    def hand_over(batch: PatchBatch) -> None:
        index = batch.snapshot_index
        beat.beat("sending", index)
        transport.send(batch)
        beat.beat("waiting", index)
        permit = transport.wait_permit(index)
        if plan.pacing == "lockstep" and index not in adopted_versions(parameters):
            _check_version(permit, latest_version(parameters) or 0, index)
        signal.announce(index)

    return hand_over


def _check_version(permit: Permit, newest: int, snapshot_index: int) -> None:
    if newest != permit.parameter_version:
        raise WrongVersion(
            f"boundary {snapshot_index} may be passed under parameter version"
            f" {permit.parameter_version}, but the newest on disk is {newest}"
        )


def adopted_versions(parameters: Path) -> dict[int, int]:
    """Parameter version by the boundary at which the continuum took it up (or kept it).

    The record is the continuum's, `adopted.jsonl`; a last line cut short by a crash does not count.
    """
    path = parameters / ADOPTED
    if not path.exists():
        return {}
    records = map(json.loads, path.read_text().rpartition("\n")[0].splitlines())
    return {record["snapshot_index"]: record["parameter_version"] for record in records}


def _open_transport(plan: RankPlan, model: Model, beat: HeartbeatWriter) -> PatchTransport:
    opening: type[PatchTransport]
    if plan.transport == "ray":
        from campaign.ray_bridge import RayTransport

        opening = RayTransport
    else:
        opening = SpoolTransport
    return opening(
        plan.run,
        plan.incarnation,
        model.lipids.labels,
        tuple(state.name for state in model.proteins.states),
        compression=model.output.compression,
        waiting=lambda: beat.beat("waiting"),
    )


@click.command("continuum-rank")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--last-snapshot", type=click.IntRange(0), required=True, help="Where to end.")
@click.option("--incarnation", type=click.IntRange(1), help="By default the one now at work.")
@click.option(
    "--transport", type=click.Choice(["spool", "ray"]), default="spool", show_default=True
)
@click.option(
    "--pacing", type=click.Choice(["lockstep", "free"]), default="lockstep", show_default=True
)
@click.option("--supervised", is_flag=True, help="End when standard input does.")
def continuum_rank(
    run: Path,
    last_snapshot: int,
    incarnation: int | None,
    transport: TransportName,
    pacing: Pacing,
    supervised: bool,
) -> None:
    """The continuum of a campaign on one rank; started by mpiexec, by the launcher or by hand."""
    with _failing_clearly() as world:
        if supervised and world.rank == 0:
            _end_with_standard_input()
        plan = RankPlan(
            run=run,
            incarnation=incarnation or read_incarnation(run) or 1,
            last_snapshot=last_snapshot,
            transport=transport,
            pacing=pacing,
        )
        began = time.monotonic()
        membrane = carry_out(plan, world)
        if world.rank == 0:
            click.echo(
                f"{run}: {membrane.time_us:g} µs, snapshots to {last_snapshot}, incarnation"
                f" {plan.incarnation}, on {world.size} rank{'s' if world.size > 1 else ''} in"
                f" {time.monotonic() - began:.0f} s"
            )


def _end_with_standard_input() -> None:
    """The launcher holds the other end: its death, even by SIGKILL, must not leave ranks behind."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        sys.stderr.write("the launcher is gone: ending the ranks\n")
        sys.stderr.flush()
        os._exit(RUN_FAILED)

    threading.Thread(target=watch, name="launcher-watch", daemon=True).start()


@contextmanager
def _failing_clearly() -> Iterator[World]:
    """One sentence and a code that says whether another attempt makes sense: 1 yes, 2 and 3 no."""
    world: World = SingleProcess()
    try:
        world = connect()
        yield world
    except Fenced as error:
        _leave(world, error, FENCED)
    except (FloatingPointError, OSError, OverflowError, ConnectionError) as error:
        _leave(world, error, BAD_INPUT if isinstance(error, FileNotFoundError) else RUN_FAILED)
    except (WrongLauncher, DivergentBatch, WrongVersion, ValueError) as error:
        _leave(world, error, BAD_INPUT)


def _leave(world: World, error: Exception, code: int) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    sys.stderr.flush()
    if world.size > 1:
        world.abort(code)
    sys.exit(code)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    continuum_rank(prog_name="python -m campaign continuum-rank")
