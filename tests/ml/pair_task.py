"""A small task whose loss couples every pair of a batch: keep the distances of points."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.training import Batch, TrainingSettings
from ml.training.task import Split

SIZES = {"training": 53, "validation": 17}


class PairTask:
    """Points (N, 5) to the plane, in float64, with batch normalisation and keyed noise.

    With `kill_at`, the first process to load that epoch's data kills itself, once: `marker` is a
    file that says it has happened.
    """

    def __init__(
        self, settings: TrainingSettings, kill_at: int | None = None, marker: Path | None = None
    ) -> None:
        self._settings = settings
        self._kill_at, self._marker = kill_at, marker
        draw = np.random.default_rng(5)
        self._points = {split: draw.normal(size=(size, 5)) for split, size in SIZES.items()}

    @property
    def settings(self) -> TrainingSettings:
        return self._settings

    @property
    def identity(self) -> str:
        return f"pairs, seed {self._settings.seed}"

    def size(self, split: Split) -> int:
        return SIZES[split]

    def build(self) -> nn.Module:
        layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)]
        return nn.Sequential(*layers).double()

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters())

    def load(self, split: Split, positions: NDArray[np.int64], epoch: int) -> Batch:
        if self._marker is not None and epoch == self._kill_at:
            self._die_once()
        noise = [
            np.random.default_rng([self._settings.seed, epoch, place]).normal(size=5)
            for place in positions.tolist()
        ]
        points = self._points[split][positions] + 0.01 * np.reshape(noise, (-1, 5))
        return {"points": torch.from_numpy(points)}

    def outputs(self, model: nn.Module, batch: Batch) -> Batch:
        return {"z": model(batch["points"]), "points": batch["points"]}

    def loss(self, outputs: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        error = (torch.cdist(outputs["z"], outputs["z"]) - _distances(outputs["points"])) ** 2
        return error.mean(), {"pairs": error.mean()}

    def epoch_metrics(self, model: nn.Module, epoch: int) -> dict[str, float]:
        return {"mean_weight": float(next(model.parameters()).detach().mean())}

    def _die_once(self) -> None:
        try:
            self._marker.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def make_pair_task(arguments: Mapping[str, Any]) -> PairTask:
    marker = arguments.get("marker")
    return PairTask(
        TrainingSettings.model_validate(arguments["settings"]),
        arguments.get("kill_at"),
        None if marker is None else Path(marker),
    )


def _distances(points: Tensor) -> Tensor:
    return torch.cdist(points, points)
