"""A checkpoint is a folder: weights, best weights and optimiser as safetensors, the rest as JSON.

state.json: {schema, identity, seed, next_epoch, optimiser: {groups, scalars}, records, best_epoch,
sha256 of the other files}. Randomness is keyed by (seed, epoch), so that pair is its position.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ml.atomic_file import atomic_folder
from ml.training.errors import TrainingError
from ml.training.records import EpochRecord

SCHEMA = "bilayer/training/1"
_MODEL, _BEST, _OPTIMISER, _STATE = (
    "model.safetensors",
    "best.safetensors",
    "optimiser.safetensors",
    "state.json",
)
_PREFIX = "epoch-"


@dataclass(slots=True, kw_only=True)
class Progress:
    """All that a run carries from one epoch to the next; the loop mutates it."""

    model: nn.Module
    optimiser: Optimizer
    records: list[EpochRecord]
    best: dict[str, Tensor]
    best_epoch: int = -1


def checkpoint_name(epoch: int) -> str:
    """Folder name of the checkpoint after an epoch counted from 0; names sort by epoch."""
    return f"{_PREFIX}{epoch:06d}"


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest epoch in a folder, if there is one."""
    return max(folder.glob(f"{_PREFIX}[0-9]*"), default=None)


def keep_latest(folder: Path, number: int) -> None:
    """Remove all but the latest checkpoints, and what a killed process left half-written."""
    for old in sorted(folder.glob(f"{_PREFIX}[0-9]*"))[:-number]:
        shutil.rmtree(old)
    for partial in folder.glob(f".{_PREFIX}*.partial"):
        shutil.rmtree(partial)


def save_checkpoint(folder: Path, progress: Progress, identity: str, seed: int) -> None:
    """Write one checkpoint folder, whole or not at all. Raises OSError."""
    tensors, groups, scalars = _flat(progress.optimiser.state_dict())
    with atomic_folder(folder) as temporary:
        save_file(_stored(progress.model.state_dict()), temporary / _MODEL)
        save_file(_stored(progress.best), temporary / _BEST)
        save_file(_stored(tensors), temporary / _OPTIMISER)
        state = {
            "schema": SCHEMA,
            "identity": identity,
            "seed": seed,
            "next_epoch": len(progress.records),
            "best_epoch": progress.best_epoch,
            "optimiser": {"groups": groups, "scalars": scalars},
            "records": [record.as_json() for record in progress.records],
            "sha256": {name: _sha256(temporary / name) for name in (_MODEL, _BEST, _OPTIMISER)},
        }
        text = json.dumps(state, allow_nan=False, indent=1)
        (temporary / _STATE).write_text(text + "\n", encoding="utf-8")


def restore(folder: Path, progress: Progress, identity: str) -> None:
    """Put a checkpoint into model, optimiser and records.

    Raises TrainingError where it is damaged or belongs to another configuration or data set.
    """
    state = _read_state(folder)
    if state["identity"] != identity:
        raise TrainingError(
            f"{folder} was written by another configuration, data set or version"
            f" ({state['identity'][:12]}, this one is {identity[:12]}); train into another folder"
        )
    with _damage_named(folder):
        progress.model.load_state_dict(load_file(folder / _MODEL))
        progress.optimiser.load_state_dict(
            _nested(load_file(folder / _OPTIMISER), state["optimiser"])
        )
        progress.best = load_file(folder / _BEST)
        progress.best_epoch = int(state["best_epoch"])
        progress.records[:] = [EpochRecord.of_json(record) for record in state["records"]]


def read_best(folder: Path) -> tuple[dict[str, Tensor], int, tuple[EpochRecord, ...]]:
    """Best weights, their epoch and the records of a checkpoint. Raises TrainingError."""
    state = _read_state(folder)
    with _damage_named(folder):
        weights = load_file(folder / _BEST)
    records = tuple(EpochRecord.of_json(record) for record in state["records"])
    return weights, int(state["best_epoch"]), records


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy on the CPU that later steps do not change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}


def _read_state(folder: Path) -> dict[str, Any]:
    with _damage_named(folder):
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if state.get("schema") != SCHEMA:
            raise TrainingError(f"{folder} has schema {state.get('schema')!r}, not {SCHEMA!r}")
        for name, expected in state["sha256"].items():
            if _sha256(folder / name) != expected:
                raise TrainingError(f"{folder / name} is damaged: its SHA-256 is not the recorded")
    return dict(state)


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{folder} is not a whole checkpoint: {error}") from error


def _flat(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[Any], dict[str, Any]]:
    """Optimiser state -> (tensors by "parameter.name", parameter groups, other values by name)."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for parameter, values in state["state"].items():
        for name, value in values.items():
            store: dict[str, Any] = tensors if isinstance(value, Tensor) else scalars
            store[f"{parameter}.{name}"] = value
    return tensors, state["param_groups"], scalars


def _nested(tensors: dict[str, Tensor], stored: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **stored["scalars"]}.items():
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = value
    return {"state": state, "param_groups": stored["groups"]}


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
