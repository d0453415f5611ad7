"""CPU time of a step of the continuum on one rank, split by part, for models of any size."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from continuum.configuration import load_model
from continuum.halo import SingleProcess, World
from continuum.membrane import Membrane
from continuum.parameters import Correlation, GaussianCoupling, Model

US_PER_DAY = 86_400.0  # simulated µs per core-day of a code that needs 1 s for 1 µs
PAPER_US_PER_RANK_DAY = 0.267  # 960 µs a day on 3,600 ranks
SPACING_NM = 1000 / 2400
PROTEINS_PER_NM2 = 300 / 1e6

PARTS = ("sweeps", "couplings", "pressure", "noise", "proteins")


def membrane_model(
    preset: str,
    cells: int,
    *,
    time_step_us: float | None = None,
    noise: bool = True,
    precision: str | None = None,
) -> Model:
    """A preset cut down to `cells` x `cells`, at its spacing and surface density of proteins."""
    side_nm = cells * SPACING_NM
    count = max(1, round(PROTEINS_PER_NM2 * side_nm**2))
    overrides = [
        f"membrane.side_nm={side_nm!r}",
        f"membrane.cells={cells}",
        f"proteins.count={count}",
        "output.control_patches=0",
    ]
    model = load_model(preset, overrides)
    numerics = model.numerics
    changes: dict[str, Any] = {}
    if time_step_us is not None:
        changes["time_step_us"] = time_step_us
    if not noise:
        changes["noise_amplitude"] = 0.0
    if precision is not None:
        changes["precision"] = precision
    return dataclasses.replace(model, numerics=dataclasses.replace(numerics, **changes))


def with_species(model: Model, count: int) -> Model:
    """The model with its species repeated or cut to `count`; couplings are those of the originals.

    Densities are scaled so that every leaflet keeps its total, as stability asks for.
    """
    lipids = model.lipids
    of = np.arange(count) % lipids.count
    if count < lipids.count:  # every other one, so that both leaflets stay
        of = np.linspace(0, lipids.count - 1, count).round().astype(int)
    total = lipids.leaflet_density()
    kept = np.zeros(2)
    np.add.at(kept, lipids.leaflet[of], lipids.bulk_density[of])
    scale = np.divide(total, kept, out=np.ones(2), where=kept > 0)
    density = lipids.bulk_density[of] * scale[lipids.leaflet[of]]
    less = 1.0 if count >= lipids.count else count / lipids.count
    return dataclasses.replace(
        model,
        lipids=dataclasses.replace(
            lipids,
            names=tuple(f"{lipids.names[s]}{n}" for n, s in enumerate(of)),
            leaflet=lipids.leaflet[of],
            bulk_density=density,
            diffusivity=lipids.diffusivity[of],
            area_weight=lipids.area_weight[of],
        ),
        correlation=Correlation(
            couplings=tuple(
                GaussianCoupling(
                    range_nm=coupling.range_nm, matrix=less * coupling.matrix[np.ix_(of, of)]
                )
                for coupling in model.correlation.couplings
            ),
            repulsion=model.correlation.repulsion,
        ),
        potentials=dataclasses.replace(
            model.potentials, u=np.ascontiguousarray(model.potentials.u[:, of])
        ),
    )


class StepClock:
    """Splits the CPU time of `membrane.advance` into PARTS by wrapping the parts it calls."""

    def __init__(self, membrane: Membrane) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._membrane = membrane
        fields = membrane.fields
        self._wrap(fields, "advance", "fields")
        self._wrap(fields.couplings, "refresh", "couplings")
        self._wrap(fields.pressure, "advance", "pressure")
        self._wrap(fields.noise, "draw", "noise")

    def _wrap(self, owner: object, name: str, part: str) -> None:
        inner: Callable[..., None] = getattr(owner, name)

        def timed(*arguments: Any) -> None:
            start = time.thread_time()
            inner(*arguments)
            self.seconds[part] += time.thread_time() - start

        setattr(owner, name, timed)

    def step(self) -> dict[str, float]:
        """Advance once; CPU seconds by part and "step" in total."""
        self.seconds.clear()
        start = time.thread_time()
        self._membrane.advance()
        total = time.thread_time() - start
        spent = self.seconds
        named = spent["couplings"] + spent["pressure"] + spent["noise"]
        return {
            "step": total,
            "sweeps": spent["fields"] - named,
            "couplings": spent["couplings"],
            "pressure": spent["pressure"],
            "noise": spent["noise"],
            "proteins": total - spent["fields"],
        }


def measure_steps(model: Model, repeats: int, world: World | None = None) -> dict[str, Any]:
    """Median and least CPU time of a step, and the medians of its parts, in ms."""
    membrane = Membrane(model, world or SingleProcess())
    membrane.advance()  # compiles, and settles the pressure
    clock = StepClock(membrane)
    samples = [clock.step() for _ in range(repeats)]
    membrane.check_finite()
    cell_species = model.membrane.cells**2 * model.lipids.count
    dt_us = model.numerics.time_step_us
    step_s = float(np.median([sample["step"] for sample in samples]))
    least_s = min(sample["step"] for sample in samples)
    parts = {part: float(np.median([sample[part] for sample in samples])) for part in PARTS}
    return {
        "grid_cells": model.membrane.cells,
        "species": model.lipids.count,
        "proteins": model.proteins.count,
        "time_step_ns": 1e3 * dt_us,
        "repeats": repeats,
        "ms_per_step": 1e3 * step_s,
        "least_ms_per_step": 1e3 * least_s,
        "ns_per_cell_species": 1e9 * step_s / cell_species,
        "parts_ms": {part: 1e3 * seconds for part, seconds in parts.items()},
        "parts_ns_per_cell_species": {
            part: 1e9 * seconds / cell_species for part, seconds in parts.items()
        },
    }


def simulated_us_per_core_day(ns_per_cell_species: float, time_step_us: float) -> float:
    """Speed of the published membrane, 2400 x 2400 cells of 14 species."""
    step_s = ns_per_cell_species * 1e-9 * 2400**2 * 14
    return time_step_us / step_s * US_PER_DAY


def noise_share(model: Model, repeats: int) -> dict[str, float]:
    """Share of a step that noise costs: drawing it, spreading it to faces, and the kicks.

    Steps with and without noise alternate, so that other work on the machine burdens both alike.
    """
    quiet = dataclasses.replace(
        model, numerics=dataclasses.replace(model.numerics, noise_amplitude=0.0)
    )
    membranes = [Membrane(m, SingleProcess()) for m in (model, quiet)]
    for membrane in membranes:
        membrane.advance()
    seconds = np.empty((repeats, 2))
    for sample in seconds:
        for column, membrane in enumerate(membranes):
            start = time.thread_time()
            membrane.advance()
            sample[column] = time.thread_time() - start
    noisy_s, quiet_s = np.median(seconds, axis=0)
    return {
        "grid_cells": model.membrane.cells,
        "ms_per_step_with_noise": 1e3 * float(noisy_s),
        "ms_per_step_without_noise": 1e3 * float(quiet_s),
        "noise_share_of_step": 1 - float(quiet_s / noisy_s),
    }
