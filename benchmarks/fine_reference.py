"""Error of the continuum's step against an independent fine-step solution on the same grid.

The reference shares only the grid and the face flux with the continuum (membrane-physics 1.2): in
space exact Gaussian convolutions by FFT, potentials by cubic splines of the tables; in time the
explicit midpoint rule at a step below the explicit limit; float64 throughout. Both start from the
same state, relaxed around resting proteins, and then follow the same protein path.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import CubicSpline

from benchmarks.step_cost import membrane_model
from continuum.halo import SingleProcess
from continuum.membrane import Membrane
from continuum.parameters import Model

Array = NDArray[Any]
Path = Callable[[float], Array]  # time in µs -> (P, 2) nm

DRIFT_NM_PER_US = 20.0
DIFFUSIVITY_NM2_PER_US = 20.0
STATE = "RASb"
REFERENCE_STEP_US = 0.0004  # the explicit limit of the published interactions is 0.7 ns
RELAXATION_STEP_US = 0.0025


class FineReference:
    """dn/dt = ∇·(D (∇n + n ∇V)) of all species, V = U - c * Δn, explicitly in float64."""

    def __init__(self, model: Model, path: Path) -> None:
        membrane, lipids, potentials = model.membrane, model.lipids, model.potentials
        cells, h = membrane.cells, membrane.spacing_nm
        self._cells, self._side_nm, self._path = cells, membrane.side_nm, path
        self._bulk = lipids.bulk_density[:, None, None]
        self._mobility = (lipids.diffusivity / h**2)[:, None, None]
        self._centre = (np.arange(cells) + 0.5) * h
        kx = 2 * np.pi * fft.rfftfreq(cells, h)
        ky = 2 * np.pi * fft.fftfreq(cells, h)
        k_squared = ky[:, None] ** 2 + kx[None, :] ** 2
        terms = [(c.range_nm, c.matrix) for c in model.correlation.couplings]
        repulsion = model.correlation.repulsion
        if repulsion is not None:
            same = lipids.leaflet[:, None] == lipids.leaflet[None, :]
            weights = np.outer(lipids.area_weight, lipids.area_weight)
            strength = repulsion.strength[lipids.leaflet][:, None]
            terms.append((repulsion.range_nm, -strength * weights * same))
        self._terms = [
            (2 * np.pi * s**2 * np.exp(-k_squared * s**2 / 2), matrix) for s, matrix in terms
        ]
        table = potentials.u[model.proteins.index_of(STATE)]
        self._felt = np.flatnonzero(np.abs(table).max(axis=1) > 0)
        self._cutoff_nm = potentials.cutoff_nm
        self._curve = CubicSpline(potentials.radii_nm, table[self._felt], axis=1)

    def potential(self, n: Array, time_us: float) -> Array:
        """V (S, y, x) in kT."""
        deviation = fft.rfft2(n - self._bulk)
        flat = deviation.reshape(len(n), -1)
        total = np.zeros_like(flat)
        for gaussian, matrix in self._terms:
            total -= (matrix @ flat) * gaussian.ravel()
        v: Array = fft.irfft2(total.reshape(deviation.shape), s=n.shape[1:])
        for x_nm, y_nm in self._path(time_us):
            dx, dy = (
                (self._centre - middle + self._side_nm / 2) % self._side_nm - self._side_nm / 2
                for middle in (x_nm, y_nm)
            )
            columns = np.flatnonzero(np.abs(dx) < self._cutoff_nm)
            rows = np.flatnonzero(np.abs(dy) < self._cutoff_nm)
            r = np.hypot(dy[rows, None], dx[None, columns])
            inside = r < self._cutoff_nm
            v[np.ix_(self._felt, rows, columns)] += np.where(
                inside, self._curve(np.minimum(r, self._cutoff_nm)), 0.0
            )
        return v

    def rate(self, n: Array, time_us: float) -> Array:
        """dn/dt by the square-root Scharfetter-Gummel flux between neighbouring cells."""
        v = self.potential(n, time_us)
        result = np.zeros_like(n)
        for axis in (1, 2):
            tilt = np.exp((np.roll(v, -1, axis) - v) / 2)
            flux = self._mobility * (n / tilt - np.roll(n, -1, axis) * tilt)
            result += np.roll(flux, 1, axis) - flux
        return result

    def advance(self, n: Array, start_us: float, duration_us: float, dt_us: float) -> Array:
        """n after `duration_us`, by the midpoint rule."""
        steps = round(duration_us / dt_us)
        for step in range(steps):
            t = start_us + step * dt_us
            half = n + dt_us / 2 * self.rate(n, t)
            n = n + dt_us * self.rate(half, t + dt_us / 2)
        return n


class GuidedMembrane(Membrane):
    """A membrane whose proteins follow a path instead of moving by themselves."""

    def __init__(self, model: Model, path: Path) -> None:
        self._path, self._start_step = path, 0
        super().__init__(model, SingleProcess())
        self.state[:] = -1
        self.state[: model.proteins.count] = model.proteins.index_of(STATE)
        self.position[: model.proteins.count] = path(0.0) % model.membrane.side_nm

    def _change_states(self) -> None:
        pass

    def _lipid_force(self) -> Array:
        return np.zeros_like(self.position)

    def _move_proteins(self, lipid_force: Array, half: int) -> list[Array]:
        numerics = self.model.numerics
        substeps = math.ceil(numerics.time_step_us / 2 / numerics.protein_substep_us - 1e-9)
        trail = []
        for substep in range(half * substeps, (half + 1) * substeps):
            done = self.step - self._start_step + (substep + 1) / (2 * substeps)
            self.position[: self.model.proteins.count] = (
                self._path(done * numerics.time_step_us) % self.model.membrane.side_nm
            )
            trail.append(self.position.copy())
        return trail

    def density(self) -> Array:
        """(S, y, x) in nm⁻²."""
        result: Array = self.fields.own_density() * self.fields.quantum
        return result

    def rest_at(self, density: Array) -> None:
        """Take up `density` as if it had been there, with its proteins at path(0), for long."""
        quanta = np.rint(density / self.fields.quantum)
        path, self._path = self._path, lambda _: path(0.0)
        self.fields.own_density()[:] = quanta
        self.advance()  # leaves potentials of resting proteins and of this density behind
        self.fields.own_density()[:] = quanta
        self.fields.started = False  # the pressure settles anew
        self._path, self._start_step = path, self.step


def resting_positions(model: Model) -> Array:
    """Proteins spread over the box, off the grid's symmetry points, (P, 2) nm."""
    along = (np.arange(model.proteins.count) + 0.3) / model.proteins.count
    across = 0.5 - 0.05 * np.arange(model.proteins.count)
    return np.stack([along, across], axis=1) * model.membrane.side_nm


def smooth_path(model: Model) -> Path:
    """At rest until t = 0, then straight on, alternately along +x and -y."""
    start = resting_positions(model)
    directions = np.array([[1.0, 0.0], [0.0, -1.0]])[np.arange(len(start)) % 2]
    return lambda t_us: start + DRIFT_NM_PER_US * max(t_us, 0.0) * directions


def brownian_path(model: Model, duration_us: float) -> Path:
    """Free Brownian motion, the same to every solver: sampled at half steps of the reference."""
    start, tick_us = resting_positions(model), REFERENCE_STEP_US / 2
    ticks = round(duration_us / tick_us) + 1
    kicks = np.random.default_rng(5).standard_normal((ticks, *start.shape))
    kicks *= np.sqrt(2 * DIFFUSIVITY_NM2_PER_US * tick_us)
    trail = np.concatenate([np.zeros((1, *start.shape)), np.cumsum(kicks, axis=0)])
    return lambda t_us: start + trail[max(0, min(round(t_us / tick_us), ticks))]


def relative_errors(found: Array, exact: Array, bulk: Array) -> dict[str, float]:
    """L2 error relative to n and to n - bulk."""
    difference = float(np.linalg.norm(found - exact))
    return {
        "relative_l2_of_density": difference / float(np.linalg.norm(exact)),
        "relative_l2_of_deviation": difference / float(np.linalg.norm(exact - bulk[:, None, None])),
    }


def measure_errors(
    preset: str,
    *,
    cells: int,
    duration_us: float,
    steps_us: tuple[float, ...],
    brownian_steps_us: tuple[float, ...],
    relaxation_us: float,
    check_reference: bool,
) -> dict[str, Any]:
    """Errors of a preset without noise at several steps, for smooth and for Brownian proteins.

    The state both sides start from has relaxed for `relaxation_us`, the last steps of it by the
    reference. Densities differ from bulk by under a percent, which makes errors relative to n
    small: `error_of_standing_still`, of a solver that leaves the state as it is, says how small.
    `check_reference` measures the reference's own error by halving its step for 12 ns.
    """
    start = time.thread_time()
    model = membrane_model(preset, cells, noise=False)
    smooth = smooth_path(model)
    relaxing = GuidedMembrane(
        membrane_model(preset, cells, noise=False, time_step_us=RELAXATION_STEP_US),
        lambda _: smooth(0.0),
    )
    for _ in range(round(relaxation_us / RELAXATION_STEP_US)):
        relaxing.advance()
    rest = FineReference(model, lambda _: smooth(0.0))
    relaxed = rest.advance(relaxing.density(), 0.0, 10 * REFERENCE_STEP_US, REFERENCE_STEP_US)
    result: dict[str, Any] = {
        "cells": cells,
        "side_nm": model.membrane.side_nm,
        "proteins": model.proteins.count,
        "duration_ns": 1e3 * duration_us,
        "protein_speed_nm_per_us": DRIFT_NM_PER_US,
        "reference_step_ns": 1e3 * REFERENCE_STEP_US,
        "preset_step_ns": 1e3 * model.numerics.time_step_us,
    }
    bulk = model.lipids.bulk_density
    for name, path, steps in (
        ("smooth", smooth, steps_us),
        ("brownian", brownian_path(model, duration_us), brownian_steps_us),
    ):
        if not steps:
            continue
        reference = FineReference(model, path)
        exact = reference.advance(relaxed, 0.0, duration_us, REFERENCE_STEP_US)
        if name == "smooth" and check_reference:
            once, twice = (
                reference.advance(relaxed, 0.0, 0.012, REFERENCE_STEP_US / split)
                for split in (1, 2)
            )
            # Second order: the coarser run errs by 4/3 of the difference.
            own = relative_errors(once, twice, bulk)["relative_l2_of_density"] * 4 / 3
            result["reference_error"] = own
        if name == "smooth":
            result["error_of_standing_still"] = relative_errors(relaxed, exact, bulk)
        rows = []
        for dt_us in steps:
            membrane = GuidedMembrane(
                membrane_model(preset, cells, noise=False, time_step_us=dt_us), path
            )
            membrane.rest_at(relaxed)
            for _ in range(round(duration_us / dt_us)):
                membrane.advance()
            errors = relative_errors(membrane.density(), exact, bulk)
            rows.append({"time_step_ns": 1e3 * dt_us, **errors})
        result[name] = rows
    result["cpu_s"] = time.thread_time() - start
    return result


def largest_step_ns(rows: list[dict[str, float]], bound: float) -> float:
    """Largest step such that it and all smaller ones err by at most `bound`; 0 if none does."""
    largest = 0.0
    for row in sorted(rows, key=lambda row: row["time_step_ns"]):
        if not row["relative_l2_of_density"] <= bound:
            break
        largest = row["time_step_ns"]
    return largest
