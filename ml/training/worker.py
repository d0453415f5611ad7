"""One worker of a training run: its rank, its device, and how rows reach all workers."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ml.training.batch_plan import share_sizes
from ml.training.errors import TrainingError
from ml.training.gather import gather_rows
from ml.training.global_batch_norm import with_global_batch_norm
from ml.training.settings import TrainingSettings
from ml.training.task import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A lone process (`count` 1, no process group) or one of several in torch.distributed."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model as the forward and backward passes of this worker must see it."""
        if self.count == 1:
            return model
        parallel = DistributedDataParallel(with_global_batch_norm(model, self.count))
        # Buffers are computed alike everywhere; broadcasting them would only cost time.
        parallel.require_forward_param_sync = False
        return parallel

    def gather(self, outputs: Batch, length: int) -> Batch:
        """The outputs of all workers for a batch of `length` samples, in the batch's order."""
        if self.count == 1:
            return outputs
        sizes = share_sizes(length, self.count)
        return {name: gather_rows(rows, sizes) for name, rows in outputs.items()}

    def check_batch(self, length: int) -> None:
        """Raises TrainingError where a batch leaves a worker without samples."""
        if length < self.count:
            raise TrainingError(
                f"a batch of {length} samples cannot be shared by {self.count} workers;"
                " use fewer workers or more data"
            )


def device_for(settings: TrainingSettings) -> torch.device:
    """The device of a process that has no Ray to assign one. Raises TrainingError."""
    if settings.use_gpu is False:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if settings.use_gpu is True:
        raise TrainingError("training.use_gpu is true, but torch sees no CUDA device")
    return torch.device("cpu")
