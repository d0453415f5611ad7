"""What one core of this machine can do, and the least a step of the continuum asks of it.

Bandwidth is a STREAM triad (bytes of two loads and one store, no write-allocate counted), peak
arithmetic a long Horner polynomial; both by numba in the precision of the step. The operation
count of a step is by hand, from the kernels' source.
"""

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import kernel
from continuum.decomposition import Slab
from continuum.flux_noise import FluxNoise
from continuum.gaussian_filter import gaussian_taps
from continuum.lipid_interactions import coarse_sigma, coarsening_factor
from continuum.lipid_step import sweep_polynomials
from continuum.parameters import Model

Array = NDArray[Any]

CHAINS = 8  # independent polynomials, to hide the latency of a multiply-add
HORNER_TERMS = 16
HORNER_CELLS = 512  # 18 KiB of float32 in all: in the first-level cache


@kernel
def triad(a: Array, b: Array, c: Array, factor: Any) -> None:
    """a = b + factor c."""
    for i in range(a.size):
        a[i] = b[i] + factor * c[i]


@kernel
def horner(
    x: Array,  # (CHAINS, cells)
    offset: Any,
    out: Array,  # (cells,)   added to
    repeats: int,
) -> None:
    """out += repeats Σ_chains y, y <- y x + offset HORNER_TERMS times from y = x."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    for _ in range(repeats):
        for i in range(out.size):
            a0, a1, a2, a3 = x0[i], x1[i], x2[i], x3[i]
            a4, a5, a6, a7 = x4[i], x5[i], x6[i], x7[i]
            y0, y1, y2, y3, y4, y5, y6, y7 = a0, a1, a2, a3, a4, a5, a6, a7
            for _ in range(HORNER_TERMS):
                y0, y1, y2, y3 = (
                    y0 * a0 + offset,
                    y1 * a1 + offset,
                    y2 * a2 + offset,
                    y3 * a3 + offset,
                )
                y4, y5, y6, y7 = (
                    y4 * a4 + offset,
                    y5 * a5 + offset,
                    y6 * a6 + offset,
                    y7 * a7 + offset,
                )
            out[i] += ((y0 + y1) + (y2 + y3)) + ((y4 + y5) + (y6 + y7))


def bandwidth_gb_per_s(repeats: int, megabytes: int = 256) -> float:
    """Best triad of `repeats`, arrays of `megabytes` each."""
    cells = megabytes * 2**20 // 4
    a, b, c = np.zeros(cells, np.float32), np.ones(cells, np.float32), np.ones(cells, np.float32)
    factor = np.float32(3.0)
    triad(a, b, c, factor)
    best = math.inf
    for _ in range(repeats):
        start = time.thread_time()
        triad(a, b, c, factor)
        best = min(best, time.thread_time() - start)
    return 3 * a.nbytes / best / 1e9


def peak_gflop_per_s(repeats: int, sweeps: int = 4000) -> float:
    """Best Horner of `repeats` in float32: two operations a fused multiply-add."""
    x = np.linspace(0.1, 0.9, CHAINS * HORNER_CELLS, dtype=np.float32).reshape(CHAINS, -1)
    out = np.zeros(HORNER_CELLS, np.float32)
    offset = np.float32(0.1)
    horner(x, offset, out, 1)
    best = math.inf
    for _ in range(repeats):
        out[:] = 0
        start = time.thread_time()
        horner(x, offset, out, sweeps)
        best = min(best, time.thread_time() - start)
    return 2.0 * HORNER_TERMS * x.size * sweeps / best / 1e9


def operations_per_cell_species(model: Model) -> dict[str, float]:
    """Floating-point operations and bytes of DRAM traffic of a step, by part.

    A multiplication, addition, division, root, minimum or rounding counts one, integer work of the
    random numbers and conversions nothing. Bytes suppose that everything larger than a row of tiles
    is read and written once a pass, in place where the code works in place.
    """
    lipids, numerics, h = model.lipids, model.numerics, model.membrane.spacing_nm
    size = 4 if numerics.precision == "single" else 8
    dt_us, species = numerics.time_step_us, lipids.count
    stages = float(np.mean([len(sweep.stages) for sweep in sweep_polynomials(model)]))
    factor = coarsening_factor(model.correlation, h)
    coarse_share = 1 / factor**2

    # Per direction: 2 to prepare b, 2 to prepare w, 7 a stage, 5 a face flux.
    sweeps = 2 * (2 + 2 + 7 * stages + 5)
    # pressure 2; both exponentials: halve 1, clamp 2, reduction 7, polynomial 13, scales 4
    potential = 2 + 27
    if factor == 2:
        potential += 7 / 2 + 7  # P along y on half the columns, along x
    sweep_bytes = 2 * size + size * coarse_share

    gather = 2 + 2 + (12 / 2 + 12 / 4 if factor == 2 else 0)
    couplings, coupling_bytes = float(gather), size * (1 + coarse_share)
    for coupling in model.correlation.couplings:
        sigma = coarse_sigma(coupling.range_nm, h, factor)
        reach = len(gaussian_taps(sigma)) - 1 if sigma is not None else 0
        couplings += coarse_share * (2 * (1 + 3 * reach) + 2 * species + 1)
        coupling_bytes += coarse_share * size * (2 + 1 + 2)  # filter x in place; read; add
    couplings += coarse_share * 3
    coupling_bytes += coarse_share * size * 4  # extrapolate: two arrays read and written

    noise, noise_bytes = 0.0, 0.0
    if numerics.noise_amplitude > 0:
        drawn = FluxNoise(
            slab=Slab(cells=64, first_row=0, rows=64),
            sweep_halo=2,
            spacing_nm=h,
            diffusivity=lipids.diffusivity,
            amplitude=numerics.noise_amplitude,
            range_nm=numerics.noise_range_nm,
            dt_us=dt_us,
            seed=0,
            dtype=np.float32,
        )
        f = drawn.factor
        sigma = math.sqrt(numerics.noise_range_nm**2 - lipids.diffusivity.mean() * dt_us) / (f * h)
        reach = len(gaussian_taps(max(sigma, 0.45))) - 1
        noise = 2 * (7 / f + 7) + 2 * 11 + 2 * (1 + 2 * (1 + 3 * reach)) / f**2
        noise_bytes = 2 * size * 2 / f**2
    # Two scalar fields a membrane, shared by all species: about 60 operations and 20 passes each.
    pressure, pressure_bytes = 2 * 60 / species, 2 * 20 * size / species
    return {
        "mean_stages": stages,
        "flops": sweeps + potential + couplings + noise + pressure,
        "bytes": sweep_bytes + coupling_bytes + noise_bytes + pressure_bytes,
        "flops_sweeps": sweeps + potential,
        "flops_couplings": couplings,
        "flops_noise": noise,
    }


def measure_roofline(model: Model, ns_per_cell_species: float, quick: bool) -> dict[str, float]:
    """Fraction of the roof, the longer of the times for arithmetic and for memory traffic."""
    repeats = 3 if quick else 7
    triad_gb = bandwidth_gb_per_s(repeats, 64 if quick else 256)
    peak = peak_gflop_per_s(repeats)
    count = operations_per_cell_species(model)
    roof_ns = max(count["flops"] / peak, count["bytes"] / triad_gb)
    return {
        "triad_gb_per_s": triad_gb,
        "fma_peak_gflop_per_s": peak,
        "flops_per_cell_species": count["flops"],
        "bytes_per_cell_species": count["bytes"],
        "mean_stages": count["mean_stages"],
        "roof_ns_per_cell_species": roof_ns,
        "measured_gflop_per_s": count["flops"] / ns_per_cell_species,
        "fraction_of_roof": roof_ns / ns_per_cell_species,
    }
