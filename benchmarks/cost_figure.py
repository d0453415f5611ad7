"""The figure of what a step costs: against grid size, number of ranks and number of species."""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.rank_scaling import launch
from benchmarks.step_cost import PARTS, measure_steps, membrane_model, with_species


def measure_costs(
    grids: tuple[int, ...],
    ranks: tuple[int, ...],
    rank_cells: int,
    species: tuple[int, ...],
    species_cells: int,
    repeats: int,
) -> dict[str, Any]:
    """Numbers of the figure, of the `published` preset at its step with noise."""
    return {
        "by_grid": [measure_steps(membrane_model("published", n), repeats) for n in grids],
        "by_ranks": [launch(count, rank_cells, repeats) for count in ranks],
        "by_species": [
            measure_steps(with_species(membrane_model("published", species_cells), count), repeats)
            for count in species
        ],
    }


def draw_costs(costs: dict[str, Any], picture: Path) -> None:
    """Write the figure as PNG and its numbers as JSON beside it."""
    figure, (by_grid, by_ranks, by_species) = plt.subplots(
        1, 3, figsize=(12.5, 4.2), layout="constrained"
    )
    rows = costs["by_grid"]
    cells = [row["grid_cells"] for row in rows]
    by_grid.loglog(cells, [row["ms_per_step"] for row in rows], "k-o", label="whole step")
    for part in PARTS:
        by_grid.loglog(cells, [row["parts_ms"][part] for row in rows], "-o", ms=3, label=part)
    last = rows[-1]
    ideal = [last["ms_per_step"] * (n / last["grid_cells"]) ** 2 for n in cells]
    by_grid.loglog(cells, ideal, "k:", lw=1, label="proportional to cells")
    by_grid.set_xticks(cells, [str(n) for n in cells])
    by_grid.minorticks_off()
    by_grid.set(
        xlabel="grid cells along a side",
        ylabel="CPU time of a step / ms",
        title=f"Grid size ({last['species']} species, one rank)",
    )
    by_grid.legend(fontsize=8)

    rows = costs["by_ranks"]
    ranks = [row["ranks"] for row in rows]
    by_ranks.bar(ranks, [row["compute_ms"] for row in rows], width=0.5, label="computing")
    by_ranks.bar(
        ranks,
        [row["exchange_ms"] for row in rows],
        bottom=[row["compute_ms"] for row in rows],
        width=0.5,
        label="exchanging halos",
    )
    by_ranks.plot(
        ranks,
        [rows[0]["ms_per_step"] / count for count in ranks],
        "k:o",
        ms=3,
        label="one rank / ranks",
    )
    by_ranks.set_xticks(ranks)
    by_ranks.set(
        xlabel="MPI ranks",
        ylabel="CPU time of a step, mean of ranks / ms",
        title=f"Ranks ({rows[0]['grid_cells']} x {rows[0]['grid_cells']} cells)",
    )
    by_ranks.legend(fontsize=8)

    rows = costs["by_species"]
    count = [row["species"] for row in rows]
    by_species.plot(count, [row["ms_per_step"] for row in rows], "k-o", label="whole step")
    for part in PARTS:
        by_species.plot(count, [row["parts_ms"][part] for row in rows], "-o", ms=3, label=part)
    by_species.set_xticks(count)
    by_species.set_ylim(bottom=0)
    by_species.set(
        xlabel="lipid species",
        ylabel="CPU time of a step / ms",
        title=f"Species ({rows[0]['grid_cells']} x {rows[0]['grid_cells']} cells, one rank)",
    )
    by_species.legend(fontsize=8)
    for axes in (by_grid, by_ranks, by_species):
        axes.grid(alpha=0.3)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)
    plt.close(figure)
    picture.with_suffix(".json").write_text(json.dumps(costs, indent=1) + "\n")
