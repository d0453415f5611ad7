"""What the selector costs: ingest, picks, calls, streams, memory, history."""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selector import FarthestPointSampler, RecordedSampler
from selector.history import Kind, Record

DIMENSION, SELECTED = 9, 5_000
KINDS = ("gauss", "uniform", "walk")
CAPACITY, ARRIVALS, PICKS = 35_000, 1_000, 10  # of a bounded stream

ROOT = Path(__file__).resolve().parents[1]
MEMORY = (
    "import sys; from benchmarks.selector_cost import print_memory; print_memory(*sys.argv[1:])"
)


def make_vectors(kind: str, number: int, seed: int = 0) -> NDArray[np.float32]:
    """N(0, 1), uniform, or Ornstein-Uhlenbeck walkers through a fixed net; float32, shuffled."""
    random = np.random.default_rng(seed)
    if kind == "gauss":
        return random.standard_normal((number, DIMENSION), dtype=np.float32)
    if kind == "uniform":
        return random.random((number, DIMENSION), dtype=np.float32)
    walkers, steps = 300, number // 300 + 1
    hidden = np.empty((steps, walkers, 4))
    hidden[0] = random.standard_normal((walkers, 4))
    memory = np.exp(-1 / 50)
    for step in range(1, steps):
        kick = random.standard_normal((walkers, 4))
        hidden[step] = memory * hidden[step - 1] + np.sqrt(1 - memory**2) * kick
    fixed = np.random.default_rng(99)
    mixed = np.tanh(hidden.reshape(-1, 4) @ fixed.standard_normal((4, 32)))
    table = mixed @ fixed.standard_normal((32, DIMENSION))
    table = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
    shuffled: NDArray[np.float32] = table[random.permutation(len(table))[:number]]
    return shuffled


def cpu_s(work: Callable[[], object]) -> float:
    """Thread CPU time of one call."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def measure_pool(kind: str, candidates: int, calls: int, picks: int) -> dict[str, float]:
    """Ingest, pick and call times of one pool; the pool is made exact before picks are timed."""
    vectors = make_vectors(kind, SELECTED + candidates)
    sampler = FarthestPointSampler(DIMENSION, capacity=10**7, warm_up=0)
    sampler.mark_selected(np.arange(SELECTED) + 10**9, vectors[:SELECTED])
    arriving = vectors[SELECTED:]
    bound_us = cpu_s(lambda: sampler.add(np.arange(candidates), arriving)) / candidates * 1e6
    first_pick_ms = cpu_s(lambda: sampler.select(1)) * 1e3
    lists_us = cpu_s(sampler.evaluate) / candidates * 1e6
    pick_us = cpu_s(lambda: sampler.select(picks)) / picks * 1e6
    late = make_vectors(kind, 10 * calls, seed=7)
    times = []
    for start in range(0, 10 * calls, 10):
        ids = np.arange(start, start + 10) + 2 * 10**9
        part = late[start : start + 10]
        times.append(cpu_s(lambda ids=ids, part=part: (sampler.add(ids, part), sampler.select(1))))
    return {
        "ingest_bound_us": bound_us,
        "ingest_exact_us": bound_us + lists_us,
        "first_pick_ms": first_pick_ms,
        "greedy_pick_us": pick_us,
        "add_10_select_1_p50_us": statistics.median(times) * 1e6,
        "add_10_select_1_p99_us": float(np.percentile(times, 99)) * 1e6,
    }


def least_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The least value of each key over repeated measurements."""
    return {key: min(row[key] for row in rounds) for key in rounds[0]}


def measure_memory(candidates: int) -> dict[str, float]:
    """Bytes per candidate in fresh processes, after one add and ten selections."""
    totals = {}
    numeric = 0.0
    for names in ("integer", "string"):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(candidates), names],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        numeric, totals[names] = map(float, done.stdout.split())
    return {
        "numeric_b": numeric,
        "with_integer_id_b": totals["integer"],
        "with_string_id_b": totals["string"],
    }


def print_memory(number: str, names: str) -> None:
    """Bytes per candidate: the numeric arrays in use, and the resident set's growth."""
    candidates, named = int(number), names == "string"
    vectors = make_vectors("gauss", SELECTED + candidates)
    warm = FarthestPointSampler(DIMENSION, capacity=5000)
    for part in (vectors[:4000], vectors[4000:4100]):
        warm.add([f"w{i}" for i in range(len(part))], part)
        warm.select(20)
    sampler = FarthestPointSampler(DIMENSION, capacity=candidates, warm_up=0)
    sampler.mark_selected(
        [f"s{i}" for i in range(SELECTED)] if named else np.arange(SELECTED) + 10**9,
        vectors[:SELECTED],
    )
    sampler.select(0)
    ids = [f"patch-{i:09d}" for i in range(candidates)] if named else np.arange(candidates)
    before = resident_bytes()
    sampler.add(ids, vectors[SELECTED:])
    sampler.select(10)
    grown = resident_bytes() - before
    pool = sampler.store.pool
    leaves, slots = int(pool.numbers[0]), int(pool.numbers[5])
    per_leaf = sum(
        array.nbytes / len(pool.leaves)
        for array in (
            pool.coordinates, pool.bounds, pool.kth_squared, pool.slots, pool.rows, pool.boxes,
            pool.leaves, pool.nodes,
        )
    )  # fmt: skip
    numeric = leaves * per_leaf + slots * (8 * sampler.k + 12) + 4 * candidates
    print(numeric / candidates, grown / candidates)


def resident_bytes() -> int:
    """Resident set now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def stream_names(start: int, number: int) -> list[str]:
    """Identifiers of a stream's candidates."""
    return [f"patch-{i:08d}" for i in range(start, start + number)]


def full_queue(path: Path, vectors: NDArray[np.float32]) -> RecordedSampler:
    """A recorded queue at its capacity, every call durable."""
    sampler = FarthestPointSampler(DIMENSION, capacity=CAPACITY, warm_up=10)
    recorded = RecordedSampler.create(path, sampler)
    recorded.mark_selected([f"s-{i}" for i in range(SELECTED)], vectors[:SELECTED])
    recorded.add(stream_names(SELECTED, CAPACITY), vectors[SELECTED : SELECTED + CAPACITY])
    return recorded


def measure_stream(iterations: int, kind: str) -> dict[str, Any]:
    """A bounded queue: 1,000 arrivals and 10 picks an iteration, string ids, durable calls."""
    vectors = make_vectors(kind, SELECTED + CAPACITY + ARRIVALS * iterations)
    times, walls = [], []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        recorded = full_queue(Path(folder) / "log", vectors)
        for start in range(SELECTED + CAPACITY, len(vectors) - ARRIVALS + 1, ARRIVALS):
            names = stream_names(start, ARRIVALS)
            part = vectors[start : start + ARRIVALS]
            began = time.perf_counter()
            times.append(
                cpu_s(lambda n=names, p=part: (recorded.add(n, p), recorded.select(PICKS)))
            )
            walls.append(time.perf_counter() - began)
        recorded.close()
    return {
        "iteration_cpu_ms": statistics.median(times) * 1e3,
        "iteration_wall_ms": statistics.median(walls) * 1e3,
    }


def measure_history(appends: int) -> dict[str, float]:
    """Appending 10 candidates durably, and snapshots of a full queue, atomic and durable."""
    vectors = make_vectors("walk", SELECTED + CAPACITY + 10 * appends)
    walls, snapshots, snapshot_cpu = [], [], []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        recorded = full_queue(Path(folder) / "log", vectors)
        recorded.select(PICKS)
        for start in range(SELECTED + CAPACITY, len(vectors), 10):
            codes, points = recorded.sampler.check(
                stream_names(start, 10), vectors[start : start + 10]
            )
            began = time.perf_counter()
            recorded.writer.append([Record(Kind.ADD, {"ids": "string"}, codes, points)])
            walls.append(time.perf_counter() - began)
        for _ in range(7):
            began = time.perf_counter()
            snapshot_cpu.append(cpu_s(recorded.snapshot))
            snapshots.append(time.perf_counter() - began)
        recorded.close()
    return {
        "durable_append_wall_us": statistics.median(walls) * 1e6,
        "durable_append_p99_wall_us": float(np.percentile(walls, 99)) * 1e6,
        "snapshot_35k_wall_ms": statistics.median(snapshots) * 1e3,
        "snapshot_35k_cpu_ms": statistics.median(snapshot_cpu) * 1e3,
    }
