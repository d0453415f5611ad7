"""Batch normalisation with the mean and variance of the whole batch, over all workers.

`torch.nn.SyncBatchNorm` does this on CUDA only; here any device and backend will do. Each worker
sends count, mean and sum of squared deviations, and combines them (Chan, Golub, LeVeque 1983).
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ml.training.gather import gather_rows


class GlobalBatchNorm(_BatchNorm):
    """Takes the place of a `BatchNorm1d`, `2d` or `3d` and shares its parameters and buffers."""

    def __init__(self, local: _BatchNorm, workers: int) -> None:
        super().__init__(local.num_features, local.eps, local.momentum, local.affine)
        self._parameters = local._parameters
        self._buffers = local._buffers
        self.track_running_stats = local.track_running_stats
        self.training = local.training
        self._workers = workers

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...), B samples of this worker -> the same shape."""
        if not self.training and self.running_mean is not None:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        mean, variance, count = self._statistics(x)
        if self.training:
            self._follow(mean.detach(), variance.detach() * count / max(count - 1, 1))
        shape = (1, -1, *[1] * (x.dim() - 2))
        scale = torch.rsqrt(variance + self.eps)
        normal = (x - mean.view(shape)) * scale.view(shape)
        if self.weight is None:
            return normal
        return normal * self.weight.view(shape) + self.bias.view(shape)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        axes = (0, *range(2, x.dim()))
        own_variance, own_mean = torch.var_mean(x, axes, correction=0)
        own_count = x.numel() / x.shape[1]
        own_row = torch.cat([own_mean, own_variance, own_mean.new_tensor([own_count])])
        rows = gather_rows(own_row[None], [1] * self._workers)
        means, variances = rows[:, : self.num_features], rows[:, self.num_features : -1]
        counts = rows[:, -1:].detach()
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        return mean, variance, float(total)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        factor = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if factor is None:
                factor = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, factor or 0.0)
        self.running_var.lerp_(unbiased, factor or 0.0)


def with_global_batch_norm(model: nn.Module, workers: int) -> nn.Module:
    """The model with every batch normalisation made global, in place; same parameters and names."""
    if isinstance(model, _BatchNorm):
        return GlobalBatchNorm(model, workers)
    for name, child in model.named_children():
        setattr(model, name, with_global_batch_norm(child, workers))
    return model
