"""Measures the selector against its targets: CPU time of one thread on one core.

Bulk times are the least of the rounds, times of single calls their median; other work on the
machine raises both, so the load average is printed with them. With dynim importable (it is not on
PyPI) its stream is run beside ours; with fpsample importable its k = 1 selection is, and otherwise
a plain float32 farthest-point loop compiled by numba.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# This file has the package's name, so its folder must not be searched for the package.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
from numba import njit  # noqa: E402

from selector import FarthestPointSampler, RecordedSampler  # noqa: E402
from selector.history import Kind, Record  # noqa: E402

DIMENSION, SELECTED = 9, 5_000
KINDS = ("gauss", "uniform", "walk")


def make_vectors(kind: str, number: int, seed: int = 0) -> np.ndarray:
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
    return table[random.permutation(len(table))[:number]]


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
    rounds = [cpu_s(lambda: sampler.select(picks // 10)) / (picks // 10) for _ in range(10)]
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
        "greedy_pick_us": min(rounds) * 1e6,
        "greedy_pick_median_us": statistics.median(rounds) * 1e6,
        "add_10_select_1_p50_us": statistics.median(times) * 1e6,
        "add_10_select_1_p99_us": float(np.percentile(times, 99)) * 1e6,
    }


def least_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The least value of each key over repeated measurements."""
    return {key: min(row[key] for row in rounds) for key in rounds[0]}


def measure_memory(candidates: int, with_names: bool) -> dict[str, float]:
    """Bytes per candidate in a fresh process, after one add and ten selections."""
    command = [sys.executable, __file__, "--memory", str(candidates)]
    command += ["--names"] if with_names else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numeric, total = map(float, done.stdout.split())
    return {"numeric_b": numeric, "total_b": total}


def memory_per_candidate(candidates: int, with_names: bool) -> str:
    """Bytes per candidate: the numeric arrays in use, and the resident set's growth."""
    vectors = make_vectors("gauss", SELECTED + candidates)
    warm = FarthestPointSampler(DIMENSION, capacity=5000)
    for part in (vectors[:4000], vectors[4000:4100]):
        warm.add([f"w{i}" for i in range(len(part))], part)
        warm.select(20)
    sampler = FarthestPointSampler(DIMENSION, capacity=candidates, warm_up=0)
    sampler.mark_selected(
        [f"s{i}" for i in range(SELECTED)] if with_names else np.arange(SELECTED) + 10**9,
        vectors[:SELECTED],
    )
    sampler.select(0)
    names = [f"patch-{i:09d}" for i in range(candidates)] if with_names else np.arange(candidates)
    before = resident_bytes()
    sampler.add(names, vectors[SELECTED:])
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
    numeric = leaves * per_leaf + slots * (8 * sampler.k + 8) + 4 * candidates
    return f"{numeric / candidates} {grown / candidates}"


def resident_bytes() -> int:
    """Resident set now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def run_stream(iterations: int, kind: str) -> dict[str, float]:
    """A bounded 35,000 queue: 1,000 arrivals and 10 picks, string ids, every call durable."""
    capacity, arrivals, picks = 35_000, 1_000, 10
    vectors = make_vectors(kind, SELECTED + capacity + arrivals * iterations)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        sampler = FarthestPointSampler(DIMENSION, capacity=capacity, warm_up=10)
        recorded = RecordedSampler.create(Path(folder) / "log", sampler)
        recorded.mark_selected([f"s-{i}" for i in range(SELECTED)], vectors[:SELECTED])
        start = SELECTED + capacity
        recorded.add([f"patch-{i:08d}" for i in range(SELECTED, start)], vectors[SELECTED:start])
        times, walls = [], []
        for _ in range(iterations):
            names = [f"patch-{i:08d}" for i in range(start, start + arrivals)]
            part = vectors[start : start + arrivals]
            began = time.perf_counter()
            times.append(
                cpu_s(lambda n=names, p=part: (recorded.add(n, p), recorded.select(picks)))
            )
            walls.append(time.perf_counter() - began)
            start += arrivals
        appends = []
        for i in range(200):
            part = vectors[i : i + 10]
            names = [f"more-{10 * i + j}" for j in range(10)]
            codes, checked = sampler.check(names, part)
            began = time.perf_counter()
            recorded.writer.append([Record(Kind.ADD, {"ids": "string"}, codes, checked)])
            appends.append(time.perf_counter() - began)
        snapshots, snapshot_cpu = [], []
        for _ in range(5):
            began = time.perf_counter()
            snapshot_cpu.append(cpu_s(recorded.snapshot))
            snapshots.append(time.perf_counter() - began)
        recorded.close()
    return {
        "iteration_cpu_ms": statistics.median(times) * 1e3,
        "iteration_wall_ms": statistics.median(walls) * 1e3,
        "durable_append_wall_us": statistics.median(appends) * 1e6,
        "snapshot_35k_wall_ms": statistics.median(snapshots) * 1e3,
        "snapshot_35k_cpu_ms": statistics.median(snapshot_cpu) * 1e3,
    }


def run_dynim_stream(iterations: int, kind: str) -> float | None:
    """CPU ms per iteration of LLNL's dynim on the same stream, None if it is not importable."""
    try:
        from dynim.hdpoint import HDPoint
        from dynim.hdspace import HDSpace
        from dynim.sampler_importance import SamplerImportance
    except ImportError:
        return None
    capacity, arrivals, picks = 35_000, 1_000, 10
    vectors = make_vectors(kind, SELECTED + capacity + arrivals * iterations)
    with tempfile.TemporaryDirectory() as folder:
        space = HDSpace()
        space.setup(DIMENSION, "exact")
        sampler = SamplerImportance("bench", folder, buffer_size=capacity, min_rand_b4_importance=0)
        sampler.set_hdspace(space)
        points = [HDPoint(f"patch-{i:08d}", vector) for i, vector in enumerate(vectors)]
        space.add_points(vectors[:SELECTED])
        sampler.selected.extend(points[:SELECTED])
        start = SELECTED + capacity
        sampler.add_candidates(points[SELECTED:start])
        sampler.select(picks)
        times = []
        for _ in range(iterations):
            part = points[start : start + arrivals]
            times.append(
                cpu_s(lambda part=part: (sampler.add_candidates(part), sampler.select(picks)))
            )
            start += arrivals
    return statistics.median(times) * 1e3


@njit(error_model="numpy")
def plain_farthest_points(vectors: np.ndarray, picks: int) -> np.ndarray:
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


def measure_k1(kind: str, candidates: int, picks: int) -> dict[str, float | str]:
    """Classic farthest-point sampling of a static pool: ours at k = 1 against another's."""
    vectors = make_vectors(kind, candidates)
    try:
        import fpsample

        name = "fpsample"

        def rival() -> object:
            return fpsample.fps_sampling(vectors, picks, start_idx=0)
    except ImportError:
        name = "plain numba loop (fpsample not importable)"
        plain_farthest_points(vectors[:100], 5)

        def rival() -> object:
            return plain_farthest_points(vectors, picks)

    def ours() -> list[int]:
        sampler = FarthestPointSampler(DIMENSION, k=1, capacity=candidates, warm_up=0)
        sampler.add(np.arange(candidates), vectors)
        first = sampler.select(1)
        sampler.evaluate()
        return first + sampler.select(picks - 1)

    ours_s = min(cpu_s(ours) for _ in range(2))
    rival_s = min(cpu_s(rival) for _ in range(2))
    same = float(np.mean(np.asarray(rival()) == np.array(ours())))
    return {
        "rival": name,
        "rival_s": rival_s,
        "ours_s": ours_s,
        "ratio": rival_s / ours_s,
        "same_picks": same,
    }


def report(result: dict[str, float], key: str, value: float, required: str, aim: str) -> None:
    """Print one row and keep its number."""
    result[key] = value
    print(f"{key:44} {value:12.2f}   required {required:>9}   aim {aim:>9}", flush=True)


def main() -> None:
    """Measure and print the table of targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fits in 50 s: fewer pools and rounds")
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--names", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(memory_per_candidate(options.memory, options.names))
        return
    result: dict[str, float] = {}
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs at the start")
    result["load_average_start"] = os.getloadavg()[0]
    measure_pool("gauss", 3_000, 20, 100)  # compiles, or loads what was compiled
    pools = {35_000: (10, 5), 350_000: (35, 20), 1_000_000: (80, 50)}
    calls = {35_000: (150, 40), 1_000_000: (200, 80)}
    if options.quick:
        pools = {35_000: (10, 5), 350_000: (35, 20)}
    for candidates, (required, aim) in pools.items():
        for kind in KINDS[:1] if options.quick and candidates > 35_000 else KINDS:
            repeats = 3 if candidates <= 35_000 else 1
            row = least_of([measure_pool(kind, candidates, 200, 1000) for _ in range(repeats)])
            name = f"{kind}_{candidates // 1000}k"
            picks = row["greedy_pick_us"]
            report(result, f"greedy_pick_{name}_us", picks, f"{required}", f"{aim}")
            result[f"greedy_pick_median_{name}_us"] = row["greedy_pick_median_us"]
            bars = calls.get(candidates, ("-", "-"))
            p50 = row["add_10_select_1_p50_us"]
            report(result, f"add_10_select_1_p50_{name}_us", p50, f"{bars[0]}", f"{bars[1]}")
            report(result, f"ingest_exact_{name}_us", row["ingest_exact_us"], "2.5", "1.4")
            report(result, f"ingest_bound_{name}_us", row["ingest_bound_us"], "0.8", "0.3")
            result[f"add_10_select_1_p99_{name}_us"] = row["add_10_select_1_p99_us"]
            result[f"first_pick_{name}_ms"] = row["first_pick_ms"]
    size = 350_000
    numeric, named = measure_memory(size, False), measure_memory(size, True)
    report(result, "memory_numeric_b", numeric["numeric_b"], "64", "-")
    report(result, "memory_with_integer_id_b", numeric["total_b"], "128", "96")
    report(result, "memory_with_string_id_b", named["total_b"], "128", "96")
    iterations = 10 if options.quick else 40
    stream = run_stream(iterations, "walk")
    report(result, "stream_iteration_cpu_ms", stream["iteration_cpu_ms"], "-", "-")
    result["stream_iteration_wall_ms"] = stream["iteration_wall_ms"]
    dynim_ms = run_dynim_stream(3 if options.quick else 8, "walk")
    if dynim_ms is None:
        print("dynim is not importable: its stream was not run beside ours")
    else:
        result["dynim_iteration_cpu_ms"] = dynim_ms
        ratio = dynim_ms / stream["iteration_cpu_ms"]
        report(result, "stream_ratio_to_dynim", ratio, "95", "250")
    append_us, snapshot_ms = stream["durable_append_wall_us"], stream["snapshot_35k_wall_ms"]
    report(result, "durable_append_wall_us", append_us, "500", "200")
    report(result, "snapshot_35k_wall_ms", snapshot_ms, "20", "5")
    result["snapshot_35k_cpu_ms"] = stream["snapshot_35k_cpu_ms"]
    for kind in KINDS[:1] if options.quick else KINDS:
        number, picks = (100_000, 1000) if options.quick else (350_000, 5000)
        k1 = measure_k1(kind, number, picks)
        print(
            f"k = 1, {kind}, {picks} of {number}: {k1['rival']} {k1['rival_s']:.2f} s, "
            f"ours {k1['ours_s']:.2f} s, {k1['same_picks']:.4f} of the picks the same"
        )
        report(result, f"k1_ratio_{kind}", float(k1["ratio"]), "4", "8")
        result[f"k1_ours_{kind}_s"] = float(k1["ours_s"])
        result[f"k1_same_picks_{kind}"] = float(k1["same_picks"])
    result["load_average_end"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
