"""Train a metric: a configuration in, a folder with the encoder and the run's records out.

OUT/config.resolved.yaml, run.json, metrics.jsonl, loss.png, checkpoints/ and, at the end, encoder/.
Running again into the same folder continues a run that was killed, with the same outcome.
"""

import fcntl
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml.atomic_file import write_atomically
from ml.code_version import code_version
from ml.configuration_errors import ConfigurationError
from ml.encoder import save_encoder
from ml.metric.configuration import MetricConfig, resolved_yaml
from ml.metric.networks import build_network
from ml.metric.task import MetricTask, make_metric_task, patches_of, task_arguments
from ml.metric.training_figures import draw_losses
from ml.training import Trained, train_here
from ml.training.progress import showing

ENCODER, RUN, LOSSES = "encoder", "run.json", "loss.png"


def train_metric(
    config: MetricConfig,
    out: Path,
    *,
    ray: bool = False,
    address: str | None = None,
    command: Sequence[str] = (),
) -> Path:
    """Train, or continue, in `out`; the encoder's folder.

    In this process, or through Ray with `ray`, an `address`, or more than one worker. Raises
    ConfigurationError where `out` holds another run, PatchDataError, TrainingError, ClusterError.
    """
    out = out.resolve()
    config = with_cache(config, out)
    with claimed(out):
        task = MetricTask(config, patches_of(config))
        _describe(out, config, task, command)
        trained = _trained(config, task, out, ray, address)
        draw_losses(out / LOSSES, trained.records, config.training.switch_epochs)
        return save_metric(out / ENCODER, config, task, trained, command)


def save_metric(
    folder: Path, config: MetricConfig, task: MetricTask, trained: Trained, command: Sequence[str]
) -> Path:
    """Write the encoder of a trained task."""
    network = build_network(config.network)
    network.load_state_dict(trained.weights)
    record = trained.records[trained.best_epoch]
    save_encoder(
        folder,
        network,
        config.network,
        task.standardisation,
        training={
            **provenance(config, task, command),
            "epochs": len(trained.records),
            "best_epoch": trained.best_epoch + 1,
        },
        metrics={"validation": record.validation, "training": record.training, **record.metrics},
    )
    return folder


def provenance(config: MetricConfig, task: MetricTask, command: Sequence[str]) -> dict[str, Any]:
    """What a metric is made from and by; folders of this machine are left out."""
    which = {"every", "first_us", "validation_share", "split_seed"}
    return {
        "data_fingerprint": task.patches.fingerprint,
        "data": config.data.model_dump(mode="json", include=which),
        "sources": [source.name for source in config.data.sources],
        "patches": {"training": task.size("training"), "validation": task.size("validation")},
        "identity": task.identity,
        "seed": config.training.seed,
        "loss": config.loss.model_dump(mode="json"),
        "code_version": code_version(),
        "command": re.sub(r"(?<![\w.])/[^\s,\]]*/", "", " ".join(command)),
    }


def with_cache(config: MetricConfig, out: Path) -> MetricConfig:
    """The configuration with `data.cache` inside `out` unless it names one."""
    if config.data.cache is not None:
        return config
    data = config.data.model_copy(update={"cache": out / "cache"})
    return config.model_copy(update={"data": data})


def _trained(
    config: MetricConfig, task: MetricTask, out: Path, ray: bool, address: str | None
) -> Trained:
    settings = config.training
    if not (ray or address or settings.workers > 1):
        task.require_memory()
        with showing("metric", settings.epochs) as reports:
            return train_here(task, out, reports.on_epoch, reports.on_step)
    try:
        from ml.training.ray_train import train_on_ray
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"training through Ray needs the package {error.name}: pip install 'bilayer[ml]'"
        ) from error
    with showing("metric", settings.epochs) as reports:
        return train_on_ray(
            make_metric_task,
            task_arguments(config, task),
            settings,
            out,
            address=address,
            on_epoch=reports.on_epoch,
        )


def _describe(out: Path, config: MetricConfig, task: MetricTask, command: Sequence[str]) -> None:
    """Write what is trained here; raises ConfigurationError if something else already is."""
    path = out / RUN
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8")).get("identity")
        if known != task.identity:
            raise ConfigurationError(
                f"{out} holds a run of another configuration or data set; choose another --out"
            )
    description = {**provenance(config, task, command), "workers": config.training.workers}
    write_atomically(path, json.dumps(description, indent=2) + "\n")
    write_atomically(out / "config.resolved.yaml", resolved_yaml(config))


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Hold `out` alone. Raises ConfigurationError where another process trains in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {out} cannot be made: {error}") from error
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"another process is training in {out}") from error
        yield
