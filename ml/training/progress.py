"""How a training run shows itself: a live bar on a terminal, a log line an epoch elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ml.training.records import EpochRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What a run calls: `on_epoch` with each record, `on_step` as `loop.StepReport`."""

    on_epoch: Callable[[EpochRecord], None]
    on_step: Callable[[int, int, int], None] | None


@contextmanager
def showing(name: str, epochs: int) -> Iterator[Reports]:
    """Yield the callbacks of one run of at most `epochs`."""
    if not sys.stderr.isatty():
        yield Reports(on_epoch=lambda record: log(record, epochs), on_step=None)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        whole = bar.add_task(f"{name}: epochs", total=epochs, state="")
        batches = bar.add_task("batches", total=None, state="")

        def on_epoch(record: EpochRecord) -> None:
            state = (
                f"loss {record.training['total']:.4g},"
                f" validation {record.validation['total']:.4g}, rate {record.learning_rate:g}"
            )
            bar.update(whole, completed=record.epoch + 1, state=state)

        def on_step(epoch: int, done: int, number: int) -> None:
            bar.update(batches, completed=done, total=number, state=f"of epoch {epoch + 1}")

        yield Reports(on_epoch=on_epoch, on_step=on_step)


def log(record: EpochRecord, epochs: int) -> None:
    """Write a record's log line to the error stream at once."""
    sys.stderr.write(record.line(epochs) + "\n")
    sys.stderr.flush()
