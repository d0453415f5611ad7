"""Benchmark of the metric: inference, training against Keras, loading, evaluation.

python benchmarks/metric.py [--quick] [--json] [--only SECTION ...]
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Run as a script, this file's folder comes first: import from the project's root instead.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.keras_peer import keras_there
from benchmarks.metric_cost import (
    measure_evaluation,
    measure_inference,
    measure_inference_on_gpu,
    measure_training,
)

Result = dict[str, Any]

# Section, label, key, required, aim, larger is better.
BARS: tuple[tuple[str, str, str, float, float | None, bool], ...] = (
    ("inference", "published: patches / s, one core", "patches_per_s_one_core", 1e4, 4e4, True),
    (
        "inference_invariant",
        "invariant: patches / s, one core",
        "patches_per_s_one_core",
        1e4,
        4e4,
        True,
    ),
    ("inference_gpu", "published: patches / s, GPU", "patches_per_s", 1e6, None, True),
    (
        "training",
        "training step against Keras",
        "step_speed_ratio_to_keras",
        2,
        None,
        True,
    ),
    (
        "training",
        "training with loading against Keras' step",
        "loop_speed_ratio_to_keras_step",
        2,
        None,
        True,
    ),
    ("training", "share of wall time spent waiting", "waiting_share_of_wall", 0.05, None, False),
    ("evaluation", "s for 30,000 patches, all cores", "s_for_30000_patches", 60, None, False),
)


class Benchmark:
    """The sections of one benchmark."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.repeats = 3 if quick else 9

    def inference(self) -> Result:
        """The published network on one core."""
        return measure_inference("published", 2048 if self.quick else 8192, self.repeats)

    def inference_invariant(self) -> Result:
        """The invariant network on one core."""
        return measure_inference("invariant", 2048 if self.quick else 8192, self.repeats)

    def inference_gpu(self) -> Result:
        """The published network from the memory of the GPU."""
        if not torch.cuda.is_available():
            return {"skipped": "no GPU"}
        return measure_inference_on_gpu("published", 32_768, self.repeats)

    def training(self) -> Result:
        """Our training on one core, and Keras' where it is installed."""
        return measure_training(3 if self.quick else 12, 1 if self.quick else 5)

    def evaluation(self) -> Result:
        """The criteria on all cores, or on the GPU when there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            if self.quick:
                return measure_evaluation(6000, 1000, device)
            return measure_evaluation(30_000, 30_000, device)
        finally:
            torch.set_num_threads(1)


SECTIONS = ("inference", "inference_invariant", "inference_gpu", "training", "evaluation")


def judged(result: Result) -> list[Result]:
    """One row a bar whose section was measured."""
    rows = []
    for section, label, key, required, aim, larger in BARS:
        value = result.get(section, {}).get(key)
        if value is None:
            continue
        rows.append(
            {
                "measure": label,
                "measured": value,
                "required": required,
                "aim": aim,
                "larger_is_better": larger,
                "met": value >= required if larger else value <= required,
            }
        )
    return rows


def print_table(rows: list[Result]) -> None:
    """measure | measured | required | aim."""
    print(f"\n{'measure':42} | {'measured':>10} | {'required':>10} | {'aim':>8} |")
    for row in rows:
        sign = ">=" if row["larger_is_better"] else "<="
        aim = "" if row["aim"] is None else f"{row['aim']:g}"
        verdict = "met" if row["met"] else "MISSED"
        print(
            f"{row['measure']:42} | {row['measured']:10.4g} | {sign} {row['required']:>7g} |"
            f" {aim:>8} | {verdict}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer patches and repeats")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    benchmark = Benchmark(quick=arguments.quick)
    result: Result = {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "load_average_before": os.getloadavg()[0],
        },
        "quick": arguments.quick,
    }
    size = "quick: few patches and repeats" if arguments.quick else "full size"
    print(f"{size}; {_processor()}, load average {os.getloadavg()[0]:.2f}", flush=True)
    if not keras_there():
        print("keras is not installed (extra `bench`): no peer to compare training with")
    for section in arguments.only or SECTIONS:
        run: Callable[[], Result] = getattr(benchmark, section)
        start = time.perf_counter()
        result[section] = run()
        result[section]["wall_s"] = time.perf_counter() - start
        print(f"{section}: measured in {result[section]['wall_s']:.0f} s", flush=True)
    load = result["machine"]["load_average_after"] = os.getloadavg()[0]
    result["bars"] = judged(result)
    for section in SECTIONS:
        for key, value in result.get(section, {}).items():
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"  {section}.{key} = {shown}")
    print_table(result["bars"])
    if load > 1.5:
        print(f"load average {load:.2f}: other work shared the machine, times are upper bounds")
    if arguments.json:
        print(json.dumps(result))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
