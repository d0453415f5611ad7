"""Other selections beside ours: LLNL's dynim and fpsample where importable, plain peers always."""

import statistics
import tempfile
from typing import Any

import faiss
import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.selector_cost import (
    ARRIVALS,
    CAPACITY,
    DIMENSION,
    PICKS,
    SELECTED,
    cpu_s,
    make_vectors,
    stream_names,
)
from selector import FarthestPointSampler


def dynim_iteration_ms(iterations: int, kind: str) -> float | None:
    """CPU ms per iteration of dynim (main branch, exact) on the stream of `measure_stream`.

    None if it is not importable. Its history is on, its checkpoints are not.
    """
    try:
        from dynim.hdpoint import HDPoint
        from dynim.hdspace import HDSpace
        from dynim.sampler_importance import SamplerImportance
    except ImportError:
        return None
    vectors = make_vectors(kind, SELECTED + CAPACITY + ARRIVALS * iterations)
    times = []
    with tempfile.TemporaryDirectory() as folder:
        space = HDSpace()
        space.setup(DIMENSION, "exact")
        sampler = SamplerImportance("bench", folder, buffer_size=CAPACITY, min_rand_b4_importance=0)
        sampler.set_hdspace(space)
        points = [
            HDPoint(name, vector)
            for name, vector in zip(stream_names(0, len(vectors)), vectors, strict=True)
        ]
        space.add_points(vectors[:SELECTED])
        sampler.selected.extend(points[:SELECTED])
        sampler.add_candidates(points[SELECTED : SELECTED + CAPACITY])
        sampler.select(PICKS)
        for start in range(SELECTED + CAPACITY, len(vectors) - ARRIVALS + 1, ARRIVALS):
            part = points[start : start + ARRIVALS]
            times.append(cpu_s(lambda p=part: (sampler.add_candidates(p), sampler.select(PICKS))))
    return statistics.median(times) * 1e3


def rerank_iteration_ms(iterations: int, kind: str) -> float:
    """CPU ms per iteration of the frozen algorithm alone: rank everything, take the top.

    What Bhatia et al. 2022, section 3.3, describe, in a few array calls: an exact FAISS search of
    all candidates, mean of the k distances, sort, cut at the capacity. It keeps no identifiers and
    no history, finds no duplicates, and its batch is not greedy: a lower bound of such a sampler.
    """
    vectors = make_vectors(kind, SELECTED + CAPACITY + ARRIVALS * iterations)
    index: Any = faiss.IndexFlatL2(DIMENSION)
    index.add(vectors[:SELECTED])
    pool = vectors[SELECTED : SELECTED + CAPACITY]

    def iterate(arrivals: NDArray[np.float32]) -> NDArray[np.float32]:
        everything = np.concatenate([pool, arrivals])
        squared, _ = index.search(everything, 10)
        order = np.argsort(-np.sqrt(squared).mean(axis=1))
        index.add(everything[order[:PICKS]])
        kept: NDArray[np.float32] = everything[order[PICKS : CAPACITY + PICKS]]
        return kept

    times = []
    for start in range(SELECTED + CAPACITY, len(vectors) - ARRIVALS + 1, ARRIVALS):
        kept = [pool]
        part = vectors[start : start + ARRIVALS]
        times.append(cpu_s(lambda k=kept, p=part: k.append(iterate(p))))
        pool = kept[-1]
    return statistics.median(times) * 1e3


@njit(error_model="numpy")
def plain_farthest_points(vectors: Any, picks: int) -> Any:
    """Classic farthest-point sampling, k = 1: one float32 pass over all vectors per pick."""
    number, dimension = vectors.shape
    nearest = np.full(number, np.float32(np.inf))
    chosen = np.empty(picks, np.int64)
    last = 0
    for pick in range(picks):
        chosen[pick] = last
        best = np.float32(-1)
        latest = last
        for i in range(number):
            squared = np.float32(0)
            for axis in range(dimension):
                difference = vectors[i, axis] - vectors[latest, axis]
                squared += difference * difference
            if squared < nearest[i]:
                nearest[i] = squared
            if nearest[i] > best:
                best = nearest[i]
                last = i
    return chosen


def measure_k1(kind: str, candidates: int, picks: int) -> dict[str, Any]:
    """Classic farthest-point sampling of a static pool from its first point, ours at k = 1."""
    vectors = make_vectors(kind, candidates)

    def ours() -> list[int]:
        sampler = FarthestPointSampler(DIMENSION, k=1, capacity=candidates, warm_up=0)
        sampler.add(np.arange(candidates), vectors)
        first = sampler.select(1)
        sampler.evaluate()
        return first + sampler.select(picks - 1)

    row: dict[str, Any] = {"candidates": candidates, "picks": picks}
    row["ours_s"] = min(cpu_s(ours) for _ in range(2))
    chosen = np.array(ours())
    try:
        import fpsample

        theirs = fpsample.fps_sampling(vectors, picks, start_idx=0)
        row["fpsample_s"] = cpu_s(lambda: fpsample.fps_sampling(vectors, picks, start_idx=0))
        row["ratio_to_fpsample"] = row["fpsample_s"] / row["ours_s"]
    except ImportError:
        plain_farthest_points(vectors[:100], 5)
        theirs = plain_farthest_points(vectors, picks)
        row["plain_loop_s"] = cpu_s(lambda: plain_farthest_points(vectors, picks))
        row["ratio_to_plain_loop"] = row["plain_loop_s"] / row["ours_s"]
    row["same_picks"] = float(np.mean(np.asarray(theirs) == chosen))
    return row
