"""The losses against slow loops over triplets and pairs, closed forms, and their symmetries."""

import math
from collections.abc import Sequence

import pytest
import torch

from ml.metric.triplet_losses import (
    LossWeights,
    invariance_loss,
    label_triplet_loss,
    metric_loss,
    proportionality_loss,
)

MINING = ["all", "active", "hardest"]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))


def mined(
    per_anchor: list[list[float]], mining: str, weights: Sequence[float] | None = None
) -> float:
    """The mean over triplets, over those > 0, or over anchors with their greatest."""
    of_anchor = [1.0] * len(per_anchor) if weights is None else weights
    pairs = list(zip(per_anchor, of_anchor, strict=True))
    if mining == "hardest":
        pairs = [([max(anchor)], weight) for anchor, weight in pairs if anchor]
    if mining == "active":
        pairs = [([t for t in anchor if t > 0], weight) for anchor, weight in pairs]
    over = sum(weight * len(anchor) for anchor, weight in pairs)
    return sum(weight * sum(anchor) for anchor, weight in pairs) / over if over else 0.0


def slow_label_loss(z, y, margin, mining, weights=None):
    count = len(y)
    return mined(
        [
            [
                max(0.0, margin + distance(z[i], z[j]) - distance(z[i], z[k]))
                for j in range(count)
                if j != i and y[j] == y[i]
                for k in range(count)
                if y[k] != y[i]
            ]
            for i in range(count)
        ],
        mining,
        weights,
    )


def slow_invariance_loss(z, margin, mining):
    patches, views, _ = z.shape
    return mined(
        [
            [
                max(0.0, margin + distance(z[i, 0], z[i, t]) - distance(z[i, 0], z[j, 0]))
                for t in range(1, views)
                for j in range(patches)
                if j != i
            ]
            for i in range(patches)
        ],
        mining,
    )


def slow_proportionality_loss(z, profiles, scale):
    count = len(z)
    residuals = [
        abs(distance(z[i], z[j]) - scale * distance(profiles[i].ravel(), profiles[j].ravel()))
        for i in range(count)
        for j in range(i + 1, count)
    ]
    return sum(residuals) / len(residuals)


def embeddings(*shape: int, spread: float = 3.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("margin", [0.7, 8.0])
def test_label_loss_is_the_mean_over_its_triplets(mining, margin):
    z, y = embeddings(13, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0, 1, 1, 0, 3, 1])

    found = label_triplet_loss(z, y, margin, mining)

    assert found.item() == pytest.approx(slow_label_loss(z, y.tolist(), margin, mining), rel=1e-12)


@pytest.mark.parametrize("mining", MINING)
def test_an_anchor_counts_by_its_weight(mining):
    z, y = embeddings(13, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0, 1, 1, 0, 3, 1])
    weights = torch.rand(13, generator=torch.Generator().manual_seed(5)) * 0.1
    weights[3] = 0.0

    found = label_triplet_loss(z, y, 2.0, mining, weights)

    expected = slow_label_loss(z, y.tolist(), 2.0, mining, weights.tolist())
    assert found.item() == pytest.approx(expected, rel=1e-6)
    ones = label_triplet_loss(z, y, 2.0, mining, torch.ones(13))
    assert ones.item() == label_triplet_loss(z, y, 2.0, mining).item()


@pytest.mark.parametrize("mining", MINING)
def test_where_no_anchor_counts_the_label_loss_is_nought(mining):
    z = embeddings(6, 4).requires_grad_()

    found = label_triplet_loss(z, torch.arange(6) % 2, 2.0, mining, torch.zeros(6))
    found.backward()

    assert found.item() == 0.0
    assert not z.grad.any()


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("margin", [0.1, 1.0, 5.0])
def test_invariance_loss_is_the_mean_over_patches_views_and_others(mining, margin):
    z = embeddings(7, 1, 4) + embeddings(7, 6, 4, spread=0.4, seed=1)

    found = invariance_loss(z, margin, mining)

    assert found.item() == pytest.approx(slow_invariance_loss(z, margin, mining), rel=1e-12)


def test_proportionality_loss_is_the_mean_over_pairs():
    z, profiles = embeddings(9, 4), embeddings(9, 8, 38, spread=1.0)

    found = proportionality_loss(z, profiles, 0.1)

    assert found.item() == pytest.approx(slow_proportionality_loss(z, profiles, 0.1), rel=1e-12)


def test_label_loss_of_two_tight_classes_is_the_margin_less_their_distance():
    z = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    y = torch.tensor([0, 0, 1, 1])

    assert label_triplet_loss(z, y, margin=8.0).item() == pytest.approx(3.0)
    assert label_triplet_loss(2 * z, y, margin=8.0).item() == 0.0


def test_an_invariant_embedding_pays_only_for_patches_nearer_than_the_margin():
    z = torch.tensor([[0.0], [0.25], [5.0]])[:, None].expand(-1, 6, -1)

    # Of the six ordered pairs of patches two are 0.25 apart, each seen by five transformations.
    assert invariance_loss(z, margin=1.0).item() == pytest.approx(2 * 0.75 / 6)
    assert invariance_loss(z, margin=1.0, mining="active").item() == pytest.approx(0.75)
    assert invariance_loss(z, margin=1.0, mining="hardest").item() == pytest.approx(2 * 0.75 / 3)


def test_a_scaled_copy_of_the_profiles_is_proportional():
    profiles = embeddings(8, 8, 38)

    assert proportionality_loss(0.1 * profiles.flatten(1), profiles, 0.1).item() < 1e-12
    assert proportionality_loss(0.2 * profiles.flatten(1), profiles, 0.2).item() < 1e-12


def test_metric_loss_is_the_weighted_sum_of_its_parts():
    z, profiles = embeddings(10, 6, 9), embeddings(10, 8, 38, seed=3)
    y = torch.arange(10) % 4

    total, parts = metric_loss(z, y, profiles, LossWeights())

    expected = (
        label_triplet_loss(z[:, 0], y, 8.0)
        + 2 * invariance_loss(z, 1.0)
        + 2 * proportionality_loss(z[:, 0], profiles, 0.1)
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert set(parts) == {"label", "invariance", "radial"}


def test_a_part_without_weight_is_neither_computed_nor_asked_for_views():
    z, y, profiles = embeddings(10, 9), torch.arange(10) % 4, embeddings(10, 8, 38)

    _, parts = metric_loss(z, y, profiles, LossWeights(invariance=0.0, radial=0.0))

    assert set(parts) == {"label"}
    with pytest.raises(ValueError, match=r"T >= 2"):
        metric_loss(z, y, profiles, LossWeights())


@pytest.mark.parametrize("mining", MINING)
def test_losses_do_not_depend_on_the_order_of_the_batch_nor_on_its_frame(mining):
    z, profiles, y = embeddings(12, 6, 5), embeddings(12, 8, 38, seed=2), torch.arange(12) % 4
    weights = LossWeights(label_mining=mining, invariance_mining=mining)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(7))
    turn, _ = torch.linalg.qr(embeddings(5, 5, seed=9))

    total, _ = metric_loss(z, y, profiles, weights)
    permuted, _ = metric_loss(z[order], y[order], profiles[order], weights)
    moved, _ = metric_loss(z @ turn + 4.0, y, profiles, weights)

    assert permuted.item() == pytest.approx(total.item(), rel=1e-12)
    assert moved.item() == pytest.approx(total.item(), rel=1e-9)


@pytest.mark.parametrize("mining", MINING)
def test_gradients_are_those_of_finite_differences(mining):
    y, profiles = torch.tensor([0, 1, 2, 0, 1, 3]), embeddings(6, 8, 38, spread=1.0)
    weights = LossWeights(label_mining=mining, invariance_mining=mining)
    z = embeddings(6, 3, 4).requires_grad_()

    def total(moved: torch.Tensor) -> torch.Tensor:
        return metric_loss(moved, y, profiles, weights)[0]

    assert torch.autograd.gradcheck(total, (z,), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("mining", MINING)
def test_gradients_stay_finite_where_embeddings_coincide(mining):
    z = torch.zeros(6, 3, 4, requires_grad=True)
    profiles = torch.zeros(6, 8, 38)

    total, _ = metric_loss(
        z,
        torch.arange(6) % 2,
        profiles,
        LossWeights(label_mining=mining, invariance_mining=mining),
    )
    total.backward()

    assert torch.isfinite(total)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [2]])
def test_a_batch_without_triplets_costs_nothing(mining, labels):
    z = embeddings(len(labels), 4).requires_grad_()

    loss = label_triplet_loss(z, torch.tensor(labels), 8.0, mining)
    loss.backward()

    assert loss.item() == 0.0
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_losses_of_a_single_patch_are_zero():
    assert invariance_loss(embeddings(1, 6, 4), 1.0).item() == 0.0
    assert proportionality_loss(embeddings(1, 4), embeddings(1, 8, 38)).item() == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": -1.0}, "label must be >= 0"),
        ({"radial": math.nan}, "radial must be >= 0"),
        ({"label_margin": 0.0}, "label_margin must be > 0"),
        ({"label": 0.0, "invariance": 0.0, "radial": 0.0}, "at least one"),
    ],
)
def test_senseless_weights_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LossWeights(**change)
