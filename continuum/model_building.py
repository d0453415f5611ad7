"""From a configuration to a model, and what its parts demand of each other."""

from continuum.configuration_errors import refused
from continuum.configuration_schema import Configuration
from continuum.correlation import CUTOFF_RANGES, check_stable, cutoff_nm
from continuum.lipid_building import build_correlation, build_lipids
from continuum.parameters import Membrane, Model, Numerics, Output
from continuum.protein_building import build_potentials, build_proteins, stationary_populations

# The development set of membrane-physics 7.3 has 0.96 cells per range; at 0.9 a Gaussian is still
# down to 2 % where the grid folds wavenumbers back.
LEAST_CELLS_PER_RANGE = 0.9


def build_model(configuration: Configuration) -> Model:
    """The model of a configuration; ValueError names the key at fault."""
    lipids = build_lipids(configuration.lipids)
    proteins = build_proteins(configuration.proteins)
    numerics = configuration.numerics
    model = Model(
        membrane=Membrane(**configuration.membrane.model_dump()),
        lipids=lipids,
        correlation=build_correlation(configuration.correlation, lipids),
        proteins=proteins,
        potentials=build_potentials(configuration.potentials, lipids, proteins),
        numerics=Numerics(
            time_step_us=numerics.time_step_us,
            precision=numerics.precision,
            protein_substep_us=numerics.protein_substep_us,
            noise_amplitude=numerics.noise.amplitude,
            noise_range_nm=numerics.noise.range_nm,
        ),
        output=Output(**configuration.output.model_dump()),
        seed=configuration.seed,
        duration_us=configuration.duration_us,
    )
    _check_times(model)
    _check_resolution(configuration)
    _check_size(model)
    check_stable(lipids, model.correlation, model.membrane.spacing_nm)
    return model


def with_stationary_populations(configuration: Configuration) -> Configuration:
    """The configuration with initial populations filled in from the rates where none are given."""
    proteins = configuration.proteins
    if proteins.initial_populations is not None or not proteins.states:
        return configuration
    populations = stationary_populations(proteins)
    filled = proteins.model_copy(update={"initial_populations": populations})
    return configuration.model_copy(update={"proteins": filled})


def _check_times(model: Model) -> None:
    step_us = model.numerics.time_step_us
    _require_whole_multiple(
        "output.snapshot_interval_us",
        model.output.snapshot_interval_us,
        "numerics.time_step_us",
        step_us,
    )
    _require_whole_multiple(
        "numerics.time_step_us",
        step_us,
        "numerics.protein_substep_us",
        model.numerics.protein_substep_us,
    )


def _require_whole_multiple(path: str, value: float, unit_path: str, unit: float) -> None:
    count = value / unit
    if not (round(count) >= 1 and abs(count - round(count)) < 1e-6 * count):
        raise refused(path, value, f"must be a whole multiple of {unit_path} = {unit}")


def _check_resolution(configuration: Configuration) -> None:
    """The grid must resolve every Gaussian it convolves with (membrane-physics 7.3.4)."""
    correlation, noise = configuration.correlation, configuration.numerics.noise
    sections = [
        ("correlation.repulsion", correlation.repulsion),
        ("correlation.same_leaflet", correlation.same_leaflet),
        ("correlation.across_leaflets", correlation.across_leaflets),
        *((f"correlation.matrices.{i}", part) for i, part in enumerate(correlation.matrices)),
        ("numerics.noise", noise if noise.amplitude > 0 else None),
    ]
    membrane = configuration.membrane
    least_nm = LEAST_CELLS_PER_RANGE * membrane.side_nm / membrane.cells
    for path, section in sections:
        if section is not None and not section.range_nm >= least_nm:
            requirement = (
                f"must be >= {least_nm:.4g} nm, {LEAST_CELLS_PER_RANGE} grid spacings "
                f"(membrane.side_nm / membrane.cells)"
            )
            raise refused(f"{path}.range_nm", section.range_nm, requirement)


def _check_size(model: Model) -> None:
    """A particle must not meet the periodic image of what it already interacts with."""
    reaches = [("correlation", cutoff_nm(model.correlation))]
    if model.numerics.noise_amplitude > 0:
        reaches.append(("numerics.noise", CUTOFF_RANGES * model.numerics.noise_range_nm))
    if model.proteins.count > 0:
        reaches.append(("potentials", model.potentials.cutoff_nm))
        for pair in model.proteins.pairs:
            reaches.append((f"proteins.pairs.{'-'.join(pair.kinds)}", pair.cutoff_nm))
    path, longest_nm = max(reaches, key=lambda reach: reach[1])
    if not model.membrane.side_nm >= 2.0 * longest_nm:
        requirement = (
            f"must be >= {2.0 * longest_nm:g} nm, twice the reach of {path}: this is a membrane "
            f"smaller than the interaction range"
        )
        raise refused("membrane.side_nm", model.membrane.side_nm, requirement)
