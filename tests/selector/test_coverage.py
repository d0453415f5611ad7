import json

import numpy as np
import pytest

from selector import FarthestPointSampler, coverage
from selector.coverage import clustered_vectors, compare_selections
from selector.coverage_figure import draw_coverage


def test_coverage_is_kept_up_to_date_as_points_come_and_go(vectors_of):
    sampler = FarthestPointSampler(9, capacity=300)
    vectors = vectors_of("walk", 600)
    for start in range(0, 600, 50):
        ids = np.arange(start, start + 50)
        sampler.add(ids, vectors[ids])
        sampler.select(3)
        points = sampler.selected_vectors.astype(np.float64)
        left = vectors[np.array(sampler.candidate_ids)].astype(np.float64)
        nearest = np.sqrt(((left[:, None] - points) ** 2).sum(axis=2)).min(axis=1)
        now = coverage(sampler)
        assert now.fill_distance == pytest.approx(nearest.max())
        assert now.mean == pytest.approx(nearest.mean())
        assert now.percentiles[90] == pytest.approx(np.percentile(nearest, 90))


@pytest.mark.parametrize("batch", [1, 10, 100, 300])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_covers_clusters_no_worse_than_random_at_any_batch_size(batch, seed):
    vectors = clustered_vectors(4000, dimension=9, clusters=30, seed=seed)
    result = compare_selections(vectors, 300, batch, seed=seed)
    assert result["greedy"].fill_distance <= result["random"].fill_distance
    assert result["greedy"].fill_distance <= result["frozen"].fill_distance + 1e-12 or batch < 100


def test_nothing_selected_covers_nothing_and_everything_selected_covers_all():
    sampler = FarthestPointSampler(2)
    sampler.add([1, 2], np.eye(2, dtype=np.float32))
    assert coverage(sampler).fill_distance == np.inf
    sampler.select(2)
    assert coverage(sampler).fill_distance == 0


def test_the_figure_comes_with_its_numbers(tmp_path):
    draw_coverage(tmp_path / "coverage.png", candidates=300, selections=40, seed=0)
    numbers = json.loads((tmp_path / "coverage.json").read_text())
    assert numbers["batches"] == [1, 10, 30]
    assert len(numbers["coverage"]["greedy"]) == 3
    assert (tmp_path / "coverage.png").read_bytes()[:4] == b"\x89PNG"
