"""Every order of selection and eviction held against a float64 brute force."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.selector_cost import DIMENSION, KINDS, make_vectors
from selector import FarthestPointSampler

ALREADY_SELECTED = (1, 3, 9, 10, 11, 20, 1000)
POOL, K = 300, 10
Points = NDArray[np.float32]


def importances(candidates: Points, selected: Points) -> NDArray[np.float64]:
    """Mean distance of each candidate (n, d) to its k nearest selected points (m, d)."""
    squared = np.zeros((len(candidates), len(selected)))
    for axis in range(candidates.shape[1]):
        gap = candidates[:, axis, None].astype(np.float64) - selected[None, :, axis]
        squared += gap * gap
    number = min(K, len(selected))
    nearest = np.sort(np.sqrt(np.partition(squared, number - 1, axis=1)[:, :number]), axis=1)
    total = np.zeros(len(candidates))
    for column in range(number):
        total += nearest[:, column]
    mean: NDArray[np.float64] = total / number
    return mean


def brute_force(
    points: Points, left: list[int], selected: list[int], picks: int, frozen: bool
) -> list[int]:
    """The next picks, indices of `points`; `left` and `selected` are updated."""
    chosen: list[int] = []
    while left and len(chosen) < picks:
        ranks = importances(points[left], points[selected])
        order = np.lexsort((left, -ranks))
        batch = [left[i] for i in order[: picks if frozen else 1]]
        chosen += batch
        selected += batch
        for pick in batch:
            left.remove(pick)
    return chosen


def batch_mismatches(kind: str, already: int, frozen: bool, picks: int) -> int:
    """Differing picks of one batch after `already` selected points."""
    points = make_vectors(kind, already + POOL, seed=already)
    ids = np.arange(len(points))
    sampler = FarthestPointSampler(DIMENSION, k=K, warm_up=0)
    sampler.mark_selected(ids[:already], points[:already])
    sampler.add(ids[already:], points[already:])
    left, selected = ids[already:].tolist(), ids[:already].tolist()
    expected = brute_force(points, left, selected, picks, frozen)
    return sum(a != b for a, b in zip(sampler.select(picks, frozen=frozen), expected, strict=True))


def stream_mismatches(kind: str, frozen: bool, iterations: int) -> int:
    """Differing picks and evictions of a queue of 100 that 40 arrive at for 4 picks each time."""
    capacity, arrivals, picks, already = 100, 40, 4, 12
    points = make_vectors(kind, already + capacity + arrivals * iterations, seed=1)
    sampler = FarthestPointSampler(DIMENSION, k=K, capacity=capacity, warm_up=0)
    ids = np.arange(len(points))
    sampler.mark_selected(ids[:already], points[:already])
    left, selected = [], ids[:already].tolist()
    wrong = 0
    for start in range(already, len(points) - arrivals + 1, arrivals):
        new = ids[start : start + arrivals]
        sampler.add(new, points[new])
        left += new.tolist()
        ranks = importances(points[left], points[selected])
        order = np.lexsort((left, -ranks))
        left = [left[i] for i in order[:capacity]]
        wrong += len(set(left) ^ set(sampler.candidate_ids))
        expected = brute_force(points, left, selected, picks, frozen)
        wrong += sum(
            a != b for a, b in zip(sampler.select(picks, frozen=frozen), expected, strict=True)
        )
    return wrong


def count_mismatches(picks: int) -> dict[str, int]:
    """Mismatches over three kinds of data, all numbers of selected points, greedy and frozen."""
    batches = [
        batch_mismatches(kind, already, frozen, picks)
        for kind in KINDS
        for already in ALREADY_SELECTED
        for frozen in (False, True)
    ]
    streams = [
        stream_mismatches(kind, frozen, 2 * picks) for kind in KINDS for frozen in (False, True)
    ]
    return {
        "mismatches": sum(batches) + sum(streams),
        "batches": len(batches),
        "streams": len(streams),
        "picks_per_batch": picks,
    }
