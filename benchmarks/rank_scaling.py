"""CPU time of a step on several MPI ranks, without the time ranks wait for one another.

As a program under mpiexec it times steps and prints, on rank 0, one JSON line; `measure_scaling`
starts it. MPI ranks spin while they wait, which thread CPU time cannot tell from work: so before
each exchange all ranks meet at a barrier that is not counted, and what is counted of the exchange
itself is only the copying and transfer that then follow. On a machine busy with other work a rank
may still spin inside an exchange while its partner is not running; medians over steps, exchange by
exchange, keep that out.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.step_cost import membrane_model
from continuum.halo import World, connect
from continuum.membrane import Membrane

Array = NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]


class ClockedWorld:
    """A World whose exchanges are timed apart from the waiting for them."""

    def __init__(self, inner: World) -> None:
        self._inner = inner
        self.rank, self.size = inner.rank, inner.size
        self.exchange_s: list[float] = []
        self.waiting_s = 0.0

    def fill_halo(self, field: Array, halo: int) -> None:
        start = self._meet()
        self._inner.fill_halo(field, halo)
        self.exchange_s.append(time.thread_time() - start)

    def sum(self, array: Array) -> Array:
        start = self._meet()
        total = self._inner.sum(array)
        self.exchange_s.append(time.thread_time() - start)
        return total

    def _meet(self) -> float:
        start = time.thread_time()
        self._inner.barrier()
        met = time.thread_time()
        self.waiting_s += met - start
        return met

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def time_ranks(world: World, cells: int, steps: int) -> dict[str, float] | None:
    """Median CPU ms of a step: the mean over ranks of computing and exchanging; on rank 0."""
    clocked = ClockedWorld(world)
    membrane = Membrane(membrane_model("published", cells), clocked)
    membrane.advance()
    computing, exchanges = [], []
    for _ in range(steps):
        clocked.exchange_s, clocked.waiting_s = [], 0.0
        start = time.thread_time()
        membrane.advance()
        spent = time.thread_time() - start
        computing.append(spent - clocked.waiting_s - sum(clocked.exchange_s))
        exchanges.append(list(clocked.exchange_s))
    exchanging = float(np.median(np.array(exchanges), axis=0).sum())
    mine = float(np.median(computing)), exchanging
    gathered = world.gather_to_root(mine)
    if gathered is None:
        return None
    compute_s, exchange_s = np.mean(gathered, axis=0)
    return {
        "ranks": world.size,
        "grid_cells": cells,
        "compute_ms": 1e3 * float(compute_s),
        "exchange_ms": 1e3 * float(exchange_s),
        "ms_per_step": 1e3 * float(compute_s + exchange_s),
        "slowest_rank_ms_per_step": 1e3 * max(sum(times) for times in gathered),
    }


def launch(ranks: int, cells: int, steps: int) -> dict[str, float]:
    """Run this file on `ranks` MPI ranks; RuntimeError with its last words where that fails."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [str(mpiexec), "-n", str(ranks), sys.executable, "-m", "benchmarks.rank_scaling"]
    done = subprocess.run(
        [*command, str(cells), str(steps)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(
            f"{ranks} ranks failed with code {done.returncode}: {done.stderr[-500:]}"
        )
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measure_scaling(
    strong_cells: int, weak_cells: tuple[int, int], steps: int, repeats: int
) -> dict[str, Any]:
    """CPU-time efficiency of two ranks: the same membrane halved, and one of twice the area.

    Efficiency is the CPU time of one rank over that of two together.

    Runs of one and two ranks alternate, and each takes its best run of `repeats`.
    """

    def best(grids: tuple[tuple[int, int], ...]) -> list[dict[str, float]]:
        runs = [[launch(ranks, cells, steps) for ranks, cells in grids] for _ in range(repeats)]
        return [
            min(column, key=lambda run: run["ms_per_step"]) for column in zip(*runs, strict=True)
        ]

    one, two = best(((1, strong_cells), (2, strong_cells)))
    single, pair = (
        (one, two)
        if weak_cells == (strong_cells, strong_cells)
        else best(((1, weak_cells[0]), (2, weak_cells[1])))
    )
    per_cell = single["ms_per_step"] / weak_cells[0] ** 2
    per_cell_of_pair = 2 * pair["ms_per_step"] / weak_cells[1] ** 2
    compute_only = one["compute_ms"] / (2 * two["compute_ms"])
    return {
        "strong_cells": strong_cells,
        "strong_one_rank_ms": one["ms_per_step"],
        "strong_two_ranks_ms": two["ms_per_step"],
        "strong_exchange_ms": two["exchange_ms"],
        "strong_efficiency": one["ms_per_step"] / (2 * two["ms_per_step"]),
        "strong_efficiency_of_slowest_rank": one["ms_per_step"]
        / (2 * two["slowest_rank_ms_per_step"]),
        "strong_efficiency_without_exchange": compute_only,
        "weak_cells": list(weak_cells),
        "weak_one_rank_ms": single["ms_per_step"],
        "weak_two_ranks_ms": pair["ms_per_step"],
        "weak_efficiency": per_cell / per_cell_of_pair,
    }


def main() -> None:
    """`mpiexec -n R python -m benchmarks.rank_scaling CELLS STEPS`."""
    cells, steps = int(sys.argv[1]), int(sys.argv[2])
    result = time_ranks(connect(), cells, steps)
    if result is not None:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
