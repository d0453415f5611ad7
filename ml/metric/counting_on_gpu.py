"""Counting over all pairs in tensor operations: what `counting_on_cpu` does, for a GPU."""

import torch
from torch import Tensor

from ml.metric.counting_on_cpu import CUT_BITS

_SIGN = -(2**31)


def count_matches(
    distances: Tensor, row_type: Tensor, types: Tensor, first: int, same_at_rank: Tensor
) -> Tensor:
    """As `counting_on_cpu.count_matches`; the keys are shifted into the range of int32."""
    bits = (distances + 0.0).view(torch.int32)
    same_type = (row_type[:, None] == types[None, :]).to(torch.int32)
    keys = ((bits << 1) | same_type) ^ _SIGN
    own = torch.arange(len(keys), device=keys.device)
    keys[own, own + first] = 2**31 - 1
    keys = torch.sort(keys, dim=1).values[:, :-1].contiguous()
    same = _with_ties_averaged((keys & 1).double(), keys >> 1)
    for kind in torch.unique(row_type).tolist():
        same_at_rank[kind] += same[row_type == kind].sum(dim=0)
    ranks = torch.arange(1, len(types), device=keys.device)
    precision = same.cumsum(dim=1) / ranks
    doubled = precision.clone()
    doubled[:, 1:] += precision[:, :-1]
    doubled[:, 0] *= 2
    return (doubled * same).sum(dim=1) / 2


def count_pairs(
    distance: Tensor,
    reference: Tensor,
    factor: float,
    threshold: float,
    distance_bins_per_unit: float,
    reference_bins_per_unit: float,
    residuals: Tensor,
    joint: Tensor,
    by_bin: Tensor,
    sums: Tensor,
    counts: Tensor,
) -> None:
    """As `counting_on_cpu.count_pairs`."""
    above = torch.ones_like(distance, dtype=torch.bool).triu_(1)
    distance, reference = distance[above], reference[above]
    residual = (distance - factor * reference).abs_()
    cut = residual.view(torch.int32) >> CUT_BITS
    residuals += torch.bincount(cut, minlength=len(residuals))
    bins = len(joint)
    row = (reference * reference_bins_per_unit).long().clamp_(max=bins - 1)
    column = (distance * distance_bins_per_unit).long().clamp_(max=bins - 1)
    joint += torch.bincount(row * bins + column, minlength=bins * bins).view(bins, bins)
    z, r = distance.double(), reference.double()
    by_bin[0] += torch.bincount(row, weights=z, minlength=bins)
    by_bin[1] += torch.bincount(row, weights=z * z, minlength=bins)
    sums += torch.stack([z.sum(), r.sum(), z.dot(z), r.dot(r), z.dot(r)])
    counts[0] += len(z)
    counts[1] += (distance <= threshold).sum()


def _with_ties_averaged(same: Tensor, distance: Tensor) -> Tensor:
    """Every run of equal distances along a row gets the mean of its `same`, written in place."""
    repeats = torch.zeros_like(distance, dtype=torch.bool)
    repeats[:, 1:] = distance[:, 1:] == distance[:, :-1]
    tied = repeats.clone()
    tied[:, :-1] |= repeats[:, 1:]
    members = tied.view(-1).nonzero()[:, 0]
    if len(members):
        run = (~repeats.view(-1)[members]).cumsum(dim=0) - 1
        flat = same.view(-1)
        total = torch.bincount(run, weights=flat[members])
        flat[members] = (total / torch.bincount(run))[run]
    return same
