import dataclasses
import weakref

import numpy as np
import pytest

from campaign.analysis.embedding import EmbeddedSnapshot
from campaign.analysis.histories import HistoryError, histories_of
from campaign.analysis.space import relation_in_space


def embedded(index, slots=(0, 1, 2), seed=0):
    generator = np.random.default_rng([seed, index])
    count = len(slots)
    return EmbeddedSnapshot(
        snapshot_index=index,
        time_us=0.01 * index,
        parameter_version=0,
        patch_id=np.array([(index << 20) + slot for slot in slots], dtype=np.uint64),
        centre_nm=generator.uniform(0, 100, (count, 2)),
        central_state=np.zeros(count, np.int8),
        proteins=np.ones(count, np.int64),
        kind=np.ones(count, np.uint8),
        mean_density=np.ones((count, 14), np.float32),
        z=generator.standard_normal((count, 9)).astype(np.float32),
    )


def test_histories_follow_slots_through_snapshots():
    snapshots = [embedded(index) for index in range(4, 13)]
    histories = histories_of(snapshots, "abc")
    assert histories.z.shape == (9, 3, 9)
    assert histories.interval_us == pytest.approx(0.01)
    np.testing.assert_array_equal(histories.z[2, 1], snapshots[2].z[1])


def test_what_makes_no_histories_is_named():
    with pytest.raises(HistoryError, match="at least 8 snapshots, there are 2"):
        histories_of([embedded(0), embedded(1)], "abc")
    with pytest.raises(HistoryError, match="snapshot 2 has 2 protein patches"):
        histories_of([embedded(0), embedded(1), embedded(2, slots=(0, 1))], "abc")
    with pytest.raises(HistoryError, match="after snapshot 1 the next is 3 where 2 was expected"):
        histories_of([embedded(index) for index in (0, 1, *range(3, 10))], "abc")
    with pytest.raises(HistoryError, match="no protein patches"):
        histories_of([embedded(index, slots=()) for index in range(8)], "abc")


def test_distance_that_grows_with_space_up_to_half_a_patch_is_found():
    snapshots = []
    for index in range(40):
        one = embedded(index, slots=range(60))
        z = np.zeros((60, 9), np.float32)
        z[:, :2] = one.centre_nm
        snapshots.append(
            EmbeddedSnapshot(
                **{name: getattr(one, name) for name in EmbeddedSnapshot.__slots__ if name != "z"},
                z=z,
            )
        )
    found = relation_in_space(snapshots, side_nm=1000.0).relation
    assert found.near.pearson_pairs == pytest.approx(1.0, abs=1e-6)
    assert found.apart.pearson_pairs == pytest.approx(1.0, abs=1e-6)
    assert found.apart.centre.min() > 15 * np.sqrt(2)
    assert 0 < found.apart.all_pairs < found.far.all_pairs


def test_relations_in_space_keep_no_snapshot():
    seen = []

    def stream():
        for index in range(30):
            snapshot = embedded(index, slots=range(12))
            seen.append(weakref.ref(snapshot.z))
            alive = sum(reference() is not None for reference in seen)
            assert alive <= 2  # this one, and the last one in the loop that takes them
            yield snapshot

    found = relation_in_space(stream(), side_nm=100.0).relation
    assert found.near.all_pairs + found.far.all_pairs > 0
    assert len(seen) == 30


def test_the_interval_of_r_in_space_is_what_repeated_runs_scatter_by():
    def found(seed):
        snapshots = []
        for index in range(40):
            one = embedded(index, slots=range(40), seed=seed)
            noise = np.random.default_rng([seed, index, 1]).normal(0, 12, (40, 9))
            noise[:, :2] += one.centre_nm
            changed = {"z": noise.astype(np.float32), "time_us": 5.0 * index}
            snapshots.append(dataclasses.replace(one, **changed))
        return relation_in_space(snapshots, side_nm=200.0)

    runs = [found(seed) for seed in range(24)]
    r = np.array([run.relation.near.pearson_means for run in runs])
    low, high = np.array([run.interval_of_near for run in runs]).T
    assert np.mean((high - low) / 3.92) == pytest.approx(r.std(), rel=0.5)
    assert np.mean((low <= r.mean()) & (r.mean() <= high)) > 0.75
    assert relation_in_space([embedded(0)] * 9, side_nm=200.0).interval_of_near is None
