"""Rows of all workers in one tensor, with the gradient flowing back to the worker they are from.

Every worker computes the same loss L of the gathered rows. The backward pass adds what all W of
them send back, so a worker's rows receive W ∂L/∂row; `DistributedDataParallel` then divides by W.
Without this, each worker would see the pairs within its own share only and, silently, train
something else.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows (n_rank, ...) of all workers, in rank order: (sum(sizes), ...), on every worker."""
    gathered: Tensor = _GatherRows.apply(rows, tuple(sizes))  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.sizes = sizes
        longest = max(sizes)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(received, padded)
        return torch.cat([part[:size] for part, size in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first = sum(ctx.sizes[: dist.get_rank()])
        return total[first : first + ctx.sizes[dist.get_rank()]], None
