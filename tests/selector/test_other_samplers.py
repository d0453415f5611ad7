import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selector import (
    Axis,
    BinnedSampler,
    CandidateQueues,
    FarthestPointSampler,
    IdentifierError,
    QueuesSettings,
    RandomSampler,
    VectorError,
    read_queues_settings,
)
from selector.approximate import ApproximateSampler
from selector.queue_settings import QueueSettingsError, preset_names


def entropy(values, bins):
    shares = np.histogram(values, bins, (0, 1))[0] / len(values)
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()


def test_novelty_moves_the_picks_from_the_data_to_flat():
    values = np.random.default_rng(0).beta(2, 30, (30_000, 1)).astype(np.float32)
    entropies = []
    for novelty in (0.0, 0.2, 0.5, 0.8):
        sampler = BinnedSampler([Axis(low=0, high=1, bins=10)], novelty)
        sampler.add(np.arange(30_000), values)
        entropies.append(entropy(values[sampler.select(300), 0], 10))
    assert entropies[0] == pytest.approx(entropy(values[:, 0], 10), abs=0.15)
    assert np.all(np.diff(entropies) > 0.05)


def test_axes_count_their_edges_and_wrap_or_clip_what_is_outside():
    values = np.array([0, np.pi, -0.1, 4, np.pi / 2, -np.pi])
    bounded = Axis(low=0.0, high=np.pi, bins=4)
    periodic = Axis(low=-np.pi, high=np.pi, bins=4, kind="periodic")
    assert bounded.bin_of(values).tolist() == [0, 3, 0, 3, 2, 0]
    assert periodic.bin_of(values).tolist() == [2, 0, 1, 0, 3, 0]


def test_binned_importances_are_the_probabilities_of_the_next_pick():
    sampler = BinnedSampler([Axis(low=0, high=1, bins=4)], novelty=0.4)
    sampler.add(np.arange(5), np.array([[0.1], [0.1], [0.1], [0.3], [0.9]], np.float32))
    importances = sampler.importance(np.arange(5))
    assert importances.sum() == pytest.approx(1)
    assert importances[3] == pytest.approx(0.6 / 5 + 0.4 / 3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)), max_size=20), st.floats(0, 1))
def test_binned_and_random_pick_every_candidate_exactly_once(steps, novelty):
    binned = BinnedSampler(
        [Axis(low=0, high=1, bins=3), Axis(low=0, high=1, bins=2, kind="periodic")], novelty
    )
    uniform = RandomSampler(2)
    random = np.random.default_rng(1)
    for sampler in (binned, uniform):
        picked, added = [], 0
        for arrivals, picks in steps:
            points = random.random((arrivals, 2)).astype(np.float32)
            added += sampler.add(np.arange(added, added + arrivals), points)
            picked += sampler.select(picks)
            assert len(sampler) == added - len(picked)
        picked += sampler.select(10_000)
        assert sorted(picked) == list(range(added))


def test_random_choice_does_not_depend_on_the_order_of_arrival():
    vectors = np.zeros((200, 2), np.float32)
    picks = []
    for order in (np.arange(200), np.random.default_rng(0).permutation(200)):
        sampler = RandomSampler(2, capacity=50, seed=4)
        for part in np.split(order, 10):
            sampler.add(part, vectors[part])
        picks.append(sampler.select(50))
    assert picks[0] == picks[1]
    with pytest.raises(IdentifierError):
        sampler.importance(picks[0][:1])


@pytest.mark.parametrize("probes", [1, 4])
def test_the_gap_of_an_approximate_pick_bounds_what_was_missed(vectors_of, probes):
    vectors = vectors_of("gauss", 3000)
    ids = np.arange(3000)
    sampler = ApproximateSampler(9, k=5, warm_up=400, cells=10, probes=probes, refine=1)
    sampler.add(ids, vectors)
    taken = sampler.select(400)
    positive = 0
    for _ in range(15):
        exact = FarthestPointSampler(9, k=5, warm_up=0)
        exact.mark_selected(taken, vectors[taken])
        exact.add(ids, vectors)
        exact.select(1)
        taken += sampler.select(1)
        missed = exact.last_importances[0] - sampler.last_importances[0]
        assert missed <= sampler.last_gaps[0] + 1e-12
        assert missed >= -1e-9
        positive += sampler.last_gaps[0] > 0
    assert positive > 0 or probes > 1


def queues_of(shares, **settings):
    queues = {name: {"share": share} for name, share in shares.items()}
    return QueuesSettings.model_validate({"queues": queues} | settings)


def fill(queues, number, dimension=2):
    random = np.random.default_rng(0)
    for at, name in enumerate(queues.queues):
        ids = np.arange(number) + 1000 * at
        queues.add(name, ids, random.standard_normal((number, dimension)).astype(np.float32))


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_running_totals_stay_within_a_pick_of_their_shares(batch):
    shares = {"lipid-only": 0.1, "monomers": 0.5, "dimers": 0.4, "invalid": 0.0}
    queues = CandidateQueues(2, queues_of(shares))
    fill(queues, 300)
    total = 0
    while total < 200:
        total += len(queues.select(batch))
        for name, share in shares.items():
            assert abs(queues.picked[name] - share * total) <= 1
    assert queues.picked["invalid"] == 0


def test_a_dry_queue_leaves_its_turns_to_the_others():
    queues = CandidateQueues(2, queues_of({"a": 0.5, "b": 0.5}))
    queues.add("a", [1, 2], np.eye(2, dtype=np.float32))
    assert [pick.queue for pick in queues.select(5)] == ["a", "a"]


def test_shared_selections_keep_every_queue_away_from_all_of_them():
    here = np.array([[0.0, 0.0], [9.0, 0.0]], np.float32)
    there = np.array([[0.1, 0.0], [5.0, 5.0]], np.float32)
    picks = {}
    for shared in (False, True):
        settings = queues_of({"a": 0.5, "b": 0.5}, shared_selections=shared, k=1, warm_up=0)
        queues = CandidateQueues(2, settings)
        queues.add("a", [1, 2], here)
        queues.add("b", [10, 11], there)
        picks[shared] = [pick.id for pick in queues.select(2)]
    assert picks == {False: [1, 10], True: [1, 11]}


def test_a_queue_waits_for_its_minimum_of_candidates_once():
    queues = CandidateQueues(2, queues_of({"a": 1.0}, minimum_candidates=10))
    queues.add("a", np.arange(9), np.random.default_rng(0).random((9, 2)).astype(np.float32))
    assert queues.select(1) == []
    queues.add("a", [9], np.ones((1, 2), np.float32))
    assert len(queues.select(8)) == 8
    assert len(queues.select(2)) == 2


def test_presets_are_valid_and_bad_settings_are_explained(tmp_path):
    assert preset_names() == ["mummi-ras", "single"]
    settings = read_queues_settings("mummi-ras")
    assert settings.capacity == 35_000
    assert {name: queue.share for name, queue in settings.queues.items()} == {
        "lipid-only": 0.1,
        "monomers": 0.5,
        "dimers": 0.4,
        "invalid": 0.0,
    }
    path = tmp_path / "queues.yaml"
    for text, message in (
        ("queues: {a: {share: 0.5}}", "add up to 1, they add up to 0.5"),
        ("queues: {a: {share: 1.0}}\ncapacty: 3", "capacty"),
        ("queues: {a: {share: .nan}}", "finite number"),
        ("queues: [", "queues.yaml"),
    ):
        path.write_text(text)
        with pytest.raises(QueueSettingsError, match=message):
            read_queues_settings(str(path))
    with pytest.raises(QueueSettingsError, match="mummi-ras, single"):
        read_queues_settings("nosuch")


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(2),
        BinnedSampler([Axis(low=0, high=1, bins=2)] * 2, 0.5),
        ApproximateSampler(2),
    ],
)
def test_other_samplers_refuse_what_the_exact_one_refuses(sampler):
    with pytest.raises(VectorError, match="not finite"):
        sampler.add([7], np.array([[np.nan, 0]], np.float32))
    with pytest.raises(VectorError, match="float32"):
        sampler.add([7], np.zeros((1, 2)))
    assert len(sampler) == 0
    assert sampler.add([7, 7], np.zeros((2, 2), np.float32)) == 1
