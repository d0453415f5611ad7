"""Training as a Ray Train job: one or many workers, restarted from the last checkpoint.

Ray Train keeps the checkpoints in FOLDER/checkpoints. A worker that dies is replaced and all go on
from the latest one; a driver that dies is replaced by running the same command again.
"""

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer

from ml.training.checkpoints import Progress, checkpoint_name, restore, save_checkpoint
from ml.training.errors import ClusterError, TrainingError
from ml.training.loop import fit
from ml.training.ray_cluster import cluster_cpus, cluster_gpus, connected
from ml.training.records import EpochRecord, read_records, write_records
from ml.training.settings import TrainingSettings
from ml.training.single import CHECKPOINTS, METRICS, EpochReport, trained_in
from ml.training.task import Task, Trained
from ml.training.worker import Worker

# Called on every worker with plain values; a function that workers can import.
TaskMaker = Callable[[Mapping[str, Any]], Task]

_KEPT = 2
_LOOK_S = 0.5


def train_on_ray(
    make_task: TaskMaker,
    arguments: Mapping[str, Any],
    settings: TrainingSettings,
    folder: Path,
    *,
    address: str | None = None,
    on_epoch: EpochReport | None = None,
) -> Trained:
    """Train `make_task(arguments)` on `settings.workers` workers, or continue in `folder`.

    `folder` must be visible from all nodes. Raises ClusterError, TrainingError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cpus = settings.threads or 1
    with connected(address, cpus * settings.workers):
        _say_if_waiting(cpus * settings.workers)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"make_task": make_task, "arguments": dict(arguments)},
            scaling_config=ScalingConfig(
                num_workers=settings.workers,
                use_gpu=_uses_gpu(settings),
                resources_per_worker={"CPU": cpus},
            ),
            run_config=RunConfig(
                name=CHECKPOINTS,
                storage_path=str(folder.resolve()),
                failure_config=FailureConfig(max_failures=settings.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=_KEPT),
                callbacks=[_Recorder(str(folder.resolve() / METRICS))],  # type: ignore[list-item]
                logging_config=LoggingConfig(log_level="WARNING"),  # type: ignore[call-arg]
            ),
        )
        try:
            with _watching(folder / METRICS, on_epoch):
                trainer.fit()
        except WorkerGroupError as error:
            raise _of_workers(error) from error
        except TrainingFailedError as error:
            raise ClusterError(f"Ray Train ended the run: {error}") from error
    trained = trained_in(folder / CHECKPOINTS)
    write_records(folder / METRICS, trained.records)
    return trained


def _work(config: dict[str, Any]) -> None:
    """What each worker runs."""
    logging.getLogger("ray.train.v2").setLevel(logging.WARNING)
    task: Task = config["make_task"](config["arguments"])
    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        count=context.get_world_size(),
        device=torch.device(ray.train.torch.get_device()),
    )
    fit(task, worker, _RayKeeper(task, worker))


class _RayKeeper:
    def __init__(self, task: Task, worker: Worker) -> None:
        self._task, self._worker = task, worker

    def restore(self, progress: Progress) -> None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                restore(Path(folder), progress, self._task.identity)

    def keep(self, progress: Progress) -> None:
        record = progress.records[-1]
        name = checkpoint_name(record.epoch)
        if self._worker.rank != 0:
            ray.train.report({}, checkpoint_dir_name=name)
            return
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            save_checkpoint(folder, progress, self._task.identity, self._task.settings.seed)
            ray.train.report(
                record.as_json(),
                checkpoint=Checkpoint.from_directory(str(folder)),
                checkpoint_dir_name=name,
            )


class _Recorder(UserCallback):
    """Writes metrics.jsonl as epochs end; runs in a process of its own on the driver's node."""

    def __init__(self, path: str) -> None:
        self._path = path

    def after_report(
        self, run_context: object, metrics: list[dict[str, Any]], checkpoint: object
    ) -> None:
        record = EpochRecord.of_json(metrics[0])
        path = Path(self._path)
        earlier = [known for known in read_records(path) if known.epoch < record.epoch]
        write_records(path, [*earlier, record])

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in worker_exceptions.items():
            sys.stderr.write(f"worker {rank} failed: {_reason(error)}\n")
        sys.stderr.flush()


@contextmanager
def _watching(path: Path, on_epoch: EpochReport | None) -> Iterator[None]:
    """Within the block each record that appears in metrics.jsonl is reported here."""
    if on_epoch is None:
        yield
        return
    seen = {record.epoch for record in read_records(path)}
    ended = Event()

    def watch() -> None:
        over = False
        while not over:
            over = ended.wait(_LOOK_S)
            for record in read_records(path):
                if record.epoch not in seen:
                    seen.add(record.epoch)
                    on_epoch(record)

    thread = Thread(target=watch, name="metrics")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _uses_gpu(settings: TrainingSettings) -> bool:
    if settings.use_gpu == "auto":
        return cluster_gpus() >= settings.workers
    return settings.use_gpu


def _say_if_waiting(cpus: int) -> None:
    present = cluster_cpus()
    if present < cpus:
        sys.stderr.write(f"waiting for {cpus} CPUs, the cluster has {present:g}\n")


def _of_workers(error: WorkerGroupError) -> TrainingError:
    failures = error.worker_failures
    rank, first = min(failures.items())
    return TrainingError(f"{len(failures)} worker(s) failed, worker {rank}: {_reason(first)}")


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
