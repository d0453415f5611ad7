"""The losses of the similarity metric (Bhatia et al. 2022, equations 1 to 5).

All are functions of the embeddings of a whole batch, so that workers which gather theirs get the
value that one worker would. Distances are Euclidean; their gradient at distance 0 is taken as 0.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Mining = Literal["all", "active", "hardest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights, margins, proportionality and mining; the defaults are the paper's final model."""

    label: float = 1.0
    invariance: float = 2.0
    radial: float = 2.0
    label_margin: float = 8.0
    invariance_margin: float = 1.0
    radial_scale: float = 0.1
    label_mining: Mining = "all"
    invariance_mining: Mining = "all"

    def __post_init__(self) -> None:
        for name in ("label", "invariance", "radial"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss weight {name} must be >= 0, got {getattr(self, name)}")
        for name in ("label_margin", "invariance_margin", "radial_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if not self.label + self.invariance + self.radial > 0:
            raise ValueError("at least one loss weight must be > 0")


def label_triplet_loss(
    z: Tensor,
    y: Tensor,
    margin: float = 8.0,
    mining: Mining = "all",
    anchor_weight: Tensor | None = None,
) -> Tensor:
    """Equation 2: max(0, α + d(i, j) - d(i, k)) over i != j of one label and k of another.

    z (B, d), y (B,). `mining` averages over all such triplets, over the "active" ones (those > 0),
    or over anchors i with their "hardest" triplet; in any of them an anchor counts by its weight
    >= 0 in `anchor_weight` (B,), by default 1. 0 if the batch holds no triplet.
    """
    weight = z.new_ones(len(y)) if anchor_weight is None else anchor_weight.to(z.dtype)
    distance = pairwise_distance(z)
    same = y[:, None] == y[None, :]
    positive = same & ~torch.eye(len(y), dtype=torch.bool, device=z.device)
    if mining == "hardest":
        furthest = distance.masked_fill(~positive, -torch.inf).amax(1)
        nearest = distance.masked_fill(same, torch.inf).amin(1)
        anchors = positive.any(1) & ~same.all(1)
        excess = (margin + furthest[anchors] - nearest[anchors]).clamp(min=0)
        return _mean(weight[anchors] * excess, weight[anchors].sum())
    excess, active = _excess_over_negatives(margin + distance, distance, same)
    weight_of = weight[:, None].expand_as(distance)[positive]
    if mining == "active":
        return _mean(weight_of * excess[positive], (weight_of * active[positive]).sum())
    triplets = (weight * positive.sum(1) * (~same).sum(1)).sum()
    return _mean(weight_of * excess[positive], triplets)


def invariance_loss(z: Tensor, margin: float = 1.0, mining: Mining = "all") -> Tensor:
    """Equation 3: max(0, α + d(p, ρp) - d(p, q)) over patches p, their views ρp and patches q != p.

    z (B, T, d): the embedding of each patch as it is (view 0), then under T - 1 transformations.
    `mining` as for labels. Raises ValueError if T < 2.
    """
    if z.ndim != 3 or z.shape[1] < 2:
        raise ValueError(f"invariance needs embeddings (B, T >= 2, d), got {tuple(z.shape)}")
    patches = len(z)
    itself = torch.eye(patches, dtype=torch.bool, device=z.device)
    apart = pairwise_distance(z[:, 0])
    moved = torch.linalg.vector_norm(z[:, 1:] - z[:, :1], dim=2)  # (B, T - 1)
    if mining == "hardest":
        nearest = apart.masked_fill(itself, torch.inf).amin(1)
        return _mean((margin + moved.amax(1) - nearest).clamp(min=0), None)
    triplets = (margin + moved[:, :, None] - apart[:, None, :]).clamp(min=0)
    triplets = triplets.masked_fill(itself[:, None, :], 0.0)
    if mining == "active":
        return _mean(triplets, (triplets > 0).sum())
    return _mean(triplets, moved.numel() * (patches - 1))


def proportionality_loss(z: Tensor, profiles: Tensor, scale: float = 0.1) -> Tensor:
    """Equation 4: the mean of |dz(i, j) - λ dΥ(i, j)| over pairs i < j.

    z (B, d); profiles (B, 8, 38), radial profiles of standardised densities. The paper prints dΥ
    for dz in its first term; section 3.1.3 has the form used here. 0 for fewer than two patches.
    """
    with torch.no_grad():
        target = scale * pairwise_distance(profiles.flatten(1))
    pairs = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
    residual = (pairwise_distance(z) - target).abs()
    return _mean(residual[pairs[0], pairs[1]], None)


def metric_loss(
    z: Tensor,
    y: Tensor,
    profiles: Tensor,
    weights: LossWeights,
    anchor_weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 5: the weighted sum, and the unweighted parts that have a weight.

    z (B, T, d) or (B, d) where T = 1; labels and profiles are compared for view 0, labels with
    `anchor_weight` as in `label_triplet_loss`.
    """
    seen = z[:, None] if z.ndim == 2 else z
    parts: dict[str, Tensor] = {}
    total = seen.new_zeros(())
    if weights.label > 0:
        parts["label"] = label_triplet_loss(
            seen[:, 0], y, weights.label_margin, weights.label_mining, anchor_weight
        )
        total = total + weights.label * parts["label"]
    if weights.invariance > 0:
        parts["invariance"] = invariance_loss(
            seen, weights.invariance_margin, weights.invariance_mining
        )
        total = total + weights.invariance * parts["invariance"]
    if weights.radial > 0:
        parts["radial"] = proportionality_loss(seen[:, 0], profiles, weights.radial_scale)
        total = total + weights.radial * parts["radial"]
    return total, parts


def pairwise_distance(points: Tensor) -> Tensor:
    """(B, d) to (B, B), by differences: no cancellation, and a zero gradient at distance 0."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _excess_over_negatives(reach: Tensor, distance: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """For each i, j: the sum over k not of i's label of max(0, reach_ij - d_ik), and its terms > 0.

    Sorting d_ik once for each i makes the sum over k a difference of prefix sums: B² log B, not B³.
    """
    negative, _ = distance.masked_fill(same, torch.inf).sort(dim=1)
    finite = negative.isfinite()
    prefix = torch.nn.functional.pad(negative.masked_fill(~finite, 0.0).cumsum(1), (1, 0))
    count = torch.searchsorted(negative.detach(), reach.detach().contiguous())
    excess = count * reach - prefix.gather(1, count)
    return excess, count


def _mean(terms: Tensor, count: Tensor | int | None) -> Tensor:
    """The sum of `terms` over `count` of them (all by default), 0 if there are none."""
    over = torch.as_tensor(terms.numel() if count is None else count).to(terms)
    return terms.sum() / over.clamp(min=torch.finfo(over.dtype).tiny)
