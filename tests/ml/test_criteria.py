import itertools

import numpy as np
import pytest
import torch

from ml.metric import counting_on_cpu, counting_on_gpu
from ml.metric.criteria import Criteria, Embedding, embed, judge
from ml.metric.neighbourhoods import NeighbourhoodCounts, PrecisionRecall
from ml.metric.pair_distances import PointCloud, row_blocks
from ml.metric.pair_statistics import MEDIAN_RELATIVE_ERROR, PairCounts
from ml.patch_set import PatchSet
from ml.training import TrainingError


def _scene(points: int = 200, dimension: int = 9, seed: int = 0):
    random = np.random.default_rng(seed)
    types = random.choice(4, points, p=[0.3, 0.3, 0.25, 0.15])
    centres = random.normal(size=(4, dimension))
    z = (centres[types] + random.normal(size=(points, dimension))).astype(np.float32)
    moved = np.abs(random.normal(scale=0.8, size=(points, 5)))
    profiles = random.normal(size=(points, 8, 38)).astype(np.float32)
    return Embedding(vectors=z, transform_distances=moved), types, profiles


def _slow_curves(z, types):
    """Straight from the definitions: one point and one neighbourhood at a time."""
    n = len(z)
    precision, recall, accuracy = (np.zeros((n, n - 1)) for _ in range(3))
    for i in range(n):
        others = np.delete(np.arange(n), i)
        order = np.argsort(((z[others].astype(float) - z[i]) ** 2).sum(axis=1), kind="stable")
        alike = types[others][order] == types[i]
        for k in range(1, n):
            tp, fp = np.count_nonzero(alike[:k]), np.count_nonzero(~alike[:k])
            fn, tn = np.count_nonzero(alike[k:]), np.count_nonzero(~alike[k:])
            precision[i, k - 1] = tp / (tp + fp)
            recall[i, k - 1] = tp / (tp + fn) if tp + fn else np.nan
            accuracy[i, k - 1] = (tp + tn) / (tp + fp + fn + tn)
    return precision, recall, accuracy


def _trapezia(recall, precision):
    area, last_r, last_p = 0.0, 0.0, precision[0]
    for r, p in zip(recall, precision, strict=True):
        area += (r - last_r) * (p + last_p) / 2
        last_r, last_p = r, p
    return area


def _neighbourhoods(z, types) -> PrecisionRecall:
    points = PointCloud(z)
    counts = NeighbourhoodCounts(types)
    for rows in row_blocks(len(z), 1000):
        counts.add(rows, points.distances(rows, slice(0, len(z))))
    return counts.result()


def test_curves_are_means_over_points_of_the_definitions():
    embedding, types, _ = _scene()
    precision, recall, accuracy = _slow_curves(embedding.vectors, types)

    curves = _neighbourhoods(embedding.vectors, types)

    np.testing.assert_allclose(curves.precision, precision.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.recall, recall.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.accuracy, accuracy.mean(axis=0), rtol=0, atol=1e-12)
    for row, kind in enumerate(curves.types):
        of_type = types == kind
        for ours, slow in (
            (curves.precision_by_type, precision),
            (curves.recall_by_type, recall),
            (curves.accuracy_by_type, accuracy),
        ):
            np.testing.assert_allclose(ours[row], slow[of_type].mean(axis=0), rtol=0, atol=1e-12)
    assert curves.auc == pytest.approx(
        _trapezia(recall.mean(axis=0), precision.mean(axis=0)), abs=1e-12
    )
    areas = [_trapezia(r, p) for r, p in zip(recall, precision, strict=True)]
    assert curves.auc_of_points == pytest.approx(np.mean(areas), abs=1e-12)


def test_equal_distances_count_as_the_mean_over_every_order():
    z = np.array([[0], [1], [-1], [1], [-1], [2], [0]], np.float32)
    types = np.array([0, 0, 1, 1, 0, 1, 1])
    total = np.zeros(6)
    orders = list(itertools.permutations(range(7)))
    for order in map(list, orders):
        for i in range(7):
            others = [j for j in order if j != i]
            others.sort(key=lambda j: abs(float(z[i, 0] - z[j, 0])))
            total += np.cumsum(types[others] == types[i]) / np.arange(1, 7)

    curves = _neighbourhoods(z, types)

    np.testing.assert_allclose(curves.precision, total / len(orders) / 7, rtol=0, atol=1e-12)


def test_separated_types_of_one_size_have_both_areas_one():
    types = np.repeat([0, 1, 2], 20)
    z = types[:, None] * 100.0 + np.random.default_rng(1).normal(size=(60, 1))

    curves = _neighbourhoods(z, types)

    assert curves.auc == pytest.approx(1, abs=1e-12)
    assert curves.auc_of_points == pytest.approx(1, abs=1e-12)
    assert curves.recall[18] == pytest.approx(1)
    assert curves.accuracy[18] == pytest.approx(1)


def test_separated_types_of_unequal_size_have_the_area_of_their_mean_curve():
    small, large = 10, 40
    types = np.repeat([0, 1], [small, large])
    z = types[:, None] * 100.0 + np.random.default_rng(1).normal(size=(50, 1))
    k = np.arange(1, 50)
    found = np.array([np.minimum(k, small - 1), np.minimum(k, large - 1)])
    weight = np.array([small, large]) / 50
    precision = weight @ (found / k)
    recall = weight @ (found / np.array([[small - 1], [large - 1]]))

    curves = _neighbourhoods(z, types)

    assert curves.auc == pytest.approx(_trapezia(recall, precision), abs=1e-12)
    assert curves.auc < 0.99
    assert curves.auc_of_points == pytest.approx(1, abs=1e-12)


def test_an_embedding_that_knows_nothing_scores_the_prevalence():
    random = np.random.default_rng(2)
    types = random.choice(4, 1500, p=[0.1, 0.4, 0.3, 0.2])
    sizes = np.bincount(types)
    prevalence = sum(n * (n - 1) for n in sizes) / 1500 / 1499

    collapsed = _neighbourhoods(np.zeros((1500, 3)), types)
    noise = _neighbourhoods(random.normal(size=(1500, 3)), types)

    assert collapsed.prevalence == pytest.approx(prevalence)
    assert collapsed.auc == pytest.approx(prevalence, abs=1e-9)
    np.testing.assert_allclose(collapsed.precision, prevalence, rtol=1e-9)
    assert noise.auc == pytest.approx(prevalence, abs=0.01)


def test_curves_end_at_full_recall_and_the_prevalence():
    embedding, types, _ = _scene()

    curves = _neighbourhoods(embedding.vectors, types)

    assert curves.recall[-1] == pytest.approx(1)
    assert curves.precision[-1] == pytest.approx(curves.prevalence)
    assert curves.accuracy[-1] == pytest.approx(curves.prevalence)
    assert list(curves.neighbours[[0, -1]]) == [1, 199]


def test_a_type_with_one_patch_is_left_out_as_a_point_but_not_as_a_neighbour():
    embedding, types, _ = _scene(50)
    types[types == 3] = 2
    types[7] = 3
    precision, _, _ = _slow_curves(embedding.vectors, types)

    curves = _neighbourhoods(embedding.vectors, types)

    expected = np.delete(precision, 7, axis=0).mean(axis=0)
    np.testing.assert_allclose(curves.precision, expected, rtol=0, atol=1e-12)
    assert 3 not in curves.types


def _judged(scene, factor: float = 0.1) -> Criteria:
    return judge(*scene, factor=factor)


def test_overlap_and_residuals_agree_with_all_pairs_written_out():
    embedding, _, profiles = scene = _scene()
    z, u = embedding.vectors.astype(float), profiles.reshape(200, -1).astype(float)
    j, k = np.triu_indices(200, 1)
    dz = np.sqrt(((z[j] - z[k]) ** 2).sum(axis=1))
    du = np.sqrt(((u[j] - u[k]) ** 2).sum(axis=1))
    residual = np.median(np.abs(dz - 0.1 * du))

    criteria = _judged(scene)

    assert criteria.pairs.pairs == 200 * 199 // 2
    within = (dz <= embedding.transform_distances.max()).sum()
    assert 0 < within < len(dz)
    assert criteria.pairs.within_threshold == within
    assert criteria.overlap_percent == pytest.approx(100 * within / len(dz))
    assert criteria.mare == pytest.approx(residual, rel=2 * MEDIAN_RELATIVE_ERROR)
    assert criteria.mare_star == pytest.approx(residual / 0.1, rel=2 * MEDIAN_RELATIVE_ERROR)
    assert criteria.pairs.pearson_r == pytest.approx(np.corrcoef(dz, du)[0, 1], abs=1e-5)
    assert criteria.pairs.slope == pytest.approx((dz @ du) / (du @ du), rel=1e-6)
    histogram, _, _ = np.histogram2d(
        du, dz, bins=(criteria.pairs.reference_edges, criteria.pairs.distance_edges)
    )
    # Round-off moves a pair over an edge now and then.
    assert np.abs(histogram - criteria.pairs.histogram).sum() <= 10
    rows = np.searchsorted(criteria.pairs.reference_edges, du, side="right") - 1
    np.testing.assert_allclose(
        criteria.pairs.distance_sum.sum(), np.bincount(rows, weights=dz).sum(), rtol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 37.0, 1e4])
def test_the_median_residual_is_right_to_its_stated_error_at_every_scale(scale):
    random = np.random.default_rng(3)
    distance = (scale * random.gamma(2.0, size=(1, 20_001))).astype(np.float32)
    reference = (scale * random.gamma(3.0, size=(1, 20_001))).astype(np.float32)
    counts = PairCounts(factor=0.4, threshold=0, distance_bound=1, reference_bound=1)
    counts.add(torch.from_numpy(distance), torch.from_numpy(reference))

    exact = np.median(np.abs(distance - np.float32(0.4) * reference)[0, 1:].astype(float))

    assert counts.result().median_residual == pytest.approx(exact, rel=MEDIAN_RELATIVE_ERROR)


@pytest.mark.parametrize("cut_bits", [0, 511, 1023])
def test_the_median_is_right_to_its_stated_error_wherever_it_lies_in_its_bin(cut_bits):
    bits = (np.float32(1.0).view(np.uint32) & ~np.uint32(1023)) | np.uint32(cut_bits)
    value = np.uint32(bits).view(np.float32)
    counts = PairCounts(factor=1.0, threshold=0, distance_bound=1, reference_bound=1)
    counts.add(torch.full((1, 9), float(value)), torch.zeros(1, 9))

    assert counts.result().median_residual == pytest.approx(float(value), rel=MEDIAN_RELATIVE_ERROR)


def test_a_metric_proportional_to_the_profiles_has_no_residual_and_full_correlation():
    _, types, profiles = _scene()
    vectors = 0.1 * profiles.reshape(200, -1)
    embedding = Embedding(vectors=vectors, transform_distances=np.zeros((200, 5)))

    criteria = _judged((embedding, types, profiles))

    assert criteria.mare_star < 2e-5
    assert criteria.overlap_percent == 0
    assert criteria.pairs.pearson_r == pytest.approx(1, abs=1e-6)
    assert criteria.pairs.slope == pytest.approx(0.1, rel=1e-5)


def test_pairs_at_the_threshold_overlap():
    z = np.array([[0.0], [1.0], [3.0]])
    embedding = Embedding(vectors=z, transform_distances=np.array([[0.5], [2.0], [0.1]]))
    types = np.array([0, 0, 1])
    pad = np.vstack([z, z + 100])
    both = Embedding(
        vectors=pad, transform_distances=np.vstack([embedding.transform_distances] * 2)
    )

    criteria = judge(both, np.append(types, types), pad, factor=1.0)

    assert criteria.pairs.within_threshold == 4
    assert criteria.overlap_percent == pytest.approx(100 * 4 / 15)


def test_criteria_do_not_depend_on_the_order_of_patches():
    embedding, types, profiles = scene = _scene()
    order = np.random.default_rng(4).permutation(200)
    shuffled = Embedding(
        vectors=embedding.vectors[order], transform_distances=embedding.transform_distances[order]
    )

    first = _judged(scene)
    second = _judged((shuffled, types[order], profiles[order]))

    assert second.auc == pytest.approx(first.auc, abs=1e-12)
    assert second.overlap_percent == first.overlap_percent
    assert second.mare == pytest.approx(first.mare, rel=1e-4)


def test_criteria_follow_a_rescaled_metric():
    embedding, types, profiles = scene = _scene()
    doubled = Embedding(
        vectors=2 * embedding.vectors, transform_distances=2 * embedding.transform_distances
    )

    first, second = _judged(scene, 0.1), _judged((doubled, types, profiles), 0.2)

    assert second.auc == pytest.approx(first.auc, abs=1e-12)
    assert second.overlap_percent == first.overlap_percent
    assert second.mare == pytest.approx(2 * first.mare, rel=2 * MEDIAN_RELATIVE_ERROR)
    assert second.mare_star == pytest.approx(first.mare_star, rel=2 * MEDIAN_RELATIVE_ERROR)


def test_blocks_of_any_height_give_the_same_counts():
    embedding, types, _ = _scene()
    points = PointCloud(embedding.vectors)
    areas = []
    for block_pairs in (200, 3000, 10**6):
        counts = NeighbourhoodCounts(types)
        for rows in row_blocks(200, block_pairs):
            counts.add(rows, points.distances(rows, slice(0, 200)))
        areas.append(counts.result().auc)

    assert areas[0] == areas[1] == areas[2]
    covered = np.concatenate([np.arange(200)[rows] for rows in row_blocks(200, 3000)])
    np.testing.assert_array_equal(covered, np.arange(200))


@pytest.mark.parametrize("tied", [False, True])
def test_tensor_operations_count_ranks_as_the_compiled_pass_does(tied):
    embedding, types, _ = _scene()
    z = embedding.vectors.round() if tied else embedding.vectors
    distances = torch.cdist(torch.from_numpy(z[40:90]), torch.from_numpy(z))
    kinds = torch.from_numpy(types)
    tallies = torch.ones(2, 4, 199, dtype=torch.float64)

    compiled = counting_on_cpu.count_matches(
        distances.numpy(), types[40:90], types, 40, tallies[0].numpy()
    )
    tensors = counting_on_gpu.count_matches(distances, kinds[40:90], kinds, 40, tallies[1])

    torch.testing.assert_close(tallies[1], tallies[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(tensors.numpy(), compiled, rtol=1e-12)


def test_tensor_operations_count_pairs_as_the_compiled_pass_does():
    random = np.random.default_rng(5)
    z, r = (torch.from_numpy(random.gamma(2.0, size=(7, 300)).astype(np.float32)) for _ in "zr")
    scalars = 0.4, 1.5, 30.0, 25.0
    shapes = (((1 << 21,), int), ((400, 400), int), ((2, 400), float), ((5,), float), ((2,), int))
    tallies = [[torch.ones(size, dtype=torch.int64 if kind is int else torch.float64)
                for size, kind in shapes] for _ in range(2)]  # fmt: skip

    counting_on_cpu.count_pairs(
        z.numpy(), r.numpy(), *map(np.float32, scalars), *(tally.numpy() for tally in tallies[0])
    )
    counting_on_gpu.count_pairs(z, r, *scalars, *tallies[1])

    for compiled, tensors in zip(*tallies, strict=True):
        torch.testing.assert_close(tensors, compiled, rtol=1e-12, atol=1e-9)
    assert int(tallies[0][4][0]) == 1 + sum(300 - b - 1 for b in range(7))


def test_distances_by_matrix_product_agree_with_direct_ones():
    random = np.random.default_rng(6)
    vectors = (random.normal(size=(50, 304)) + 5).astype(np.float32)
    exact = np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2)

    computed = PointCloud(vectors).distances(slice(10, 20), slice(5, 50)).numpy()

    np.testing.assert_allclose(computed, exact[10:20, 5:], rtol=0, atol=0.03)
    apart = exact[10:20, 5:] > 1
    np.testing.assert_allclose(computed[apart], exact[10:20, 5:][apart], rtol=2e-6)


def test_direct_distances_resolve_near_points_far_from_the_origin():
    z = np.array([[100.0, 200.0], [100.001, 200.0], [-100.0, -200.0]], np.float32)

    distance = PointCloud(z).distances(slice(0, 1), slice(0, 2)).numpy()[0]

    assert distance[0] == 0
    assert distance[1] == pytest.approx(float(z[1, 0]) - 100.0, rel=0.01)


def _patches(density) -> PatchSet:
    count = len(density)
    return PatchSet(
        density=density,
        patch_id=np.arange(count, dtype=np.uint64),
        run=np.zeros(count, np.int16),
        snapshot_index=np.zeros(count, np.int64),
        time_us=np.zeros(count),
        slot=np.arange(count, dtype=np.int32),
        kind=np.zeros(count, np.uint8),
        central_state=np.zeros(count, np.int8),
        n_ras=np.ones(count, np.uint8),
        n_raf=np.zeros(count, np.uint8),
        centre_nm=np.zeros((count, 2)),
        parameter_version=np.zeros(count, np.int32),
        side_nm=np.array([500.0]),
        fingerprint="none",
    )


def test_embedding_measures_how_far_each_of_the_five_transforms_moves_a_patch():
    density = np.random.default_rng(7).random((12, 14, 37, 37)).astype(np.float32)

    def encode(x):
        return x[:, 0, 3:4, 5] * 3.0

    embedding = embed(encode, _patches(density), np.arange(11, 0, -1), at_once=4)

    picked = density[11:0:-1, 0]
    np.testing.assert_allclose(embedding.vectors[:, 0], 3 * picked[:, 3, 5])
    # Both reflections along axes, and a quarter, half and three quarters of a turn.
    nodes = [(3, 31), (33, 5), (5, 33), (33, 31), (31, 3)]
    expected = [np.abs(picked[:, y, x] - picked[:, 3, 5]) * 3 for y, x in nodes]
    assert embedding.transform_distances.shape == (11, 5)
    np.testing.assert_allclose(
        np.sort(embedding.transform_distances, axis=1), np.sort(expected, axis=0).T, atol=1e-6
    )


def test_json_of_the_criteria_holds_curves_and_no_nan():
    import json

    embedding, types, profiles = _scene()
    flat = Embedding(vectors=np.zeros((200, 2)), transform_distances=np.zeros((200, 5)))

    told = json.loads(
        json.dumps(judge(flat, types, profiles, factor=0.1).as_json(), allow_nan=False)
    )

    assert told["pearson_r_of_profiles"] is None
    assert told["overlap_percent"] == 100
    assert told["neighbours"][0] == 1
    assert told["neighbours"][-1] == 199
    assert len(told["precision"]) == len(told["neighbours"]) == len(told["by_type"]["0"]["recall"])
    assert embedding.vectors.shape == (200, 9)


def test_bad_input_is_one_clear_error():
    embedding, types, profiles = _scene()
    with pytest.raises(ValueError, match="at least two types"):
        judge(embedding, np.zeros(200, int), profiles, factor=0.1)
    with pytest.raises(ValueError, match="same patches, given 200, 199 and 200"):
        judge(embedding, types[1:], profiles, factor=0.1)
    with pytest.raises(ValueError, match="factor must be > 0, got nan"):
        judge(embedding, types, profiles, factor=float("nan"))
    broken = embedding.vectors.copy()
    broken[3, 1] = np.inf
    with pytest.raises(ValueError, match="1 of 200 are not"):
        PointCloud(broken)
    patches = _patches(np.zeros((3, 14, 37, 37)))
    with pytest.raises(ValueError, match="of patches 0 to 2 some"):
        embed(lambda x: np.full((len(x), 2), np.nan), patches, np.arange(3))
    with pytest.raises(
        TrainingError, match="1000000 patches in 1000000 dimensions needs about 12000"
    ):
        embed(lambda x: np.zeros((len(x), 10**6)), patches, np.zeros(10**6, int), at_once=1)
    with pytest.raises(ValueError, match="no pair"):
        PairCounts(factor=1, threshold=0, distance_bound=1, reference_bound=1).result()
