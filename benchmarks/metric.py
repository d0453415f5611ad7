"""Benchmark of the metric: inference, training against Keras, loading, evaluation.

python benchmarks/metric.py [--quick] [--json] [--only SECTION ...]
"""

import os
import sys
from pathlib import Path

# Run as a script, this file's folder comes first: import from the project's root instead.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.keras_peer import keras_there
from benchmarks.metric_cost import (
    measure_evaluation,
    measure_inference,
    measure_inference_on_gpu,
    measure_training,
    untrained_encoder,
)
from benchmarks.report import Bar, Result, arguments_of, conclude, measure, opened, print_figures
from ml.encoder import load_encoder

BARS = (
    Bar("inference", "published: patches / s, one core", "patches_per_s_one_core", 1e4, 4e4),
    Bar(
        "inference_shipped",
        "in the package: patches / s, one core",
        "patches_per_s_one_core",
        1e4,
        4e4,
    ),
    Bar("inference_gpu", "published: patches / s, GPU", "patches_per_s", 1e6),
    Bar("training", "training step against Keras", "step_speed_ratio_to_keras", 2),
    Bar(
        "training", "training with loading against Keras' step", "loop_speed_ratio_to_keras_step", 2
    ),
    Bar(
        "training",
        "share of wall time spent waiting",
        "waiting_share_of_wall",
        0.05,
        at_least=False,
    ),
    Bar("evaluation", "s for 30,000 patches, all cores", "s_for_30000_patches", 60, at_least=False),
)


class Benchmark:
    """The sections of one benchmark."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.repeats = 3 if quick else 7

    def inference(self) -> Result:
        """The published network on one core."""
        encoder = untrained_encoder("published", "cpu")
        return measure_inference(encoder, 2048 if self.quick else 8192, self.repeats)

    def inference_shipped(self) -> Result:
        """The metric in the package, an invariant network, on one core."""
        return measure_inference(load_encoder(), 2048 if self.quick else 8192, self.repeats)

    def inference_gpu(self) -> Result:
        """The published network from the memory of the GPU."""
        if not torch.cuda.is_available():
            return {"skipped": "no GPU"}
        return measure_inference_on_gpu("published", 32_768, self.repeats)

    def training(self) -> Result:
        """Our training on one core, and Keras' where it is installed."""
        return measure_training(3 if self.quick else 6, 1 if self.quick else 3)

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


SECTIONS = ("inference", "inference_shipped", "inference_gpu", "training", "evaluation")


def main() -> None:
    """The command line."""
    arguments = arguments_of(__doc__, "fewer patches and repeats", SECTIONS).parse_args()
    torch.set_num_threads(1)
    benchmark = Benchmark(quick=arguments.quick)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    result = opened(arguments.quick, gpu=gpu, torch=torch.__version__)
    if not keras_there():
        print("keras is not installed (extra `bench`): no peer to compare training with")
    for section in arguments.only or SECTIONS:
        measure(benchmark, (section,), result)
        print_figures(section, result[section])
    conclude(result, BARS, as_json=arguments.json)


if __name__ == "__main__":
    main()
