"""The continuum's sweeps against py-pde on one equation, float64 on both sides.

Four fields on 256 x 256 cells of 0.41667 nm, D = 20, 40, 60, 80 nm²/µs, weakly coupled at a point:

    dn_i/dt = D_i ∇·(∇n_i + n_i ∇V_i),   V_i = U_i(x, y) + Σ_j B_ij (n_j - 1/2).

py-pde has no convolution, so c_ij is local here; what runs on our side is `advance_species` as in a
step of the membrane, its potential extrapolated to the middle of the step as there. Each side
takes its largest step that errs by at most 1e-3 from a spectral solution of the same equation,
which knows neither side's grid.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from continuum.compilation import kernel
from continuum.flux_noise import spline_positions
from continuum.grid_transfer import WEIGHTS
from continuum.halo import SingleProcess
from continuum.lipid_flux import FaceNoise, FrozenPotential, advance_species, sweep_memory
from continuum.lipid_step import storage
from continuum.sweep_polynomial import sweep_polynomial

Array = NDArray[Any]

CELLS = 256
SPACING_NM = 1000 / 2400
SIDE_NM = CELLS * SPACING_NM
BOUND = 1e-3
DIFFUSIVITY = np.array([20.0, 40.0, 60.0, 80.0])  # nm² µs⁻¹
BULK = 0.5  # nm⁻²
COUPLING = np.array(  # B, nm² kT
    [[0.3, 0.1, -0.1, 0.0], [0.1, -0.2, 0.1, 0.1], [-0.1, 0.1, 0.2, -0.1], [0.0, 0.1, -0.1, -0.2]]
)
LARGEST_W = 2.03  # of SweepPolynomial; these potentials reach 2.013
OUR_STEPS_US = (0.125, 0.0625, 0.05, 0.03125, 0.025, 0.0125, 0.005)
SPECTRAL_CELLS = 96
SPECTRAL_STEP_US = 0.001
EXPLICIT_LIMIT_US = SPACING_NM**2 / (4 * DIFFUSIVITY.max())  # of diffusion alone
EULER_FRACTIONS = (1.05, 1.0, 0.95, 0.9, 0.8, 0.6)


def external_potentials(x: Array, y: Array) -> Array:
    """U_i, (4, y, x) in kT."""
    q = 2 * np.pi / SIDE_NM
    return np.stack([0.6 * np.cos(q * (3 + i) * x) * np.cos(q * (2 + i) * y) for i in range(4)])


def initial_densities(x: Array, y: Array) -> Array:
    """(4, y, x) in nm⁻²."""
    q = 2 * np.pi / SIDE_NM
    return np.stack([BULK + 0.1 * np.cos(q * ((i + 1) * x + y) + i) for i in range(4)])


def cell_centres(cells: int) -> tuple[Array, Array]:
    """x and y of the centres, (y, x) each, in nm."""
    centre = (np.arange(cells) + 0.5) * SIDE_NM / cells
    x, y = np.meshgrid(centre, centre)
    return x, y


def spectral_solution(duration_us: float) -> Array:
    """n at the centres of the 256 x 256 cells: pseudo-spectral in space, RK4 in time."""
    cells = SPECTRAL_CELLS
    x, y = cell_centres(cells)
    u, n = external_potentials(x, y), initial_densities(x, y)
    wave = 2 * np.pi * fft.fftfreq(cells, SIDE_NM / cells)
    ky, kx = wave[:, None], wave[None, :]

    def rate(n: Array) -> Array:
        v = fft.fft2(u + np.tensordot(COUPLING, n - BULK, 1))
        density = fft.fft2(n)
        result = np.zeros_like(density)
        for k in (kx, ky):
            drift = n * fft.ifft2(1j * k * v).real
            result += 1j * k * (1j * k * density + fft.fft2(drift))
        rate_of_change: Array = DIFFUSIVITY[:, None, None] * fft.ifft2(result).real
        return rate_of_change

    dt = SPECTRAL_STEP_US
    for _ in range(round(duration_us / dt)):
        k1 = rate(n)
        k2 = rate(n + dt / 2 * k1)
        k3 = rate(n + dt / 2 * k2)
        k4 = rate(n + dt * k3)
        n = n + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return _resampled(n, CELLS)


def _resampled(n: Array, cells: int) -> Array:
    """Trigonometric interpolation from the centres of one grid to those of a finer one."""
    coarse = n.shape[-1]
    index = fft.fftfreq(coarse, 1 / coarse).astype(int)
    shift = np.exp(1j * np.pi * index * (1 / cells - 1 / coarse))
    spectrum = fft.fft2(n) * shift[:, None] * shift[None, :]
    padded = np.zeros((len(n), cells, cells), complex)
    padded[:, index[:, None], index[None, :]] = spectrum
    result: Array = fft.ifft2(padded).real * (cells / coarse) ** 2
    return result


@kernel
def local_potentials(
    density: Array,  # (4, rows, nx)   quanta
    quantum: float,
    external: Array,  # (4, rows, nx)   kT
    coupling: Array,  # (4, 4)
    bulk: float,
    previous: Array,  # (4, rows, nx)   V one step ago; becomes V now
    ahead: float,  # 1/2 extrapolates to the middle of the coming step, 0 not at all
    potential: Array,  # (4, rows, nx)   overwritten
) -> None:
    """V_i = U_i + Σ_j B_ij (n_j - bulk), extrapolated linearly in time."""
    species, rows, nx = density.shape
    for r in range(rows):
        for s in range(species):
            line, before, out = external[s, r], previous[s, r], potential[s, r]
            for i in range(nx):
                now = line[i]
                for t in range(species):
                    now += coupling[s, t] * (quantum * density[t, r, i] - bulk)
                out[i] = now + ahead * (now - before[i])
                before[i] = now


def our_solution(duration_us: float, dt_us: float) -> tuple[Array, float]:
    """n after `duration_us` and the CPU seconds it took, kernels compiled before."""
    integer, real, quantum = storage("double")
    fourier = DIFFUSIVITY * dt_us / SPACING_NM**2
    sweeps = [sweep_polynomial(float(f), LARGEST_W) for f in fourier]
    halo = max(sweep.halo_rows for sweep in sweeps)
    memory = sweep_memory(CELLS, max(sweep.degree for sweep in sweeps), 1, integer, real)
    shape = (len(DIFFUSIVITY), CELLS + 2 * halo, CELLS)
    density = np.zeros(shape, integer)
    x, y = cell_centres(CELLS)
    external = np.zeros(shape)
    own = slice(halo, halo + CELLS)
    world = SingleProcess()
    external[:, own] = external_potentials(x, y)
    world.fill_halo(external, halo)
    density[:, own] = np.rint(initial_densities(x, y) / quantum)
    potential, previous = np.zeros(shape), np.zeros(shape)
    frozen = [
        FrozenPotential(
            coarse=potential[s],
            coarse_halo=halo,
            factor=1,
            spline=np.array(WEIGHTS),
            pressure=np.zeros(shape[1:]),
            weight=0.0,
            windows=np.zeros((0, 1, 1)),
            corners=np.zeros((0, 2), np.int64),
            beads_of_row=np.empty(0, np.int64),
            row_start=np.zeros(shape[1] + 1, np.int64),
            first_row=0,
        )
        for s in range(len(sweeps))
    ]
    centres, faces = spline_positions(1, False, real), spline_positions(1, True, real)
    no_noise = FaceNoise(
        amplitude=0.0,
        fields=np.zeros((2, 1, 1)),
        halo=0,
        centre_first=centres.first,
        centre_weights=centres.weights,
        face_first=faces.first,
        face_weights=faces.weights,
    )
    start = time.process_time()
    for step in range(round(duration_us / dt_us)):
        world.fill_halo(density, halo)
        local_potentials(
            density, quantum, external, COUPLING, BULK, previous, 0.5 if step else 0.0, potential
        )
        for s, sweep in enumerate(sweeps):
            scale = sweep.fourier * sweep.weight / quantum
            advance_species(
                density[s],
                halo,
                quantum,
                frozen[s],
                no_noise,
                sweep.stages,
                scale,
                step % 2 == 0,
                memory,
            )
    return density[:, own] * quantum, time.process_time() - start


def relative_error(found: Array, exact: Array) -> float:
    """Relative L2; infinity for a solution that blew up."""
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


class PyPde:
    """py-pde's explicit Euler solver of the equation on one of its backends.

    The fastest accurate form found: a PDE class (an expression runs up to twice as long, and takes
    minutes to compile) whose rate is written with Laplacians only,

        ∇·(n ∇V) = (Δ(nV) + n ΔV - V Δn) / 2,

    which is the centred flux when discretised; py-pde's own divergence of n times gradient V spans
    four cells and misses the bound at every step. Euler at its stability limit errs by 1e-4 only,
    so that no scheme of higher order and several evaluations a step can be faster, and implicit
    solvers of py-pde would need a dense Jacobian.
    """

    def __init__(self, backend: str) -> None:
        import pde

        pde.config["backend.numba.multithreading"] = "never"
        self._pde, self._backend = pde, backend
        sides = [[0, SIDE_NM], [0, SIDE_NM]]
        self._grid = pde.CartesianGrid(sides, [CELLS, CELLS], periodic=True)
        x, y = cell_centres(CELLS)  # our arrays are [y, x]; the isotropic equation does not mind
        self._equation = _equation(external_potentials(x, y))
        self._initial = initial_densities(x, y)

    def solution(self, duration_us: float, dt_us: float) -> tuple[Array, float]:
        """n after `duration_us` and the CPU seconds it took, without py-pde's compilation."""
        pde = self._pde
        fields = [pde.ScalarField(self._grid, n) for n in self._initial]
        state = pde.FieldCollection(fields)
        solver = pde.solvers.SolverBase.from_name("euler", self._equation, backend=self._backend)
        advance = solver.make_stepper(state.copy(), dt_us)
        with np.errstate(all="ignore"):
            advance(state.copy(), 0.0, 2 * dt_us)
            start = time.process_time()
            advance(state, 0.0, duration_us)
            seconds = time.process_time() - start
        return np.array(state.data), seconds


def _equation(external: Array) -> Any:
    """The equation as a py-pde class; its numba backend compiles the same array code."""
    import pde

    def rate_with(laplace: Any) -> Any:
        b, half_d, bulk = COUPLING, DIFFUSIVITY / 2, BULK

        def rate(data: Array, t: float = 0.0) -> Array:
            e0, e1, e2, e3 = data[0] - bulk, data[1] - bulk, data[2] - bulk, data[3] - bulk
            result = np.empty_like(data)
            for i in range(4):
                v = external[i] + b[i, 0] * e0 + b[i, 1] * e1 + b[i, 2] * e2 + b[i, 3] * e3
                n = data[i]
                result[i] = half_d[i] * (laplace(n * v) + n * laplace(v) + (2.0 - v) * laplace(n))
            return result

        return rate

    class LocallyCoupledFields(pde.PDEBase):  # type: ignore[misc]
        _rate = None

        def make_evolution_rate(self, state: Any, backend: Any) -> Any:
            return rate_with(
                state.grid.make_operator(
                    "laplace", bc="periodic", backend=backend, dtype=state.dtype
                )
            )

        def evolution_rate(self, state: Any, t: float = 0) -> Any:
            # The numpy backend has no operators of its own; py-pde's default ones are compiled.
            if self._rate is None:
                self._rate = self.make_evolution_rate(state, "numba")
            result = state.copy()
            result.data = self._rate(state.data)
            return result

    return LocallyCoupledFields()


def compare(backends: tuple[str, ...], duration_us: float, repeats: int) -> dict[str, Any]:
    """Both sides at their largest steps within BOUND, and how many times faster ours is."""
    exact = spectral_solution(duration_us)
    ours = None
    for dt_us in OUR_STEPS_US:
        our_solution(dt_us, dt_us)  # compiles
        found, _ = our_solution(duration_us, dt_us)
        error = relative_error(found, exact)
        if error <= BOUND:
            seconds = float(
                np.median([our_solution(duration_us, dt_us)[1] for _ in range(2 * repeats + 1)])
            )
            ours = _row("bilayer, double", duration_us, dt_us, error, seconds)
            break
    theirs = []
    for backend in backends:
        peer = PyPde(backend)
        for fraction in EULER_FRACTIONS:
            steps = round(duration_us / (fraction * EXPLICIT_LIMIT_US))
            dt_us = duration_us / steps
            found, seconds = peer.solution(duration_us, dt_us)
            error = relative_error(found, exact)
            if error <= BOUND:
                again = [peer.solution(duration_us, dt_us)[1] for _ in range(repeats)]
                seconds = float(np.median([seconds, *again]))
                theirs.append(_row(f"py-pde, {backend}", duration_us, dt_us, error, seconds))
                break
    if ours is None or not theirs:
        raise RuntimeError(f"no step of one side errs by at most {BOUND}")
    best = max(theirs, key=lambda row: row["simulated_us_per_cpu_s"])
    return {
        "duration_us": duration_us,
        "ours": ours,
        "py_pde": theirs,
        "best_py_pde": best["solver"],
        "speed_ratio": ours["simulated_us_per_cpu_s"] / best["simulated_us_per_cpu_s"],
    }


def _row(name: str, duration_us: float, dt_us: float, error: float, seconds: float) -> Any:
    return {
        "solver": name,
        "time_step_ns": 1e3 * dt_us,
        "relative_l2": error,
        "ms_per_step": 1e3 * seconds * dt_us / duration_us,
        "simulated_us_per_cpu_s": duration_us / seconds,
    }
