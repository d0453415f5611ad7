import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selector import FarthestPointSampler

KINDS = ["gauss", "uniform", "walk", "ties"]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("already", [1, 3, 9, 10, 11, 20, 1000])
def test_order_is_that_of_a_float64_brute_force(brute_force, vectors_of, kind, already, frozen):
    vectors = vectors_of(kind, already + 400, seed=already)
    ids = np.arange(len(vectors))
    sampler = FarthestPointSampler(9, warm_up=0)
    slow = brute_force(warm_up=0)
    slow.selected = dict(zip(ids[:already].tolist(), vectors[:already], strict=True))
    sampler.mark_selected(ids[:already], vectors[:already])
    sampler.add(ids[already:], vectors[already:])
    slow.add(ids[already:], vectors[already:])
    for n in (1, 7, 2):
        picks, importances = slow.select(n, frozen)
        assert sampler.select(n, frozen=frozen) == picks
        assert sampler.last_importances.tolist() == importances


def test_with_fewer_than_k_selected_a_stale_importance_is_no_bound():
    sampler = FarthestPointSampler(1, k=2, warm_up=0)
    sampler.mark_selected([0], np.array([[0.0]], np.float32))
    sampler.add([1, 2, 3], np.array([[3.0], [-2.9], [50.0]], np.float32))
    assert sampler.importance([1, 2]).tolist() == pytest.approx([3.0, 2.9])
    assert sampler.select(1) == [3]
    assert sampler.importance([1, 2]).tolist() == pytest.approx([25.0, 27.9])
    assert sampler.select(2) == [2, 1]


def test_a_batch_sees_its_own_earlier_picks_unless_frozen():
    vectors = np.array([[100.0], [100.001], [-90.0], [0.0]], np.float32)
    for frozen, expected in ((False, [0, 2]), (True, [0, 1])):
        sampler = FarthestPointSampler(1, k=1, warm_up=0)
        sampler.mark_selected([9], np.array([[1.0]], np.float32))
        sampler.add([1, 0, 2, 3], vectors)
        expected_ids = [1 - i if i < 2 else i for i in expected]
        assert sampler.select(2, frozen=frozen) == ([0, 2] if not frozen else expected_ids[::-1])


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        ([30, 4, 2**63 + 5, 17], [4, 17, 30, 2**63 + 5]),
        (["b", "a" * 15, "ab", "é"], ["a" * 15, "ab", "b", "é"]),
    ],
)
def test_equals_are_selected_in_the_order_of_their_identifiers(ids, order):
    sampler = FarthestPointSampler(2, warm_up=0)
    sampler.add(ids, np.ones((4, 2), np.float32))
    assert sampler.select(4) == order


def test_a_batch_is_the_same_as_single_selections(vectors_of):
    vectors = vectors_of("walk", 1500)
    together, single = FarthestPointSampler(9), FarthestPointSampler(9)
    for sampler in (together, single):
        sampler.add(np.arange(1500), vectors)
    assert together.select(60) == [single.select(1)[0] for _ in range(60)]


@pytest.mark.parametrize("batch", [1, 37, 700])
def test_neither_order_nor_batches_of_arrival_matter(vectors_of, batch):
    vectors = vectors_of("ties", 1200, dimension=4)
    ids = np.arange(1200)
    whole = FarthestPointSampler(4, capacity=800)
    whole.add(ids, vectors)
    pieces = FarthestPointSampler(4, capacity=800)
    order = np.random.default_rng(1).permutation(1200)
    for start in range(0, 1200, batch):
        part = order[start : start + batch]
        pieces.add(ids[part], vectors[part])
    assert pieces.candidate_ids == whole.candidate_ids
    assert pieces.select(50) == whole.select(50)


def test_doubling_every_coordinate_changes_no_choice(vectors_of):
    vectors = vectors_of("gauss", 900)
    picks = []
    for scale in (1, 2):
        sampler = FarthestPointSampler(9)
        sampler.add(np.arange(900), vectors * np.float32(scale))
        picks.append(sampler.select(80))
        importances = sampler.last_importances
    assert picks[0] == picks[1]
    assert np.isfinite(importances[-1])


@pytest.mark.parametrize("k", [1, 3, 10, 70])
@pytest.mark.parametrize("kind", ["gauss", "walk"])
def test_importances_never_rise_once_k_points_are_selected(vectors_of, kind, k):
    sampler = FarthestPointSampler(9, k=k, warm_up=k)
    sampler.add(np.arange(700), vectors_of(kind, 700))
    sampler.select(k)
    before = sampler.importance(sampler.candidate_ids[-200:])
    ids = sampler.candidate_ids[-200:]
    for _ in range(15):
        gone = set(sampler.select(1))
        keep = [i for i, name in enumerate(ids) if name not in gone]
        ids = [ids[i] for i in keep]
        after = sampler.importance(ids)
        assert np.all(after <= before[keep])
        before = after


@pytest.mark.parametrize("eviction", ["lowest", "oldest"])
@pytest.mark.parametrize("kind", ["walk", "ties"])
def test_a_bounded_stream_evicts_and_selects_as_brute_force(
    brute_force, vectors_of, kind, eviction
):
    vectors = vectors_of(kind, 900, dimension=5)
    sampler = FarthestPointSampler(5, k=4, capacity=60, warm_up=5, seed=7, eviction=eviction)
    slow = brute_force(k=4, capacity=60, warm_up=5, seed=7, oldest=eviction == "oldest")
    for start in range(0, 900, 30):
        ids = np.arange(start, start + 30)
        sampler.add(ids, vectors[ids])
        slow.add(ids, vectors[ids])
        assert sampler.candidate_ids == sorted(slow.candidates)
        assert sampler.select(3) == slow.select(3)[0]
        assert sampler.weights()[1].tolist() == slow.weights()
    assert sampler.departed_count == len(slow.departed)


def test_leaves_split_compact_and_still_agree_with_a_fresh_sampler(vectors_of):
    vectors = vectors_of("walk", 9000)
    ids = np.arange(9000)
    sampler = FarthestPointSampler(9, capacity=1500)
    for start in range(0, 9000, 200):
        sampler.add(ids[start : start + 200], vectors[start : start + 200])
        sampler.select(2)
    fresh = FarthestPointSampler(9, capacity=1500, warm_up=0)
    fresh.mark_selected(sampler.selected_ids, sampler.selected_vectors)
    left = np.array(sampler.candidate_ids)
    fresh.add(left, vectors[left])
    np.testing.assert_array_equal(sampler.importance(left), fresh.importance(left))
    assert sampler.select(40) == fresh.select(40)


def test_selected_points_at_almost_the_same_distance_enter_the_lists_they_belong_in():
    random = np.random.default_rng(0)
    directions = random.standard_normal((400, 9))
    shell = (directions / np.linalg.norm(directions, axis=1)[:, None]).astype(np.float32)
    centre = random.uniform(-1e-7, 1e-7, (60, 9)).astype(np.float32)
    ids = np.arange(60)
    sampler = FarthestPointSampler(9, warm_up=0)
    sampler.mark_selected(np.arange(20) + 1000, shell[:20])
    sampler.add(ids, centre)
    sampler.evaluate()
    sampler.mark_selected(np.arange(20, 400) + 1000, shell[20:])
    fresh = FarthestPointSampler(9, warm_up=0)
    fresh.mark_selected(np.arange(400) + 1000, shell)
    fresh.add(ids, centre)
    np.testing.assert_array_equal(sampler.importance(ids), fresh.importance(ids))


def test_thousands_of_identical_points_are_one_place(vectors_of):
    vectors = np.repeat(vectors_of("gauss", 4), 1500, axis=0)
    sampler = FarthestPointSampler(9, k=1, warm_up=0, capacity=6000)
    for start in range(0, 6000, 100):
        sampler.add(np.arange(start, start + 100), vectors[start : start + 100])
    picks = sampler.select(6)
    assert picks[0] == 0
    assert sorted(pick // 1500 for pick in picks[:4]) == [0, 1, 2, 3]
    assert sampler.last_importances[4:].tolist() == [0.0, 0.0]
    assert picks[4:] == [1, 2]


def test_minimum_separation_passes_over_the_crowded():
    vectors = np.arange(20, dtype=np.float32)[:, None] / 4
    sampler = FarthestPointSampler(1, k=2, warm_up=0, minimum_separation=1.0)
    sampler.add(np.arange(20), vectors)
    picks = sampler.select(20)
    places = np.sort(vectors[picks, 0])
    assert np.diff(places).min() >= 1.0
    assert len(picks) + sampler.departed_count + len(sampler) == 20
    assert len(sampler) == 0


@pytest.mark.parametrize("warm_up", [0, 4])
def test_the_warm_up_is_keyed_by_seed_and_identifier_only(vectors_of, warm_up):
    vectors = vectors_of("gauss", 300)
    ids = np.arange(300)
    picks = {}
    for seed in (1, 2):
        forward = FarthestPointSampler(9, warm_up=warm_up, seed=seed)
        forward.add(ids, vectors)
        backward = FarthestPointSampler(9, warm_up=warm_up, seed=seed)
        backward.add(ids[::-1], np.ascontiguousarray(vectors[::-1]))
        picks[seed] = forward.select(8)
        assert picks[seed] == backward.select(8)
    assert (picks[1] == picks[2]) == (warm_up == 0)


def test_a_released_point_leaves_its_evicted_to_the_next_nearest():
    sampler = FarthestPointSampler(1, k=1, capacity=1, warm_up=0)
    for name, place in ((1, 0.0), (2, 10.0)):
        sampler.add([name], np.array([[place]], np.float32))
        sampler.select(1, lease=True)
    sampler.add([3, 4], np.array([[0.1], [5.0]], np.float32))
    assert sampler.weights()[1].tolist() == [3, 1]
    sampler.release([1])
    assert sampler.weights() == ([2], [4])


def test_departed_identifiers_stay_out_after_a_reload(tmp_path):
    sampler = FarthestPointSampler(1)
    sampler.add([5, 6], np.zeros((2, 1), np.float32))
    sampler.invalidate([5])
    sampler.save(tmp_path / "state.npz")
    again = FarthestPointSampler.load(tmp_path / "state.npz")
    assert again.add([5, 6, 7], np.zeros((3, 1), np.float32)) == 1


class Both:
    """The sampler and the slow definition, given the same calls."""

    def __init__(self, sampler, slow, lattice, path, seed):
        self.sampler, self.slow, self.lattice, self.path = sampler, slow, lattice, path
        self.random = np.random.default_rng(seed)
        self.leased = []

    def vectors(self, number):
        if self.lattice:
            return self.random.integers(0, 4, (number, 2)).astype(np.float32)
        return self.random.standard_normal((number, 2)).astype(np.float32)

    def add(self, number, start):
        ids = np.arange(start, start + number)
        points = self.vectors(number)
        self.sampler.add(ids, points)
        self.slow.add(ids, points)

    def select(self, number, frozen, lease=False):
        picks = self.sampler.select(min(number, len(self.sampler)), frozen, lease)
        expected, importances = self.slow.select(number, frozen)
        assert picks == expected
        assert self.sampler.last_importances.tolist() == importances
        return picks

    def lease(self, number, frozen):
        self.leased += self.select(number, frozen, lease=True)

    def settle(self, number, release):
        if not self.leased:
            return
        pick = self.leased.pop(number % len(self.leased))
        if release:
            self.sampler.release([pick])
            self.slow.release(pick)
        else:
            self.sampler.confirm([pick])

    def reencode(self, number, flag):
        for part in (self.slow.candidates, self.slow.selected):
            for key, point in zip(part, self.vectors(len(part)), strict=True):
                part[key] = point
        self.sampler.reencode(self.slow.candidates | self.slow.selected)

    def importance(self, number, flag):
        for key in sorted(self.slow.candidates)[number : number + 3]:
            expected = self.slow.importance(self.slow.candidates[key])
            assert self.sampler.importance([key])[0] == expected

    def invalidate(self, number, flag):
        for key in sorted(self.slow.candidates)[number : number + 2]:
            self.sampler.invalidate([key])
            del self.slow.candidates[key]
            self.slow.departed.add(key)

    def reload(self, number, flag):
        self.sampler.save(self.path)
        self.sampler = FarthestPointSampler.load(self.path)

    def check(self):
        assert self.sampler.candidate_ids == sorted(self.slow.candidates)
        assert self.sampler.selected_ids == list(self.slow.selected)
        assert self.sampler.weights()[1].tolist() == self.slow.weights()
        assert self.sampler.leased_ids == [p for p in self.slow.selected if p in self.leased]


OPERATION = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 25), st.integers(0, 60)),
    st.tuples(st.sampled_from(["select", "lease"]), st.integers(0, 6), st.booleans()),
    st.tuples(st.sampled_from(["settle", "importance"]), st.integers(0, 50), st.booleans()),
    st.tuples(st.sampled_from(["reencode", "reload"]), st.just(0), st.booleans()),
    st.tuples(st.just("invalidate"), st.integers(0, 40), st.booleans()),
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    operations=st.lists(OPERATION, min_size=3, max_size=25),
    k=st.integers(1, 4),
    warm_up=st.integers(0, 5),
    capacity=st.integers(5, 60),
    lattice=st.booleans(),
    oldest=st.booleans(),
)
def test_any_stream_of_calls_agrees_with_brute_force(
    brute_force, tmp_path, operations, k, warm_up, capacity, lattice, oldest
):
    eviction = "oldest" if oldest else "lowest"
    both = Both(
        FarthestPointSampler(2, k=k, capacity=capacity, warm_up=warm_up, eviction=eviction),
        brute_force(k=k, capacity=capacity, warm_up=warm_up, oldest=oldest),
        lattice,
        tmp_path / "state.npz",
        seed=len(operations),
    )
    for name, number, extra in operations:
        getattr(both, name)(number, extra)
        both.check()
