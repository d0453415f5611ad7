"""Runs the continuum's benchmarks, holds them against their bars, prints a table and JSON.

Times are CPU times of one thread, medians of several repeats; speeds at full size are those of
2400 x 2400 cells of 14 species. `--quick` measures smaller grids with fewer repeats.
"""

from pathlib import Path

from benchmarks.cost_figure import draw_costs, measure_costs
from benchmarks.fine_reference import largest_step_ns, measure_errors
from benchmarks.output_cost import peak_memory, snapshot_cost
from benchmarks.py_pde_peer import compare
from benchmarks.rank_scaling import measure_scaling
from benchmarks.report import Bar, Result, arguments_of, conclude, measure, opened
from benchmarks.roofline import measure_roofline
from benchmarks.step_cost import (
    PAPER_US_PER_RANK_DAY,
    PARTS,
    measure_steps,
    membrane_model,
    noise_share,
    simulated_us_per_core_day,
)

ERROR_BOUND = 1e-3
CAVEAT = (
    "The ratio to the paper's 0.267 us per rank-day (960 us/day on 3,600 ranks) compares different"
    " machines, and invented interactions without snapshot cost against a production code."
)
OUT = Path(__file__).resolve().parent / "out"


class Benchmark:
    """The sections of one benchmark; later sections may use what earlier ones measured."""

    def __init__(self, *, quick: bool, out: Path) -> None:
        self.quick, self.out = quick, out
        self.cells = 600 if quick else 2400
        self.repeats = 3 if quick else 7
        self.result: Result = {}

    def published(self) -> Result:
        """Speed of the `published` preset by part."""
        return self._speed("published", None)

    def published_error(self) -> Result:
        """Error of the `published` preset at several steps."""
        if self.quick:
            return self._errors("published", (0.0025, 0.005, 0.01), ())
        return self._errors("published", (0.0025, 0.005, 0.01, 0.02), (0.0025, 0.005, 0.01, 0.02))

    def soft_error(self) -> Result:
        """Error of the `soft-prototype` preset at several steps."""
        if self.quick:
            return self._errors("soft-prototype", (0.01,), ())
        steps = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.036)
        return self._errors("soft-prototype", steps, (0.01, 0.02, 0.036))

    def soft(self) -> Result:
        """Speed of the `soft-prototype` preset at its largest step within the bound.

        At the preset's own step where `soft_error` was not measured before.
        """
        errors = self.result.get("soft_error")
        largest_ns = errors["largest_step_within_bound_ns"] if errors else 0.0
        return self._speed("soft-prototype", largest_ns / 1e3 or None)

    def noise(self) -> Result:
        """Share of a step that the noise takes."""
        return noise_share(membrane_model("published", self.cells), self.repeats)

    def roofline(self) -> Result:
        """Fraction of the roof that the `published` step reaches."""
        speed = self.result.get("published") or self.published()
        model = membrane_model("published", self.cells)
        return measure_roofline(model, speed["ns_per_cell_species"], self.quick)

    def py_pde(self) -> Result:
        """Our sweeps against py-pde."""
        if self.quick:
            return compare(("numpy",), 0.125, repeats=0)
        return compare(("numpy", "numba"), 0.25, repeats=3)

    def ranks(self) -> Result:
        """Efficiency of two ranks."""
        if self.quick:
            return measure_scaling(600, (600, 848), steps=4, repeats=1)
        return measure_scaling(2400, (1200, 1696), steps=5, repeats=5)

    def memory(self) -> Result:
        """Peak resident memory of one rank."""
        return peak_memory(self.cells, 2)

    def output(self) -> Result:
        """Cost of a snapshot with its patches."""
        speed = self.result.get("published") or self.published()
        return snapshot_cost(self.cells, speed["ms_per_step"])

    def figure(self) -> Result:
        """Cost against grid size, ranks and species, drawn."""
        if self.quick:
            costs = measure_costs((160, 320), (1, 2), 320, (4, 14), 160, 2)
        else:
            grids = (300, 600, 1200, 2400)
            costs = measure_costs(grids, (1, 2, 4), 1200, (4, 8, 14, 20, 28), 600, 5)
        picture = self.out / "continuum_cost.png"
        draw_costs(costs, picture)
        return {"picture": str(picture), **costs}

    def _speed(self, preset: str, time_step_us: float | None) -> Result:
        model = membrane_model(preset, self.cells, time_step_us=time_step_us)
        measured = measure_steps(model, self.repeats)
        speed = simulated_us_per_core_day(
            measured["ns_per_cell_species"], model.numerics.time_step_us
        )
        ratio = speed / PAPER_US_PER_RANK_DAY
        return {
            "simulated_us_per_core_day": speed,
            "ratio_to_paper_us_per_rank_day": ratio,
            "precision": model.numerics.precision,
            **measured,
        }

    def _errors(
        self, preset: str, steps_us: tuple[float, ...], brownian_us: tuple[float, ...]
    ) -> Result:
        errors = measure_errors(
            preset,
            cells=144 if self.quick else 196,  # 60 nm and 1 protein, 81.7 nm and 2
            duration_us=0.02 if self.quick else 0.18,
            steps_us=steps_us,
            brownian_steps_us=brownian_us,
            relaxation_us=0.1 if self.quick else 0.8,
            check_reference=not self.quick,
        )
        errors["largest_step_within_bound_ns"] = largest_step_ns(errors["smooth"], ERROR_BOUND)
        at_preset = [
            row for row in errors["smooth"] if row["time_step_ns"] == errors["preset_step_ns"]
        ]
        errors["error_at_preset_step"] = (
            at_preset[0]["relative_l2_of_density"] if at_preset else None
        )
        return errors


BARS = (
    Bar("published", "published: simulated us / core-day", "simulated_us_per_core_day", 150, 1000),
    Bar("published", "published: ratio to the paper", "ratio_to_paper_us_per_rank_day", 560),
    Bar(
        "published_error",
        "published: relative L2 at its step",
        "error_at_preset_step",
        1e-3,
        at_least=False,
    ),
    Bar(
        "soft",
        "soft-prototype: simulated us / core-day",
        "simulated_us_per_core_day",
        1750,
        4000,
    ),
    Bar("roofline", "fraction of the roof", "fraction_of_roof", 0.30, 0.45),
    Bar("py_pde", "speed against py-pde, float64", "speed_ratio", 50, 100),
    Bar("ranks", "strong CPU efficiency, 2 ranks", "strong_efficiency", 0.93, 0.97),
    Bar("ranks", "weak CPU efficiency, 2 ranks", "weak_efficiency", 0.95, 0.99),
    Bar("memory", "peak resident memory / GB", "peak_resident_gb", 1.2, at_least=False),
    Bar("noise", "noise share of a step", "noise_share_of_step", 0.35, 0.20, False),
    Bar("output", "snapshot and patches / steps, CPU", "cpu_share_of_steps", 0.02, None, False),
    Bar("output", "snapshot and patches / steps, wall", "wall_share_of_steps", 0.02, None, False),
)

SECTIONS = (
    "published",
    "published_error",
    "soft_error",
    "soft",
    "noise",
    "roofline",
    "py_pde",
    "ranks",
    "memory",
    "output",
    "figure",
)
QUICK_SECTIONS = tuple(name for name in SECTIONS if name not in ("soft_error", "figure"))


def print_details(result: Result) -> None:
    """Where the time of a step goes, and errors by step."""
    for section in ("published", "soft"):
        if section not in result:
            continue
        speed = result[section]
        parts = ", ".join(
            f"{part} {speed['parts_ns_per_cell_species'][part]:.2f}" for part in PARTS
        )
        print(
            f"{section}: {speed['ms_per_step']:.1f} ms/step"
            f" (least {speed['least_ms_per_step']:.1f}) at {speed['time_step_ns']:g} ns"
            f" on {speed['grid_cells']}^2; ns per cell and species:"
            f" {speed['ns_per_cell_species']:.2f} = {parts}"
        )
    for section in ("published_error", "soft_error"):
        if section in result:
            still = result[section]["error_of_standing_still"]
            print(
                f"{section}, a solver standing still: relative L2"
                f" {still['relative_l2_of_density']:.2e} of n,"
                f" {still['relative_l2_of_deviation']:.2e} of n - bulk"
            )
        for path in ("smooth", "brownian"):
            for row in result.get(section, {}).get(path, ()):
                print(
                    f"{section}, {path} proteins, {row['time_step_ns']:g} ns: relative L2"
                    f" {row['relative_l2_of_density']:.2e} of n,"
                    f" {row['relative_l2_of_deviation']:.2e} of n - bulk"
                )
    if "py_pde" in result:
        for row in (result["py_pde"]["ours"], *result["py_pde"]["py_pde"]):
            print(
                f"{row['solver']}: {row['time_step_ns']:.3g} ns/step, {row['ms_per_step']:.2f} ms,"
                f" error {row['relative_l2']:.1e}, {row['simulated_us_per_cpu_s']:.4g} us per CPU s"
            )
    if "published" in result:
        print(CAVEAT)


def main() -> None:
    """The command line."""
    quick = "smaller grids, fewer repeats, py-pde without numba, no figure"
    parser = arguments_of(__doc__, quick, SECTIONS)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figure")
    arguments = parser.parse_args()
    chosen = arguments.only or (QUICK_SECTIONS if arguments.quick else SECTIONS)
    benchmark = Benchmark(quick=arguments.quick, out=arguments.out)
    benchmark.result.update(opened(arguments.quick))
    measure(benchmark, [name for name in SECTIONS if name in chosen], benchmark.result)
    benchmark.result["caveat"] = CAVEAT
    print_details(benchmark.result)
    conclude(benchmark.result, BARS, as_json=arguments.json)
