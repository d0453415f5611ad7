"""The loop over epochs: the same for every model, on one worker or on many.

A batch is shared by the workers, their outputs are gathered with gradient, and each computes the
loss of the whole batch: the outcome does not depend on the number of workers but for round-off.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ml.training.allocator import keep_freed_memory
from ml.training.batch_plan import Positions, share_of, training_batches, validation_batches
from ml.training.checkpoints import Progress, copied
from ml.training.errors import TrainingError
from ml.training.prefetch import Prefetcher
from ml.training.records import EpochRecord, best_epoch, has_stalled
from ml.training.settings import TrainingSettings
from ml.training.task import Batch, Split, Task
from ml.training.worker import Worker

_WEIGHTS, _EPOCH = 2, 3

# Called after every training batch with (epoch, batches done, batches of the epoch).
StepReport = Callable[[int, int, int], None]


class Keeper(Protocol):
    """Where a run's progress is kept: a folder, or Ray Train."""

    def restore(self, progress: Progress) -> None:
        """Continue from the latest checkpoint, if there is one."""

    def keep(self, progress: Progress) -> None:
        """Make the progress durable. Called by every worker after every epoch."""


def fit(task: Task, worker: Worker, keeper: Keeper, report: StepReport | None = None) -> None:
    """Train from the latest checkpoint, or from the beginning, to the last epoch.

    Raises TrainingError for a loss that is not finite, too little memory, a damaged checkpoint.
    """
    settings = task.settings
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if worker.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(_derived(settings.seed, _WEIGHTS))
    model = task.build().to(worker.device)
    progress = Progress(model=model, optimiser=task.optimiser(model), records=[], best={})
    keeper.restore(progress)
    parallel = worker.parallel(model)
    with _MemoryNamed(settings):
        while not _finished(settings, progress.records):
            record = _one_epoch(task, worker, progress, parallel, report or _silent)
            progress.records.append(record)
            if best_epoch(progress.records) == record.epoch:
                progress.best, progress.best_epoch = copied(model.state_dict()), record.epoch
            keeper.keep(progress)


def _finished(settings: TrainingSettings, records: list[EpochRecord]) -> bool:
    return len(records) >= settings.epochs or has_stalled(records, settings.early_stopping)


def _one_epoch(
    task: Task, worker: Worker, progress: Progress, parallel: nn.Module, report: StepReport
) -> EpochRecord:
    settings, epoch = task.settings, len(progress.records)
    began = time.perf_counter()
    torch.manual_seed(_derived(settings.seed, _EPOCH, epoch, worker.rank))
    rate = settings.learning_rate(epoch)
    for group in progress.optimiser.param_groups:
        group["lr"] = rate

    size = task.size("training")
    batches = training_batches(size, settings.batch_size, settings.seed, epoch)
    training, waited_s = _Means(), 0.0
    computed = _outputs(task, worker, parallel, "training", batches, epoch)
    parallel.train()
    for done, (length, outputs, waited_s) in enumerate(computed, start=1):  # noqa: B007
        loss, parts = task.loss(outputs)
        progress.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        progress.optimiser.step()
        training.add(length, loss, parts)
        report(epoch, done, len(batches))
    seconds = time.perf_counter() - began

    parallel.eval()
    with torch.no_grad():
        validation = _validate(task, worker, parallel, epoch)
        metrics = task.epoch_metrics(progress.model, epoch)
    return EpochRecord(
        epoch=epoch,
        learning_rate=rate,
        training=training.finite(f"the training loss of epoch {epoch + 1}"),
        validation=validation.finite(f"the validation loss of epoch {epoch + 1}"),
        metrics=metrics,
        seconds=time.perf_counter() - began,
        samples_per_s=size / seconds,
        waiting_share=waited_s / seconds,
    )


def _validate(task: Task, worker: Worker, parallel: nn.Module, epoch: int) -> "_Means":
    means = _Means()
    batches = validation_batches(task.size("validation"), task.settings.batch_size)
    for length, outputs, _ in _outputs(task, worker, parallel, "validation", batches, epoch):
        means.add(length, *task.loss(outputs))
    return means


def _outputs(
    task: Task,
    worker: Worker,
    model: nn.Module,
    split: Split,
    batches: list[Positions],
    epoch: int,
) -> Iterator[tuple[int, Batch, float]]:
    """Each batch's length, its gathered outputs, and the seconds waited for data so far."""
    for batch in batches:
        worker.check_batch(len(batch))
    shares = [share_of(batch, worker.rank, worker.count) for batch in batches]
    loads = [partial(task.load, split, share, epoch) for share in shares]
    prefetcher = Prefetcher(loads)
    for batch, loaded in zip(batches, prefetcher, strict=True):
        moved = {name: rows.to(worker.device) for name, rows in loaded.items()}
        with _precision(task.settings, worker):
            outputs = task.outputs(model, moved)
        full = {name: _in_full_precision(rows) for name, rows in outputs.items()}
        yield len(batch), worker.gather(full, len(batch)), prefetcher.waited_s


def _in_full_precision(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows


def _precision(settings: TrainingSettings, worker: Worker) -> AbstractContextManager[object]:
    """bfloat16 where a GPU computes it; losses and weights stay in float32."""
    on_gpu = worker.device.type == "cuda" and settings.mixed_precision == "auto"
    if on_gpu and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


class _Means:
    """Sample-weighted means of a loss and its parts, kept on the device until asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def add(self, length: int, total: Tensor, parts: dict[str, Tensor]) -> None:
        for name, value in {"total": total, **parts}.items():
            weighted = value.detach().double() * length
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted
        self._samples += length

    def finite(self, what: str) -> dict[str, float]:
        means = {name: float(value) / self._samples for name, value in self._sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise TrainingError(f"{what} is {value} ({name}); a lower learning rate may help")
        return means


class _MemoryNamed(AbstractContextManager[None]):
    """Turns torch's failed allocations into a TrainingError that says what to change."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        failed = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if failed or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
            raise TrainingError(
                f"too little memory for training.batch_size = {self._settings.batch_size}"
                f" ({str(error).splitlines()[0]}); a smaller batch or more workers need less"
            ) from error


def _silent(epoch: int, done: int, batches: int) -> None:
    pass


def _derived(*key: int) -> int:
    """A 64-bit seed for torch from (seed, purpose, ...)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
