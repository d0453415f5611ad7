"""Runs the selector's benchmark, holds it against its bars, prints a table and JSON.

Times are CPU times of one thread, except where a key says wall. Bulk times are the least of the
rounds, times of single calls their median; other work on the machine raises both, so the load
average is printed with them. A bar is held against the worst of the kinds of data. `--quick` fits
in 50 s: no pool of a million, fewer rounds, not every kind.
"""

from benchmarks.report import Bar, Result, arguments_of, conclude, measure, opened, print_figures
from benchmarks.selection_peers import dynim_iteration_ms, measure_k1, rerank_iteration_ms
from benchmarks.selector_cost import (
    KINDS,
    least_of,
    measure_history,
    measure_memory,
    measure_pool,
    measure_stream,
)
from benchmarks.selector_order import count_mismatches

# Of keys with * the worst kind of data counts.
BARS = (
    Bar("order", "mismatches with brute force", "mismatches", 0, at_least=False),
    Bar("pool_35k", "greedy pick, pool 35k, us", "*.greedy_pick_us", 10, 5, False),
    Bar("pool_350k", "greedy pick, pool 350k, us", "*.greedy_pick_us", 35, 20, False),
    Bar("pool_1m", "greedy pick, pool 1M, us", "*.greedy_pick_us", 80, 50, False),
    Bar("pool_35k", "add 10 + select 1, p50, 35k, us", "*.add_10_select_1_p50_us", 150, 40, False),
    Bar("pool_1m", "add 10 + select 1, p50, 1M, us", "*.add_10_select_1_p50_us", 200, 80, False),
    Bar("pool_35k", "exact ingest per candidate, us", "*.ingest_exact_us", 2.5, 1.4, False),
    Bar("pool_35k", "bound-only ingest per candidate, us", "*.ingest_bound_us", 0.8, 0.3, False),
    Bar("stream", "bounded stream against dynim", "*.ratio_to_dynim", 95, 250),
    Bar("memory", "numeric bytes per candidate", "numeric_b", 64, at_least=False),
    Bar("memory", "bytes per candidate with integer id", "with_integer_id_b", 128, 96, False),
    Bar("memory", "bytes per candidate with string id", "with_string_id_b", 128, 96, False),
    Bar("history", "durable append per call, us", "durable_append_wall_us", 500, 200, False),
    Bar("history", "snapshot of 35k, ms", "snapshot_35k_wall_ms", 20, 5, False),
    Bar("k1", "k = 1 against fpsample", "*.ratio_to_fpsample", 4, 8),
)


class Benchmark:
    """The sections of one benchmark."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick

    def order(self) -> Result:
        """Picks, evictions and importances that differ from a float64 brute force."""
        return count_mismatches(picks=5 if self.quick else 20)

    def pool_35k(self) -> Result:
        """35,000 candidates, 5,000 selected."""
        return self._pool(35_000, rounds=2 if self.quick else 5, kinds=KINDS)

    def pool_350k(self) -> Result:
        """350,000 candidates, 5,000 selected."""
        return self._pool(350_000, rounds=1, kinds=KINDS[:1] if self.quick else KINDS)

    def pool_1m(self) -> Result:
        """1,000,000 candidates, 5,000 selected."""
        return self._pool(1_000_000, rounds=1, kinds=KINDS)

    def stream(self) -> Result:
        """Queues of 35,000 that 1,000 arrive at for 10 picks, with ids and a durable log."""
        iterations, theirs = (10, 2) if self.quick else (40, 8)
        result: Result = {}
        for kind in ("walk",) if self.quick else ("gauss", "walk"):
            row = result[kind] = measure_stream(iterations, kind)
            rerank = row["rerank_iteration_cpu_ms"] = rerank_iteration_ms(theirs, kind)
            row["ratio_to_rerank"] = rerank / row["iteration_cpu_ms"]
            dynim = dynim_iteration_ms(theirs, kind)
            if dynim is not None:
                row["dynim_iteration_cpu_ms"] = dynim
                row["ratio_to_dynim"] = dynim / row["iteration_cpu_ms"]
        return result

    def memory(self) -> Result:
        """Bytes per candidate of a pool of 350,000 in a fresh process."""
        return measure_memory(350_000)

    def history(self) -> Result:
        """Durable appends of 10 candidates, snapshots of a queue of 35,000."""
        return measure_history(200)

    def k1(self) -> Result:
        """Classic farthest-point sampling, ingest included, against another's."""
        number, picks = (100_000, 1000) if self.quick else (350_000, 5000)
        return {
            kind: measure_k1(kind, number, picks) for kind in (KINDS[:1] if self.quick else KINDS)
        }

    def _pool(self, candidates: int, rounds: int, kinds: tuple[str, ...]) -> Result:
        measure_pool("gauss", 3_000, 20, 100)  # compiles, or loads what was compiled
        return {
            kind: least_of([measure_pool(kind, candidates, 200, 1000) for _ in range(rounds)])
            for kind in kinds
        }


SECTIONS = (
    "order", "pool_35k", "pool_350k", "pool_1m", "stream", "memory", "history", "k1",
)  # fmt: skip
QUICK_SECTIONS = tuple(name for name in SECTIONS if name != "pool_1m")


def main() -> None:
    """The command line."""
    arguments = arguments_of(__doc__, "fits in 50 s", SECTIONS).parse_args()
    benchmark = Benchmark(quick=arguments.quick)
    result = opened(arguments.quick)
    for section in arguments.only or (QUICK_SECTIONS if arguments.quick else SECTIONS):
        measure(benchmark, (section,), result)
        print_figures(section, result[section])
    if "stream" in result and "ratio_to_dynim" not in result["stream"]["walk"]:
        print("dynim is not importable (it is not on PyPI): its stream was not run beside ours")
    if "k1" in result and "ratio_to_fpsample" not in result["k1"]["gauss"]:
        print("fpsample is not importable: k = 1 was run beside a plain float32 loop only")
    conclude(result, BARS, as_json=arguments.json)
