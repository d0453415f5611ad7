"""Memory of a run on one rank, and what a snapshot with its patches costs beside the steps."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.step_cost import membrane_model
from continuum.configuration import load_model
from continuum.halo import SingleProcess
from continuum.membrane import Membrane
from continuum.run import cut_patches, directory_sink, write_snapshot

ROOT = Path(__file__).resolve().parents[1]


def peak_memory(cells: int, steps: int) -> dict[str, float]:
    """Largest resident memory, in GB, of a fresh process that runs steps with noise."""
    command = [sys.executable, "-m", "benchmarks.output_cost", str(cells), str(steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a run of {cells} cells failed: {done.stderr[-500:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _resident_gb() -> float:
    # getrusage would report the parent's peak where that was larger.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise RuntimeError("the peak of resident memory needs Linux's /proc/self/status")


def snapshot_cost(cells: int, ms_per_step: float, warm_steps: int = 2) -> dict[str, Any]:
    """CPU and wall time of one snapshot and all its patches, against 1 µs of steps.

    330 patches at 2400 x 2400: one a protein and 30 controls, all there at the published density.
    """
    model = load_model("published") if cells == 2400 else membrane_model("published", cells)
    membrane = Membrane(model, SingleProcess())
    for _ in range(warm_steps):
        membrane.advance()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sink = directory_sink(model, folder / "patches")
        cut_patches(membrane, 0, sink)  # compiles
        marks = [_now()]
        cut_patches(membrane, 1, sink)
        marks.append(_now())
        write_snapshot(membrane, 1, folder / "snapshots")
        marks.append(_now())
        snapshot_bytes = os.path.getsize(folder / "snapshots" / "0000000001.h5")
        patch_bytes = os.path.getsize(folder / "patches" / "0000000001.h5")
    (patch_cpu, patch_wall), (snapshot_cpu, snapshot_wall) = (
        tuple(after - before for before, after in zip(*pair, strict=True))
        for pair in ((marks[0], marks[1]), (marks[1], marks[2]))
    )
    output = model.output
    steps = output.snapshot_interval_us / model.numerics.time_step_us
    between_s = steps * ms_per_step / 1e3
    return {
        "grid_cells": cells,
        "patches": model.proteins.count + output.control_patches,
        "gzip_level": output.compression,
        "snapshot_interval_us": output.snapshot_interval_us,
        "patches_cpu_s": patch_cpu,
        "patches_wall_s": patch_wall,
        "snapshot_cpu_s": snapshot_cpu,
        "snapshot_wall_s": snapshot_wall,
        "snapshot_mb": snapshot_bytes / 1e6,
        "patches_mb": patch_bytes / 1e6,
        "steps_between_cpu_s": between_s,
        "cpu_share_of_steps": (patch_cpu + snapshot_cpu) / between_s,
        "wall_share_of_steps": (patch_wall + snapshot_wall) / between_s,
    }


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def main() -> None:
    """`python -m benchmarks.output_cost CELLS STEPS`: peak memory as one JSON line."""
    cells, steps = int(sys.argv[1]), int(sys.argv[2])
    imported_gb = _resident_gb()
    membrane = Membrane(membrane_model("published", cells), SingleProcess())
    for _ in range(steps):
        membrane.advance()
    result = {"grid_cells": cells, "imports_gb": imported_gb, "peak_resident_gb": _resident_gb()}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
