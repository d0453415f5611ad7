"""What the loop has to know of a model: how to build it, feed it and judge its outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from ml.training.records import EpochRecord
from ml.training.settings import TrainingSettings

Split = Literal["training", "validation"]
# Tensors that all have the sample as their first axis.
Batch = dict[str, Tensor]


class Task(Protocol):
    """A model, its data and its loss.

    Randomness must be keyed by (seed, epoch, sample), never by the order of calls: then a batch is
    the same on any number of workers and after a restart.
    """

    @property
    def settings(self) -> TrainingSettings: ...

    @property
    def identity(self) -> str:
        """Hash of all that decides the result; a checkpoint of another identity is refused."""

    def size(self, split: Split) -> int:
        """Number of samples."""

    def build(self) -> nn.Module:
        """A new model. The loop has seeded torch; every worker gets the same weights."""

    def optimiser(self, model: nn.Module) -> Optimizer: ...

    def load(self, split: Split, positions: NDArray[np.int64], epoch: int) -> Batch:
        """The samples at these positions, on the CPU. Called from a thread, ahead of its use."""

    def outputs(self, model: nn.Module, batch: Batch) -> Batch:
        """What the loss needs of these samples. `model` may be called once."""

    def loss(self, outputs: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a whole batch and its parts; outputs come gathered from all workers."""

    def epoch_metrics(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Further numbers for the record, from the model in evaluation mode; often none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """The outcome of a run: the weights of the epoch with the lowest validation loss."""

    weights: dict[str, Tensor]
    best_epoch: int
    records: tuple[EpochRecord, ...]
    checkpoint: Path
