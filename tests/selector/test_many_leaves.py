import numpy as np
import pytest

from selector import FarthestPointSampler

K = 2


def select_one_and_check(sampler):
    """The next pick is of the greatest importance, computed anew from every distance."""
    names = sampler.candidate_ids
    _, stored = sampler.candidates()
    chosen = sampler.selected_vectors.astype(np.float64)
    gaps = np.linalg.norm(stored[:, None].astype(np.float64) - chosen, axis=2)
    importance = np.partition(gaps, K - 1, axis=1)[:, :K].mean(axis=1)
    (best,) = sampler.select(1)
    assert importance[names.index(best)] == pytest.approx(importance.max(), rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stream_of_many_leaves_is_never_short_and_picks_the_greatest(seed):
    """Splits hand leaves, and with them the greatest importance, to other groups of leaves."""
    generator = np.random.default_rng(seed)
    sampler = FarthestPointSampler(3, k=K, capacity=20_000, warm_up=4, seed=seed)
    for first in range(0, 12_000, 400):
        vectors = generator.standard_t(2, size=(400, 3)).astype(np.float32)
        sampler.add(np.arange(first, first + 400), vectors)
        assert len(sampler.select(7)) == 7
        select_one_and_check(sampler)


def test_picks_are_the_greatest_after_releases_while_most_lists_lag_behind():
    """A list may know of more selected points than the rest of its leaf, and then of fewer."""
    generator = np.random.default_rng(5)
    sampler = FarthestPointSampler(3, k=K, warm_up=0)
    sampler.add(np.arange(4000), generator.standard_normal((4000, 3)).astype(np.float32))
    for round_ in range(6):
        arriving = generator.standard_normal((60, 3)).astype(np.float32)
        sampler.add(np.arange(60) + 4000 + 60 * round_, arriving)
        picks = sampler.select(20, lease=True)
        sampler.release(picks[::3])
        sampler.confirm([name for name in picks if name not in picks[::3]])
        for _ in range(12):
            select_one_and_check(sampler)
