"""What a configuration file may say: sections, units, ranges (DESIGN 3.8).

Only the shape of the file and ranges of single values; what one value demands of another is checked
in `configuration.py`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from continuum.parameters import INNER

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_+]*$")]
PairName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_+]*-[A-Za-z][A-Za-z0-9_+]*$")]


class Section(BaseModel):
    """A mapping with exactly the keys listed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class MembraneSection(Section):
    """The periodic square."""

    side_nm: Positive
    cells: Annotated[int, Field(ge=4, multiple_of=4)]


class LipidSection(Section):
    """One lipid in one leaflet; `area_nm2` sets its share of the leaflet's repulsion."""

    density_per_nm2: Positive
    diffusivity_nm2_per_us: Positive
    area_nm2: Positive


class LipidsSection(Section):
    """The channels, in file order: inner ones first."""

    inner: Annotated[dict[Name, LipidSection], Field(min_length=1)]
    outer: dict[Name, LipidSection] = {}


class RepulsionSection(Section):
    """-A w_i w_j exp(-r²/2 range²) within a leaflet, A = incompressibility / (n_tot 2π range²)."""

    range_nm: Positive
    incompressibility: NotNegative


class SameLeafletSection(Section):
    """Gaussian couplings of lipids of one leaflet; both leaflets share them.

    Amplitudes are those of a Gaussian of `amplitudes_at_range_nm` (default: `range_nm`); another
    `range_nm` rescales them so that the integral of the coupling stays.
    """

    range_nm: Positive
    amplitudes_at_range_nm: Positive | None = None
    pairs: dict[PairName, float] = {}


class AcrossLeafletsSection(Section):
    """Gaussian couplings between leaflets: by groups of lipids, then by pairs inner-outer."""

    range_nm: Positive
    amplitudes_at_range_nm: Positive | None = None
    groups: dict[Name, list[Name]] = {}
    group_pairs: dict[PairName, float] = {}
    pairs: dict[PairName, float] = {}


class MatrixSection(Section):
    """A full symmetric matrix over all channels; `unit_mass` divides it by 2π range²."""

    range_nm: Positive
    unit_mass: bool = False
    matrix: list[list[float]]


class CorrelationSection(Section):
    """c_ij(r); contributions add up."""

    repulsion: RepulsionSection | None = None
    same_leaflet: SameLeafletSection | None = None
    across_leaflets: AcrossLeafletsSection | None = None
    matrices: list[MatrixSection] = []


class BeadStateSection(Section):
    """A state of a protein bead."""

    kind: Name
    diffusivity_nm2_per_us: Positive


class PairSection(Section):
    """(core/r)¹² + strength exp(-r/range), shifted to 0 at the cutoff."""

    core_length_nm: NotNegative
    strength_kt: float = 0.0
    range_nm: Positive = 1.0
    cutoff_nm: Positive


class ComplexSection(Section):
    """A primary and its ligand."""

    primary_state: Name
    ligand_state: Name
    bond_stiffness_kt_per_nm2: Positive
    rest_length_nm: NotNegative


class ProteinsSection(Section):
    """Proteins; rates are tables source -> target -> rate.

    Without `initial_populations` a run starts from the stationary state of the rates.
    """

    count: Annotated[int, Field(ge=0, lt=2**20)] = 0
    states: dict[Name, BeadStateSection] = {}
    pairs: dict[PairName, PairSection] = {}
    complexes: dict[Name, ComplexSection] = {}
    free_transitions_per_us: dict[Name, dict[Name, NotNegative]] = {}
    complex_transitions_per_us: dict[Name, dict[Name, NotNegative]] = {}
    binding_per_us: dict[Name, NotNegative] = {}
    unbinding_per_us: dict[Name, dict[Name, NotNegative]] = {}
    initial_populations: dict[Name, NotNegative] | None = None


class WellSection(Section):
    """A Gaussian well (or hill) of the protein-lipid potential at coupling 1 and strength 1."""

    amplitude_kt: float
    range_nm: Positive


class LeafletWellsSection(Section):
    """Wells by leaflet; a lipid not listed feels only the core, if its leaflet has one."""

    inner: dict[Name, WellSection] = {}
    outer: dict[Name, WellSection] = {}

    def of(self, leaflet: int) -> dict[str, WellSection]:
        return self.inner if leaflet == INNER else self.outer


class LeafletFactorsSection(Section):
    """Factors on the wells of single lipids."""

    inner: dict[Name, float] = {}
    outer: dict[Name, float] = {}

    def of(self, leaflet: int) -> dict[str, float]:
        return self.inner if leaflet == INNER else self.outer


class StateCouplingSection(Section):
    """How strongly one bead state feels the wells, its core, and exceptions for single lipids."""

    coupling: float
    core_kt: float = 0.0
    factors: LeafletFactorsSection = LeafletFactorsSection()


class PotentialsSection(Section):
    """u(r) = strength coupling amplitude exp(-r²/2 range²) + core, or a table file.

    `table` is a parameter file (`parameters/v000017.h5`); the analytic keys are then unused.
    """

    table: str | None = None
    strength: float = 1.0
    cutoff_nm: Positive = 11.0
    taper_from_nm: NotNegative = 8.0
    core_range_nm: Positive = 0.6
    core_leaflets: list[Literal["inner", "outer"]] = ["inner"]
    lipids: LeafletWellsSection = LeafletWellsSection()
    states: dict[Name, StateCouplingSection] = {}


class NoiseSection(Section):
    """Conserved flux noise; amplitude 0 switches it off."""

    amplitude: NotNegative = 0.3
    range_nm: Positive = 1.5


class NumericsSection(Section):
    """How the model is stepped."""

    time_step_us: Positive
    precision: Literal["single", "double"] = "single"
    protein_substep_us: Positive
    noise: NoiseSection = NoiseSection()


class OutputSection(Section):
    """What is written: patches at every snapshot, fields and checkpoints at every n-th."""

    snapshot_interval_us: Positive
    field_every: Annotated[int, Field(ge=1)] = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 1
    control_patches: Annotated[int, Field(ge=0, lt=2**19)] = 30
    control_distance_nm: NotNegative = 50.0
    compression: Annotated[int, Field(ge=0, le=9)] = 1


class Configuration(Section):
    """A whole configuration, every value present."""

    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    duration_us: Positive
    membrane: MembraneSection
    lipids: LipidsSection
    correlation: CorrelationSection = CorrelationSection()
    proteins: ProteinsSection = ProteinsSection()
    potentials: PotentialsSection = PotentialsSection()
    numerics: NumericsSection
    output: OutputSection
