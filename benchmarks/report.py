"""How every benchmark ends: its sections measured, held against their bars, as a table and JSON."""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Result = dict[str, Any]


class Bar(NamedTuple):
    """What one measure of one section is held against."""

    section: str
    measure: str
    key: str  # keys of the section's result, joined by dots; of what * stands for the worst counts
    required: float
    aim: float | None = None
    at_least: bool = True

    def meets(self, value: float, bar: float) -> bool:
        """Whether a value is on the right side of `required` or `aim`."""
        return bool(value >= bar if self.at_least else value <= bar)


def arguments_of(
    description: str | None, quick: str, sections: Sequence[str]
) -> argparse.ArgumentParser:
    """--quick, --json and --only, to which a benchmark may add its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument(
        "--only", nargs="+", choices=sections, metavar="SECTION", help=f"of {', '.join(sections)}"
    )
    return parser


def processor() -> str:
    """The CPU's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def opened(quick: bool, **facts: Any) -> Result:
    """A result that knows its machine, and other facts of it, but no section yet."""
    load = os.getloadavg()[0]
    size = "quick: small sizes, few repeats" if quick else "full size"
    print(f"{size}; {processor()}, {os.cpu_count()} cores, load average {load:.2f}", flush=True)
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_average_before": load,
    }
    return {"machine": {**machine, **facts}, "quick": quick}


def measure(benchmark: Any, sections: Iterable[str], result: Result) -> None:
    """Run the method that a section is named after, for each; tell how long it took."""
    for section in sections:
        start = time.perf_counter()
        result[section] = getattr(benchmark, section)()
        took_s = time.perf_counter() - start
        result[section].setdefault("wall_s", took_s)
        print(f"{section}: measured in {took_s:.0f} s", flush=True)


def print_figures(section: str, measured: Result) -> None:
    """Every figure on a line of its own."""
    for key, value in measured.items():
        if isinstance(value, dict):
            print_figures(f"{section}.{key}", value)
        else:
            print(f"  {section}.{key} = {f'{value:.4g}' if isinstance(value, float) else value}")


def judged(result: Result, bars: Iterable[Bar]) -> list[Result]:
    """One row a bar whose measure was taken."""
    rows = []
    for bar in bars:
        values = _found(result.get(bar.section), bar.key.split("."))
        if not values:
            continue
        worst = min(values) if bar.at_least else max(values)
        rows.append(
            {
                "measure": bar.measure,
                "key": f"{bar.section}.{bar.key}",
                "measured": worst,
                "required": bar.required,
                "aim": bar.aim,
                "larger_is_better": bar.at_least,
                "met": bar.meets(worst, bar.required),
                "aim_met": None if bar.aim is None else bar.meets(worst, bar.aim),
            }
        )
    return rows


def _found(measured: Any, keys: list[str]) -> list[float]:
    if not keys:
        return [] if measured is None else [measured]
    if not isinstance(measured, dict):
        return []
    inner = measured.values() if keys[0] == "*" else [measured.get(keys[0])]
    return [value for part in inner for value in _found(part, keys[1:])]


def print_table(rows: list[Result]) -> None:
    """measure | measured | required | aim | verdict."""
    width = max((len(row["measure"]) for row in rows), default=0)
    print(f"\n{'measure':{width}} | {'measured':>10} | {'required':>10} | {'aim':>8} |")
    for row in rows:
        sign = ">=" if row["larger_is_better"] else "<="
        aim = "" if row["aim"] is None else f"{row['aim']:g}"
        verdict = ("met, aim met" if row["aim_met"] else "met") if row["met"] else "MISSED"
        print(
            f"{row['measure']:{width}} | {row['measured']:10.4g} | {sign} {row['required']:>7g} |"
            f" {aim:>8} | {verdict}"
        )


def conclude(result: Result, bars: Iterable[Bar], *, as_json: bool, busy: float = 1.5) -> None:
    """The verdicts, a warning where more than `busy` processes shared the machine, and the JSON."""
    load = result["machine"]["load_average_after"] = os.getloadavg()[0]
    result["bars"] = judged(result, bars)
    print_table(result["bars"])
    if load > busy:
        print(f"load average {load:.2f}: other work shared the machine, times are upper bounds")
    if as_json:
        print(json.dumps(result))
