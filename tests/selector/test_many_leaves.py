import numpy as np
import pytest

from selector import FarthestPointSampler


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stream_of_many_leaves_is_never_short_and_picks_the_greatest(seed):
    """Splits hand leaves, and with them the greatest importance, to other groups of leaves."""
    generator = np.random.default_rng(seed)
    sampler = FarthestPointSampler(3, k=2, capacity=20_000, warm_up=4, seed=seed)
    for first in range(0, 12_000, 400):
        vectors = generator.standard_t(2, size=(400, 3)).astype(np.float32)
        sampler.add(np.arange(first, first + 400), vectors)
        assert len(sampler.select(7)) == 7
        names = sampler.candidate_ids
        _, stored = sampler.candidates()
        chosen = sampler.selected_vectors.astype(np.float64)
        gaps = np.linalg.norm(stored[:, None].astype(np.float64) - chosen, axis=2)
        importance = np.partition(gaps, 1, axis=1)[:, :2].mean(axis=1)
        (best,) = sampler.select(1)
        assert importance[names.index(best)] == pytest.approx(importance.max(), rel=1e-12)
