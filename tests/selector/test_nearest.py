import numpy as np
import pytest

from selector.identifiers import (
    IdentifierCodec,
    depart,
    departed_position,
    empty_departed,
    empty_table,
    fill_table,
    find,
    forget,
)
from selector.nearest import find_nearest
from selector.pivots import bound_importances, choose_pivots, empty_pivots
from selector.selected_points import append_selected, empty_selected


def selected_from(points):
    selected = empty_selected(points.shape[1], len(points))
    for i, point in enumerate(points):
        append_selected(selected, point, np.array([0, i], np.uint64))
    return selected


def slow_nearest(points, vector, k):
    total = np.zeros(len(points))
    for axis in range(points.shape[1]):
        total += (points[:, axis].astype(np.float64) - np.float64(vector[axis])) ** 2
    return np.sort(np.sqrt(total))[:k]


@pytest.mark.parametrize(
    ("number", "dimension", "k", "scale", "offset"),
    [
        (1, 1, 3, 1, 0),
        (63, 2, 10, 1, 0),
        (65, 3, 1, 1, 0),
        (2000, 9, 10, 1, 0),
        (2000, 9, 10, 1e-3, 300),  # the float32 filter cancels here; the decisions must not
        (1500, 9, 10, 1e-30, 0),  # squares below the least float32
        (1500, 9, 10, 1e30, 0),  # squares above the greatest
        (700, 40, 90, 1, 0),
    ],
)
def test_neighbour_lists_equal_a_sorted_float64_scan(number, dimension, k, scale, offset):
    random = np.random.default_rng(number)
    points = (scale * random.standard_normal((number, dimension)) + offset).astype(np.float32)
    vectors = (scale * random.standard_normal((33, dimension)) + offset).astype(np.float32)
    vectors[0] = points[0]
    distances = np.empty((33, k))
    indices = np.empty((33, k), np.int32)
    find_nearest(selected_from(points), vectors, distances, indices)
    for v, vector in enumerate(vectors):
        expected = slow_nearest(points, vector, k)
        np.testing.assert_array_equal(distances[v, : len(expected)], expected)
        assert np.all(np.isinf(distances[v, len(expected) :]))
        assert np.all(indices[v, len(expected) :] == -1)
        assert len(set(indices[v, : len(expected)])) == len(expected)


def shell(number, dimension, seed):
    """Points at the same distance from the origin but for the rounding of their coordinates."""
    directions = np.random.default_rng(seed).standard_normal((number, dimension))
    return (directions / np.linalg.norm(directions, axis=1)[:, None]).astype(np.float32)


@pytest.mark.parametrize("together", [1, 5])
def test_neighbours_that_differ_by_less_than_float32_resolves_are_told_apart(together):
    points = shell(3000, 9, seed=0)
    vectors = np.random.default_rng(1).uniform(-1e-7, 1e-7, (40, 9)).astype(np.float32)
    selected = selected_from(points)
    for start in range(0, 40, together):
        part = vectors[start : start + together]
        distances = np.empty((together, 10))
        find_nearest(selected, part, distances, np.empty((together, 10), np.int32))
        for found, vector in zip(distances, part, strict=True):
            np.testing.assert_array_equal(found, slow_nearest(points, vector, 10))


def test_a_pivot_bound_is_never_below_the_importance(vectors_of):
    points = vectors_of("walk", 1200)
    selected, pivots = selected_from(points), empty_pivots(9, 10)
    choose_pivots(selected, pivots)
    vectors = vectors_of("gauss", 300, seed=5)
    bounds = np.empty(300)
    bound_importances(pivots, vectors, bounds)
    for vector, bound in zip(vectors, bounds, strict=True):
        total = 0.0
        for value in slow_nearest(points, vector, 10):
            total += value
        assert bound >= total / 10


def test_codes_sort_as_their_identifiers_and_decode_to_them():
    for names in ([0, 1, 255, 2**32, 2**64 - 1], ["A", "a", "aa", "b", "x" * 16, "µ", "日本"]):
        codec = IdentifierCodec()
        codes = codec.encode(names)
        codec.adopt("integer" if names[0] == 0 else "string")
        assert codec.decode(codes) == names
        assert sorted(map(tuple, codes.tolist())) == list(map(tuple, codes.tolist()))


def test_a_long_string_survives_its_digest():
    codec = IdentifierCodec()
    names = ["simulation-00017/patch-000123456", "x" * 17, "short"]
    codes = codec.encode(names)
    codec.adopt("string")
    assert codec.decode(codes) == names


def test_the_table_finds_what_is_left_after_any_removals():
    random = np.random.default_rng(0)
    codes = np.column_stack([np.zeros(3000, np.uint64), np.arange(3000, dtype=np.uint64)])
    none = np.zeros((1, 2), np.uint64)
    table = empty_table(3000)
    fill_table(table, np.arange(3000, dtype=np.int32), codes, none, 0)
    gone = random.permutation(3000)[:1500]
    for row in gone:
        forget(table, codes, none, find(table, codes, none, codes[row, 0], codes[row, 1]))
    found = [table[find(table, codes, none, *code)] for code in codes]
    expected = np.arange(3000) + 1
    expected[gone] = 0
    np.testing.assert_array_equal(found, expected)


def test_departed_identifiers_take_at_most_sixteen_bytes_each():
    random = np.random.default_rng(0)
    departed = empty_departed(100_000)
    prints = random.integers(1, 2**63, 100_000).astype(np.uint64)
    depart(departed, prints)
    assert departed.nbytes <= 16 * 100_000
    assert all(departed[departed_position(departed, mark)] == mark for mark in prints[:1000])
