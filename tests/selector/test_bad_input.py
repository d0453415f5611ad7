import numpy as np
import pytest

from selector import FarthestPointSampler, IdentifierError, SnapshotError, VectorError


@pytest.fixture
def sampler(vectors_of):
    sampler = FarthestPointSampler(3, k=2, warm_up=0)
    sampler.add(np.arange(20), vectors_of("gauss", 20, dimension=3))
    sampler.select(3)
    return sampler


def state(sampler):
    codes, vectors = sampler.candidates()
    return codes.tolist(), vectors.tolist(), sampler.selected_ids, sampler.leased_ids


GOOD = np.zeros((2, 3), np.float32)
NAN_SECOND = np.array([[0, 0, 0], [0, np.nan, 0]], np.float32)
INF_FIRST = np.array([[np.inf, 0, 0], [0, 0, 0]], np.float32)
BAD_ADDS = [
    ([90, 91], GOOD.astype(np.float64), VectorError, "float32 array, given float64"),
    ([90, 91], GOOD.tolist(), VectorError, "given list"),
    ([90, 91], GOOD[:, :2], VectorError, r"shape \(2, 3\) for 2 ids, given \(2, 2\)"),
    ([90], GOOD, VectorError, r"shape \(1, 3\) for 1 ids"),
    (
        [90, 91],
        np.array([[0, 0, 0], [0, np.nan, 0]], np.float32),
        VectorError,
        "id 91 is not finite",
    ),
    (
        [90, 91],
        np.array([[np.inf, 0, 0], [0, 0, 0]], np.float32),
        VectorError,
        "id 90 is not finite",
    ),
    (["a", "b"], GOOD, IdentifierError, "are integers, given a string"),
    ([90, -1], GOOD, IdentifierError, r"in \[0, 2\*\*64\), given -1"),
    ([90, 2**64], GOOD, IdentifierError, "given 18446744073709551616"),
    ([1.5, 2.5], GOOD, IdentifierError, "integer or a string, given 1.5"),
    ([True, False], GOOD, IdentifierError, "given True"),
    ([90, "x"], GOOD, IdentifierError, "given 'x'"),
    (np.zeros((2, 1), int), GOOD, IdentifierError, "one-dimensional"),
]


@pytest.mark.parametrize(("ids", "vectors", "error", "message"), BAD_ADDS)
def test_a_bad_add_says_why_and_changes_nothing(sampler, ids, vectors, error, message):
    before = state(sampler)
    with pytest.raises(error, match=message):
        sampler.add(ids, vectors)
    assert state(sampler) == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.importance([999]), "unknown candidate 999"),
        (lambda s: s.importance(s.selected_ids), "selected already"),
        (lambda s: s.invalidate([999]), "unknown candidate 999"),
        (lambda s: s.confirm([999]), "999 is not leased"),
        (lambda s: s.release(s.selected_ids[:1]), "is not leased"),
        (lambda s: s.mark_selected([999]), "its vector is required"),
        (lambda s: s.mark_selected([999, 999], GOOD), "must differ"),
        (lambda s: s.mark_selected(s.selected_ids[:2], GOOD), "selected already"),
        (lambda s: s.reencode({0: np.zeros(3, np.float32)}), "no new vector"),
        (lambda s: s.select(-1), "n must be an integer >= 0, given -1"),
        (lambda s: s.select(2.0), "given 2.0"),
    ],
)
def test_a_bad_call_says_why_and_changes_nothing(sampler, call, message):
    before = state(sampler)
    with pytest.raises(ValueError, match=message):
        call(sampler)
    assert state(sampler) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 0}, "dimension must be an integer >= 1, given 0"),
        ({"dimension": 2, "k": 0}, "k must be"),
        ({"dimension": 2, "capacity": 0.5}, "capacity must be"),
        ({"dimension": 2, "warm_up": -1}, "warm_up must be"),
        ({"dimension": 2, "seed": 2**63}, "seed must be below"),
        ({"dimension": 2, "eviction": "random"}, "eviction must be 'lowest' or 'oldest'"),
        ({"dimension": 2, "minimum_separation": float("nan")}, "minimum_separation must be"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FarthestPointSampler(**arguments)


def test_asking_for_more_than_there_is_gives_what_there_is_and_says_so(sampler, caplog):
    assert len(sampler.select(100)) == 17
    assert "100 selections asked for, 17 candidates" in caplog.text
    assert sampler.select(1) == []


def test_identifiers_are_accepted_once(sampler):
    vectors = np.full((4, 3), 5, np.float32)
    known, selected = sampler.candidate_ids[0], sampler.selected_ids[0]
    assert sampler.add([known, selected, 500, 500], vectors) == 1
    sampler.invalidate([500])
    assert sampler.add([500], vectors[:1]) == 0
    assert len(sampler) == 17


def test_an_empty_add_and_an_empty_sampler_are_fine():
    sampler = FarthestPointSampler(3)
    assert sampler.add([], np.zeros((0, 3), np.float32)) == 0
    assert sampler.select(0) == []
    assert sampler.weights()[0] == []


def test_a_file_that_is_no_snapshot_is_refused(tmp_path, sampler):
    path = tmp_path / "state.npz"
    sampler.save(path)
    data = bytearray(path.read_bytes())
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(SnapshotError, match="not a whole selector snapshot"):
            FarthestPointSampler.load(path)
    at = data.index(sampler.selected_vectors.tobytes())
    data[at + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(SnapshotError):
        FarthestPointSampler.load(path)
