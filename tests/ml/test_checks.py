from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ml.metric.checks import (
    distances_within_snapshots,
    pearson,
    relation,
    relation_to_means,
    relation_to_space,
    similar_and_dissimilar,
)
from ml.metric.pairs_in_space import nearest_protein_nm
from ml.patch_set import PatchDataError, PatchSet

SIDE_NM = 100.0


def _patches(snapshots: int = 6, slots: int = 30, seed: int = 0) -> PatchSet:
    random = np.random.default_rng(seed)
    count = snapshots * slots
    return PatchSet(
        density=np.zeros((count, 1, 1, 1), np.float32),
        patch_id=np.arange(count, dtype=np.uint64),
        run=np.zeros(count, np.int16),
        snapshot_index=np.repeat(np.arange(snapshots), slots),
        time_us=np.repeat(np.arange(snapshots) * 0.5, slots),
        slot=np.tile(np.arange(slots, dtype=np.int32), snapshots),
        kind=random.integers(0, 4, count).astype(np.uint8),
        central_state=np.zeros(count, np.int8),
        n_ras=random.integers(1, 4, count).astype(np.uint8),
        n_raf=random.integers(0, 2, count).astype(np.uint8),
        centre_nm=random.uniform(0, SIDE_NM, (count, 2)),
        parameter_version=np.zeros(count, np.int32),
        side_nm=np.array([SIDE_NM]),
        fingerprint="none",
    )


def test_pairs_of_snapshots_are_all_pairs_of_one_moment_by_minimum_image():
    patches = _patches(snapshots=3, slots=8)
    order = np.random.default_rng(1).permutation(24)
    patches = patches.subset(order)
    z = np.random.default_rng(2).normal(size=(24, 9))
    expected = []
    for i in range(24):
        for j in range(i):
            if patches.snapshot_index[i] == patches.snapshot_index[j]:
                apart = patches.centre_nm[i] - patches.centre_nm[j]
                images = [
                    np.hypot(*(apart + SIDE_NM * (np.array(shift) - 1)))
                    for shift in np.ndindex(3, 3)
                ]
                expected.append((min(images), np.sqrt(((z[i] - z[j]) ** 2).sum())))

    dx, dz = distances_within_snapshots(z, patches)

    assert len(dx) == 3 * 8 * 7 // 2
    np.testing.assert_allclose(
        sorted(zip(dx, dz, strict=True)), sorted(expected), rtol=1e-9, atol=1e-9
    )


def test_runs_with_one_snapshot_number_are_kept_apart():
    patches = _patches(snapshots=2, slots=5)
    two_runs = replace(
        patches,
        run=np.repeat(np.array([0, 1], np.int16), 5),
        snapshot_index=np.zeros(10, np.int64),
        side_nm=np.array([SIDE_NM, 3 * SIDE_NM]),
    )

    dx, _ = distances_within_snapshots(np.zeros((10, 2)), two_runs)

    assert len(dx) == 2 * 10
    assert dx[:10].max() <= SIDE_NM / np.sqrt(2)


def test_the_nearest_protein_is_that_of_a_tree_over_the_torus():
    patches = _patches(snapshots=3, slots=20)
    controls = np.arange(60) % 7 == 0
    patches = replace(patches, central_state=np.where(controls, -1, 2).astype(np.int8))
    order = np.random.default_rng(1).permutation(60)
    patches = patches.subset(order)
    expected = np.full(60, np.inf)
    for snapshot in range(3):
        rows = np.flatnonzero((patches.snapshot_index == snapshot) & (patches.central_state >= 0))
        tree = cKDTree(patches.centre_nm[rows], boxsize=SIDE_NM)
        expected[rows] = tree.query(patches.centre_nm[rows], k=2)[0][:, 1]

    np.testing.assert_allclose(nearest_protein_nm(patches), expected, rtol=1e-12)


def test_a_protein_alone_in_its_snapshot_has_none_near():
    patches = _patches(snapshots=4, slots=1)

    assert np.isinf(nearest_protein_nm(patches)).all()


def test_without_the_side_of_the_membrane_nothing_is_said_of_what_is_near():
    unknown = replace(_patches(snapshots=1, slots=4), side_nm=np.array([np.nan]))

    with pytest.raises(PatchDataError, match=r"give run folders with their config\.resolved\.yaml"):
        nearest_protein_nm(unknown)


def test_a_metric_that_is_distance_in_space_correlates_fully_near_and_far():
    patches = _patches(snapshots=20, slots=60)
    # Far from the rim, so that no pair is nearer across it.
    inner = replace(patches, centre_nm=25 + patches.centre_nm / 2)

    found = relation_to_space(inner.centre_nm * 0.3, inner)

    assert found.near.pearson_pairs == pytest.approx(1)
    assert found.near.pearson_means > 0.9999
    assert found.far.pearson_pairs == pytest.approx(1)
    np.testing.assert_allclose(found.near.mean, 0.3 * found.near.centre, atol=0.3 * 0.5)
    assert found.near.centre.max() == 14.5
    assert found.far.centre.min() == 15.5
    assert found.apart.pearson_pairs == pytest.approx(1)
    dx, _ = distances_within_snapshots(inner.centre_nm, inner)
    for part, first, last in (
        (found.near, 0, 15),
        (found.far, 15, 60),
        (found.apart, 15 * np.sqrt(2), 60),
    ):
        assert part.all_pairs == np.count_nonzero((dx > first) & (dx <= last))


def test_a_metric_that_saturates_at_half_a_patch_correlates_near_and_not_far():
    patches = _patches(snapshots=40, slots=60)
    # (cos, sin) of both coordinates with a period of the membrane embeds the torus.
    phase = 2 * np.pi * patches.centre_nm / SIDE_NM
    torus = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * SIDE_NM / (2 * np.pi)
    found = relation_to_space(torus, patches)

    assert found.near.pearson_pairs > 0.99
    random = np.random.default_rng(3).normal(size=(len(patches), 9))
    assert abs(relation_to_space(random, patches).far.pearson_pairs) < 0.02


def test_controls_take_no_part_in_the_relation_to_space():
    patches = _patches(snapshots=20, slots=60)
    control = patches.slot >= 40
    proteins = patches.subset(~control)
    mixed = replace(patches, central_state=np.where(control, -1, 0).astype(np.int8))
    z = np.random.default_rng(7).normal(size=(len(patches), 9))

    found = relation_to_space(z, mixed)

    expected = relation_to_space(z[~control], proteins)
    assert found.near.all_pairs == expected.near.all_pairs
    assert found.far.pearson_pairs == expected.far.pearson_pairs


def test_relation_agrees_with_bins_written_out():
    random = np.random.default_rng(4)
    reference = np.concatenate([random.uniform(0, 10, 3000), [10.0, 0.0, 2.0]])
    distance = reference + random.normal(size=3003)
    edges = np.arange(0, 11.0)

    found = relation(reference, distance, edges)

    for b in range(10):
        last = b == 9
        inside = (reference >= b) & ((reference < b + 1) | (last & (reference == 10)))
        assert found.pairs[b] == inside.sum()
        assert found.mean[b] == pytest.approx(distance[inside].mean())
        assert found.std[b] == pytest.approx(distance[inside].std())
    assert found.pairs.sum() == 3003
    assert found.pearson_pairs == pytest.approx(np.corrcoef(reference, distance)[0, 1])
    assert found.pearson_means > 0.99 > found.pearson_pairs


def test_bins_of_few_pairs_are_not_drawn():
    reference = np.concatenate([np.full(40, 0.5), np.full(9, 1.5), np.full(10, 2.5)])

    found = relation(reference, np.arange(59.0), np.arange(0, 4.0))

    np.testing.assert_array_equal(found.centre, [0.5, 2.5])
    np.testing.assert_array_equal(found.pairs, [40, 10])
    assert found.all_pairs == 59


def test_dz_against_dmu_covers_all_pairs():
    random = np.random.default_rng(5)
    means = random.normal(size=(150, 14))
    z = means[:, :9] * 2 + 0.3 * random.normal(size=(150, 9))
    i, j = np.triu_indices(150, 1)
    dmu = np.linalg.norm(means[i] - means[j], axis=1)
    dz = np.linalg.norm(z[i] - z[j], axis=1)

    found = relation_to_means(z, means, bins=20)

    assert found.pearson_pairs == pytest.approx(np.corrcoef(dmu, dz)[0, 1], abs=1e-5)
    shown = found.pairs.sum()
    assert 0.98 * len(dmu) < shown <= len(dmu)
    at = int(found.pairs.argmax())
    width = found.centre[1] - found.centre[0]
    inside = np.abs(dmu - found.centre[at]) < width / 2
    assert abs(int(found.pairs[at]) - int(inside.sum())) <= 2
    assert found.mean[at] == pytest.approx(dz[inside].mean(), rel=1e-3)
    assert found.std[at] == pytest.approx(dz[inside].std(), rel=1e-2)


def test_similar_and_dissimilar_patches_are_the_nearest_and_farthest_peers():
    patches = _patches()
    z = np.random.default_rng(6).normal(size=(len(patches), 9))
    proteins = patches.n_ras.astype(int) + patches.n_raf

    found = similar_and_dissimilar(z, patches, proteins=2, seed=3)

    dz = np.linalg.norm(z - z[found.reference], axis=1)
    peers = (proteins == 2) & (patches.slot != patches.slot[found.reference])
    assert proteins[found.reference] == 2
    assert found.dz_similar == pytest.approx(dz[peers].min())
    assert found.dz_dissimilar == pytest.approx(dz[peers].max())
    assert dz[found.similar] == pytest.approx(found.dz_similar)
    assert dz[found.dissimilar] == pytest.approx(found.dz_dissimilar)
    assert proteins[found.crowded] == proteins.max()
    assert found.dz_crowded == pytest.approx(dz[proteins == proteins.max()].max())
    assert found == similar_and_dissimilar(z, patches, proteins=2, seed=3)
    assert {similar_and_dissimilar(z, patches, seed=s).reference for s in range(5)} != {
        found.reference
    }


def test_pearson_of_what_does_not_vary_is_not_a_number():
    assert np.isnan(pearson(np.ones(5), np.arange(5.0)))
    assert np.isnan(pearson(np.ones(1), np.ones(1)))
    assert pearson(np.arange(5.0), -2 * np.arange(5.0)) == pytest.approx(-1)


def test_bad_input_is_one_clear_error():
    patches = _patches()
    z = np.zeros((len(patches), 2))
    with pytest.raises(ValueError, match="side of each membrane"):
        relation_to_space(z, replace(patches, side_nm=np.array([np.nan])))
    alone = replace(patches, snapshot_index=np.arange(len(patches)))
    with pytest.raises(ValueError, match="there are none"):
        relation_to_space(z, alone)
    with pytest.raises(ValueError, match="patches of 9 proteins"):
        similar_and_dissimilar(z, patches, proteins=9)
    single = replace(patches, slot=np.zeros(len(patches), np.int32))
    with pytest.raises(ValueError, match="from two histories"):
        similar_and_dissimilar(z, single)
