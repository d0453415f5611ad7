"""Training in this process, without Ray: checkpoints in a folder, continued by running again."""

from collections.abc import Callable
from pathlib import Path

from ml.training.checkpoints import (
    Progress,
    checkpoint_name,
    keep_latest,
    latest_checkpoint,
    read_best,
    restore,
    save_checkpoint,
)
from ml.training.loop import StepReport, fit
from ml.training.records import EpochRecord, write_records
from ml.training.task import Task, Trained
from ml.training.worker import Worker, device_for

CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"
_KEPT = 2

EpochReport = Callable[[EpochRecord], None]


def train_here(
    task: Task,
    folder: Path,
    on_epoch: EpochReport | None = None,
    on_step: StepReport | None = None,
) -> Trained:
    """Train, or continue what a killed process began in `folder` with the same outcome.

    Raises TrainingError.
    """
    keeper = _FolderKeeper(task, folder, on_epoch)
    fit(task, Worker(device=device_for(task.settings)), keeper, on_step)
    return trained_in(folder / CHECKPOINTS)


def trained_in(checkpoints: Path) -> Trained:
    """The outcome of the run that kept its checkpoints here. Raises TrainingError."""
    checkpoint = latest_checkpoint(checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(f"{checkpoints} holds no checkpoint")
    weights, best_epoch, records = read_best(checkpoint)
    return Trained(weights=weights, best_epoch=best_epoch, records=records, checkpoint=checkpoint)


class _FolderKeeper:
    def __init__(self, task: Task, folder: Path, on_epoch: EpochReport | None) -> None:
        self._task, self._folder, self._on_epoch = task, folder, on_epoch
        self._checkpoints = folder / CHECKPOINTS
        self._checkpoints.mkdir(parents=True, exist_ok=True)

    def restore(self, progress: Progress) -> None:
        keep_latest(self._checkpoints, _KEPT)
        checkpoint = latest_checkpoint(self._checkpoints)
        if checkpoint is not None:
            restore(checkpoint, progress, self._task.identity)
        write_records(self._folder / METRICS, progress.records)

    def keep(self, progress: Progress) -> None:
        record = progress.records[-1]
        path = self._checkpoints / checkpoint_name(record.epoch)
        save_checkpoint(path, progress, self._task.identity, self._task.settings.seed)
        keep_latest(self._checkpoints, _KEPT)
        write_records(self._folder / METRICS, progress.records)
        if self._on_epoch is not None:
            self._on_epoch(record)
