"""How a long run shows itself: a live bar on a terminal, a log line a snapshot elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from continuum.membrane import Membrane
from continuum.run import Progress as Report

SECONDS_PER_DAY = 86_400.0


class _Rate(ProgressColumn):
    """Simulated µs per day of wall time."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("- µs/day")
        return Text(f"{task.speed * SECONDS_PER_DAY:,.0f} µs/day")


@contextmanager
def showing(start_us: float, end_us: float, rank: int) -> Iterator[Report]:
    """Yield a callback for `run`; only rank 0 shows anything."""
    if rank != 0:
        yield lambda membrane, index: None
    elif sys.stderr.isatty():
        with _bar(start_us, end_us) as report:
            yield report
    else:
        yield _log(end_us)


@contextmanager
def _bar(start_us: float, end_us: float) -> Iterator[Report]:
    columns = (
        TextColumn("[bold]membrane"),
        BarColumn(),
        TextColumn("{task.completed:.2f} / {task.total:.2f} µs"),
        _Rate(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=end_us)
        bar.update(task, completed=start_us)
        yield lambda membrane, index: bar.update(task, completed=membrane.time_us)


def _log(end_us: float) -> Report:
    """A line at the first step of every snapshot; speed counts from then on."""
    began: list[tuple[float, float]] = []  # (seconds, µs) of the first report
    seen = -1

    def report(membrane: Membrane, index: int) -> None:
        nonlocal seen
        if not began:
            began.append((time.monotonic(), membrane.time_us))
        if index == seen:
            return
        seen = index
        first_s, first_us = began[0]
        elapsed = time.monotonic() - first_s
        rate = (membrane.time_us - first_us) / elapsed if elapsed > 0 else 0.0
        left = f"{(end_us - membrane.time_us) / rate:,.0f} s left" if rate > 0 else "starting"
        sys.stderr.write(
            f"snapshot {index}: {membrane.time_us:.3f} of {end_us:g} µs,"
            f" {rate * SECONDS_PER_DAY:,.0f} µs/day, {left}\n"
        )
        sys.stderr.flush()

    return report
