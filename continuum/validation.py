"""What a configuration means before it is run: step limits, stability, ranks, memory."""

import math

from continuum.correlation import explicit_step_limit_us, least_stable, mode_times_us
from continuum.decomposition import cut_into_slabs, fitting_rank_counts
from continuum.lipid_interactions import coarsening_factor
from continuum.lipid_step import rows_of_thinnest_slab, storage
from continuum.parameters import Model
from continuum.step_stability import check_step, stable_step_us

PATCH_NM = 30.0


def check_model(model: Model, ranks: int) -> None:
    """Raise ValueError where the step is unstable or the ranks do not fit the grid."""
    check_step(
        model.lipids,
        model.correlation,
        model.membrane.spacing_nm,
        model.numerics.time_step_us,
    )
    cut_into_slabs(model.membrane.cells, ranks, rows_of_thinnest_slab(model))


def describe_model(model: Model, ranks: int) -> str:
    """A few lines for a person; raises as `check_model` does."""
    check_model(model, ranks)
    lipids, correlation, membrane = model.lipids, model.correlation, model.membrane
    h = membrane.spacing_nm
    eigenvalue, wavenumber = least_stable(lipids, correlation, h)
    limit_us = stable_step_us(lipids, correlation, h)
    times = mode_times_us(lipids, correlation, 2 * math.pi / PATCH_NM)
    bytes_per_number = storage(model.numerics.precision)[1]().itemsize
    factor = coarsening_factor(correlation, h)
    numbers = membrane.cells**2 * (lipids.count * (1 + 3 / factor**2) + 14)
    largest = fitting_rank_counts(membrane.cells, rows_of_thinnest_slab(model))[-1]
    limit = "none" if math.isinf(limit_us) else f"{limit_us:.4g} µs"
    return "\n".join(
        [
            f"membrane        {membrane.side_nm:g} nm, {membrane.cells} x {membrane.cells} cells"
            f" of {h:.4g} nm, {lipids.count} lipid species, {model.proteins.count} proteins",
            f"duration        {model.duration_us:g} µs in steps of"
            f" {model.numerics.time_step_us:g} µs",
            f"stability       smallest eigenvalue of M(k) {eigenvalue:.3f} at k ="
            f" {wavenumber:.3g} nm⁻¹ (above 0.1 required)",
            f"step limit      {limit} (an explicit scheme:"
            f" {explicit_step_limit_us(lipids, correlation, h):.3g} µs)",
            f"mode times      {times.min():.3g} to {times.max():.3g} µs at a wavelength of"
            f" {PATCH_NM:g} nm",
            f"ranks           {ranks} of at most {largest}",
            f"memory          about {numbers * bytes_per_number / 1e9:.2f} GB in all",
        ]
    )
