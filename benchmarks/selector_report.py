"""Runs the selector's benchmark, holds it against its bars, prints a table and JSON.

Times are CPU times of one thread, except where a key says wall. Bulk times are the least of the
rounds, times of single calls their median; other work on the machine raises both, so the load
average is printed with them. A bar is held against the worst of the kinds of data. `--quick` fits
in 50 s: no pool of a million, fewer rounds, not every kind.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

Result = dict[str, Any]

# Section, label, key, required, aim, larger is better; of keys with * the worst counts.
BARS: tuple[tuple[str, str, str, float, float | None, bool], ...] = (
    ("order", "mismatches with brute force", "mismatches", 0, None, False),
    ("pool_35k", "greedy pick, pool 35k, us", "*.greedy_pick_us", 10, 5, False),
    ("pool_350k", "greedy pick, pool 350k, us", "*.greedy_pick_us", 35, 20, False),
    ("pool_1m", "greedy pick, pool 1M, us", "*.greedy_pick_us", 80, 50, False),
    ("pool_35k", "add 10 + select 1, p50, 35k, us", "*.add_10_select_1_p50_us", 150, 40, False),
    ("pool_1m", "add 10 + select 1, p50, 1M, us", "*.add_10_select_1_p50_us", 200, 80, False),
    ("pool_35k", "exact ingest per candidate, us", "*.ingest_exact_us", 2.5, 1.4, False),
    ("pool_35k", "bound-only ingest per candidate, us", "*.ingest_bound_us", 0.8, 0.3, False),
    ("stream", "bounded stream against dynim", "*.ratio_to_dynim", 95, 250, True),
    ("memory", "numeric bytes per candidate", "numeric_b", 64, None, False),
    ("memory", "bytes per candidate with integer id", "with_integer_id_b", 128, 96, False),
    ("memory", "bytes per candidate with string id", "with_string_id_b", 128, 96, False),
    ("history", "durable append per call, us", "durable_append_wall_us", 500, 200, False),
    ("history", "snapshot of 35k, ms", "snapshot_35k_wall_ms", 20, 5, False),
    ("k1", "k = 1 against fpsample", "*.ratio_to_fpsample", 4, 8, True),
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


def judged(result: Result) -> list[Result]:
    """One row a bar whose section was measured."""
    rows = []
    for section, label, key, required, aim, larger in BARS:
        measured = result.get(section, {})
        if key.startswith("*."):
            values = [row[key[2:]] for row in measured.values() if key[2:] in row]
        else:
            values = [measured[key]] if key in measured else []
        if not values:
            continue
        worst = min(values) if larger else max(values)
        rows.append(
            {
                "measure": label,
                "key": f"{section}.{key}",
                "measured": worst,
                "required": required,
                "aim": aim,
                "larger_is_better": larger,
                "met": _meets(worst, required, larger),
                "aim_met": None if aim is None else _meets(worst, aim, larger),
            }
        )
    return rows


def _meets(value: float, bar: float, larger: bool) -> bool:
    return value >= bar if larger else value <= bar


def print_table(rows: list[Result]) -> None:
    """measure | measured | required | aim."""
    print(f"\n{'measure':38} | {'measured':>10} | {'required':>10} | {'aim':>8} |")
    for row in rows:
        sign = ">=" if row["larger_is_better"] else "<="
        aim = "" if row["aim"] is None else f"{row['aim']:g}"
        verdict = ("met, aim met" if row["aim_met"] else "met") if row["met"] else "MISSED"
        print(
            f"{row['measure']:38} | {row['measured']:10.4g} | {sign} {row['required']:>7g} |"
            f" {aim:>8} | {verdict}"
        )


def print_section(section: str, measured: Result, depth: int = 1) -> None:
    """Every figure on a line of its own."""
    for key, value in measured.items():
        if isinstance(value, dict):
            print_section(f"{section}.{key}", value, depth + 1)
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"  {section}.{key} = {shown}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fits in 50 s")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}"
    )
    arguments = parser.parse_args()
    benchmark = Benchmark(quick=arguments.quick)
    result: Result = {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_average_before": os.getloadavg()[0],
        },
        "quick": arguments.quick,
    }
    print(f"{_processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}")
    for section in arguments.only or (QUICK_SECTIONS if arguments.quick else SECTIONS):
        run: Callable[[], Result] = getattr(benchmark, section)
        start = time.perf_counter()
        result[section] = run()
        print(f"{section}: measured in {time.perf_counter() - start:.0f} s", flush=True)
        print_section(section, result[section])
    load = result["machine"]["load_average_after"] = os.getloadavg()[0]
    result["bars"] = judged(result)
    print_table(result["bars"])
    if "stream" in result and "ratio_to_dynim" not in result["stream"]["walk"]:
        print("dynim is not importable (it is not on PyPI): its stream was not run beside ours")
    if "k1" in result and "ratio_to_fpsample" not in result["k1"]["gauss"]:
        print("fpsample is not importable: k = 1 was run beside a plain float32 loop only")
    if load > 1.5:
        print(f"load average {load:.2f}: other work shared the machine, times are upper bounds")
    if arguments.json:
        print(json.dumps(result))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
