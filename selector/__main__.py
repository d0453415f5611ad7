"""Command line of the selector: select, replay, coverage, bench."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from selector.coverage import coverage
from selector.coverage_figure import draw_coverage
from selector.farthest_point import FarthestPointSampler
from selector.recorded import replay as replay_history
from selector.vector_tables import read_vectors

LOGGER = logging.getLogger(__name__)
FILE = click.Path(path_type=Path)


class BadInput(click.ClickException):
    """Input that cannot be used: one sentence, exit code 2."""

    exit_code = 2


@click.group()
def main() -> None:
    """Farthest-point selection of vectors, exact and streaming (DynIm)."""
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)


@main.command()
@click.argument("file", type=FILE)
@click.option("--n", "number", required=True, type=click.IntRange(min=0), help="How many.")
@click.option("--k", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--warm-up", default=1, show_default=True, type=click.IntRange(min=0))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--frozen", is_flag=True, help="Rank once and take the first n.")
@click.option("--minimum-separation", default=0.0, show_default=True, type=float)
@click.option("--dataset", help="HDF5 dataset with the vectors.")
@click.option("--ids", "id_column", help="HDF5 dataset or CSV column with the identifiers.")
@click.option("--out", type=FILE, help="Write id,importance as CSV instead of printing it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def select(
    file: Path,
    number: int,
    k: int,
    warm_up: int,
    seed: int,
    frozen: bool,
    minimum_separation: float,
    dataset: str | None,
    id_column: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Select N rows of a table of vectors (npy, HDF5, CSV), each the farthest from the earlier."""

    def run() -> tuple[FarthestPointSampler, list[Any]]:
        ids, vectors = read_vectors(file, dataset, id_column)
        sampler = FarthestPointSampler(
            vectors.shape[1], k=k, capacity=len(vectors), warm_up=warm_up, seed=seed,
            minimum_separation=minimum_separation,
        )  # fmt: skip
        new = sampler.add(ids, vectors)
        if new < len(vectors):
            LOGGER.warning("%d rows repeat an earlier identifier: ignored", len(vectors) - new)
        return sampler, sampler.select(number, frozen=frozen)

    started = time.perf_counter()
    sampler, chosen = _with_progress(f"Selecting {number} of {file.name}", run)
    importances = sampler.last_importances.tolist()
    lines = "".join(f"{name},{value!r}\n" for name, value in zip(chosen, importances, strict=True))
    covered = coverage(sampler)
    summary = {
        "requested": number,
        "selected": len(chosen),
        "candidates_left": len(sampler),
        "coverage": covered.as_json(),
        "elapsed_s": time.perf_counter() - started,
    }
    if out is not None:
        out.write_text("id,importance\n" + lines)
    if as_json:
        # The first importance is infinite, which JSON has no word for.
        known = [value if math.isfinite(value) else None for value in importances]
        click.echo(json.dumps(summary | {"ids": chosen, "importances": known}))
        return
    if out is None:
        click.echo("id,importance\n" + lines, nl=False)
    click.echo(
        f"selected {len(chosen)} of {len(chosen) + len(sampler)} candidates "
        f"in {summary['elapsed_s']:.2f} s, fill distance {covered.fill_distance:.6g}",
        err=True,
    )


@main.command()
@click.argument("log", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--ids", "with_ids", is_flag=True, help="Print every selection: id,importance.")
def replay(log: Path, as_json: bool, with_ids: bool) -> None:
    """Run a recorded history again and check every selection and eviction bit for bit."""
    result = _with_progress(f"Replaying {log.name}", lambda: replay_history(log))
    summary = {
        "records": result.records,
        "candidates_offered": result.candidates_offered,
        "selections": len(result.selections),
        "evictions": result.evictions,
        "identical": True,
    }
    if as_json:
        click.echo(json.dumps(summary | {"ids": [name for name, _ in result.selections]}))
        return
    if with_ids:
        for name, importance in result.selections:
            click.echo(f"{name},{importance!r}")
    click.echo(
        f"{result.records} records, {result.candidates_offered} candidates offered, "
        f"{result.evictions} evictions: all {len(result.selections)} selections identical",
        err=True,
    )


@main.command("coverage")
@click.option("--out", type=FILE, default=Path("coverage.png"), show_default=True)
@click.option("--candidates", default=20_000, show_default=True, type=click.IntRange(min=10))
@click.option("--selections", default=1000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def coverage_command(out: Path, candidates: int, selections: int, seed: int) -> None:
    """Draw the coverage of clustered data by greedy, frozen and random selection."""
    if out.suffix != ".png" or not out.parent.is_dir():
        raise BadInput(f"--out must be a .png file in an existing folder, given {out}")
    _with_progress("Selecting", lambda: draw_coverage(out, candidates, selections, seed))
    click.echo(f"wrote {out} and {out.with_suffix('.json')}", err=True)


@main.command()
@click.option("--candidates", default=35_000, show_default=True, type=click.IntRange(min=100))
@click.option("--selected", default=5_000, show_default=True, type=click.IntRange(min=0))
@click.option("--dimension", default=9, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(candidates: int, selected: int, dimension: int, as_json: bool) -> None:
    """Time one greedy pick and one add-10-select-1 on Gaussian data, on this machine."""
    result = _with_progress("Timing", lambda: time_selection(candidates, selected, dimension))
    if as_json:
        click.echo(json.dumps(result))
    else:
        for name, value in result.items():
            click.echo(f"{name:30} {value:10.1f}")


def time_selection(candidates: int, selected: int, dimension: int) -> dict[str, float]:
    """Thread CPU time in µs of a greedy pick within one call, and of add 10 + select 1 (median)."""
    random = np.random.default_rng(0)
    rounds = 200
    number = candidates + selected + 10 * rounds
    vectors = random.standard_normal((number, dimension)).astype(np.float32)
    ids = np.arange(len(vectors))
    first = candidates + selected
    sampler = FarthestPointSampler(dimension, capacity=len(vectors), warm_up=0)
    sampler.mark_selected(ids[candidates:first], vectors[candidates:first])
    sampler.add(ids[:candidates], vectors[:candidates])
    sampler.importance(ids[:candidates])
    picks = min(500, candidates // 4)
    sampler.select(1)
    started = time.thread_time()
    sampler.select(picks)
    pick_us = (time.thread_time() - started) / picks * 1e6
    calls = []
    for start in range(first, first + 10 * rounds, 10):
        started = time.thread_time()
        sampler.add(ids[start : start + 10], vectors[start : start + 10])
        sampler.select(1)
        calls.append(time.thread_time() - started)
    return {"greedy_pick_us": pick_us, "add_10_select_1_us": float(np.median(calls)) * 1e6}


def _with_progress(label: str, work: Callable[[], Any]) -> Any:
    """Run with a spinner on a terminal; bad input ends the command with exit code 2."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            progress.add_task(label, total=None)
            return work()
    except (ValueError, OSError) as error:
        raise BadInput(str(error)) from None


if __name__ == "__main__":
    main()
