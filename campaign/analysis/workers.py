"""Where an analysis works: processes of this machine, or tasks on a Ray cluster.

Either way tasks are small and many, results come back in the order of the tasks, and only a few of
them wait for whoever asked.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import joblib
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """`processes` here, unless `address` names a Ray cluster (host:port or auto)."""

    processes: int = 2
    address: str | None = None

    def each(
        self, function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], what: str
    ) -> Iterator[Result]:
        """`function(*task)` of every task, in their order, with progress.

        The function and its arguments must make sense on another node: absolute paths, plain
        values. Raises what the function raises, and ray_cluster.ClusterError.
        """
        if self.address is not None:
            from campaign.ray_analysis import each_on_ray

            return shown(each_on_ray(self.address, function, tasks), len(tasks), what)
        calls = (joblib.delayed(function)(*task) for task in tasks)
        done = joblib.Parallel(
            n_jobs=max(min(self.processes, len(tasks)), 1), return_as="generator"
        )(calls)
        return shown(done, len(tasks), what)


def shown(results: Iterable[Result], total: int, what: str) -> Iterator[Result]:
    """The results as they come: a bar on a terminal, one line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        click.echo(f"{what} ({total})", file=sys.stderr)
        yield from results
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(results, total=total)
