"""What a membrane model is: frozen values in nm, µs and kT (membrane-physics sections 1 and 7).

Built by `configuration.py` from YAML, or by hand in a script. Arrays belong to the value that holds
them: nobody writes into them after construction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INNER, OUTER = 0, 1
LEAFLET_NAMES = ("inner", "outer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membrane:
    """A periodic square of `cells` x `cells` grid cells."""

    side_nm: float
    cells: int

    def __post_init__(self) -> None:
        _require_positive("side_nm", self.side_nm)
        if self.cells < 4 or self.cells % 4:
            raise ValueError(f"cells must be a positive multiple of 4, got {self.cells}")

    @property
    def spacing_nm(self) -> float:
        return self.side_nm / self.cells


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lipids:
    """S lipid species; a species is one lipid in one leaflet."""

    names: tuple[str, ...]
    leaflet: NDArray[np.int8]  # (S,)     0 inner, 1 outer
    bulk_density: NDArray[np.float64]  # (S,)     nm⁻²
    diffusivity: NDArray[np.float64]  # (S,)     nm² µs⁻¹
    area_weight: NDArray[np.float64]  # (S,)     w_i of membrane-physics 7.2, 1 on average

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0:
            raise ValueError("lipids must hold at least one species, got none")
        _require_array("leaflet", self.leaflet, np.int8, (count,))
        if not np.isin(self.leaflet, (INNER, OUTER)).all():
            raise ValueError(f"leaflet must be 0 or 1, got {self.leaflet.tolist()}")
        for name in ("bulk_density", "diffusivity", "area_weight"):
            values = getattr(self, name)
            _require_array(name, values, np.float64, (count,))
            if not (values > 0).all():
                worst = int(np.argmin(values))
                raise ValueError(f"{name} must be > 0, got {values[worst]} for {self.names[worst]}")
        if len(set(self.labels)) != count:
            raise ValueError(f"lipids of one leaflet must differ in name, got {self.labels}")

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names that are unique across leaflets, such as "inner POPC"."""
        return tuple(
            f"{LEAFLET_NAMES[leaflet]} {name}"
            for name, leaflet in zip(self.names, self.leaflet.tolist(), strict=True)
        )

    def leaflet_density(self) -> NDArray[np.float64]:
        """Total bulk density of the two leaflets, (2,) in nm⁻²."""
        totals = np.zeros(2)
        np.add.at(totals, self.leaflet, self.bulk_density)
        return totals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussianCoupling:
    """c_ij(r) += matrix_ij exp(-r² / 2 range²)."""

    range_nm: float
    matrix: NDArray[np.float64]  # (S, S)   symmetric

    def __post_init__(self) -> None:
        _require_positive("range_nm", self.range_nm)
        count = len(self.matrix)
        _require_array("matrix", self.matrix, np.float64, (count, count))
        if not np.array_equal(self.matrix, self.matrix.T):
            raise ValueError("the matrix of a coupling must be symmetric (action = reaction)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeafletRepulsion:
    """c_ij(r) -= strength[leaflet] w_i w_j exp(-r² / 2 range²) within a leaflet."""

    range_nm: float
    strength: NDArray[np.float64]  # (2,)     inner, outer

    def __post_init__(self) -> None:
        _require_positive("range_nm", self.range_nm)
        _require_array("strength", self.strength, np.float64, (2,))
        if not (self.strength >= 0).all():
            raise ValueError(f"strength must be >= 0, got {self.strength.tolist()}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correlation:
    """The direct correlation functions c_ij(r): Gaussians and a shared repulsion per leaflet."""

    couplings: tuple[GaussianCoupling, ...]
    repulsion: LeafletRepulsion | None

    @property
    def ranges_nm(self) -> tuple[float, ...]:
        """Standard deviations of every Gaussian in c_ij."""
        ranges = [coupling.range_nm for coupling in self.couplings]
        if self.repulsion is not None:
            ranges.append(self.repulsion.range_nm)
        return tuple(ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeadState:
    """One state a protein bead can be in; `kind` (such as "RAS") decides its pair interactions."""

    name: str
    kind: str
    diffusivity_nm2_per_us: float

    def __post_init__(self) -> None:
        _require_positive(f"diffusivity_nm2_per_us of {self.name}", self.diffusivity_nm2_per_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairInteraction:
    """w(r) = (core / r)¹² + strength exp(-r / range), shifted to 0 at the cutoff, in kT."""

    kinds: tuple[str, str]
    core_length_nm: float
    strength_kt: float
    range_nm: float
    cutoff_nm: float

    def __post_init__(self) -> None:
        pair = "-".join(self.kinds)
        _require_not_negative(f"core_length_nm of {pair}", self.core_length_nm)
        _require_finite(f"strength_kt of {pair}", self.strength_kt)
        _require_positive(f"range_nm of {pair}", self.range_nm)
        _require_positive(f"cutoff_nm of {pair}", self.cutoff_nm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complex:
    """A primary and a ligand held by ½ stiffness (r - rest)² kT."""

    name: str
    primary_state: str
    ligand_state: str
    bond_stiffness_kt_per_nm2: float
    rest_length_nm: float

    def __post_init__(self) -> None:
        stiffness = self.bond_stiffness_kt_per_nm2
        _require_positive(f"bond_stiffness_kt_per_nm2 of {self.name}", stiffness)
        _require_not_negative(f"rest_length_nm of {self.name}", self.rest_length_nm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A memoryless jump between two free states, or between two complexes."""

    source: str
    target: str
    rate_per_us: float

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(f"a transition must change the state, got {self.source} twice")
        _require_not_negative(f"rate_per_us of {self.source} to {self.target}", self.rate_per_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A free primary, in any free state of the kind of the complex's primary, forms `complex`."""

    complex: str
    rate_per_us: float

    def __post_init__(self) -> None:
        _require_not_negative(f"rate_per_us of binding to {self.complex}", self.rate_per_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbinding:
    """`complex` loses its ligand and leaves the primary in `target_state`."""

    complex: str
    target_state: str
    rate_per_us: float

    def __post_init__(self) -> None:
        _require_not_negative(f"rate_per_us of unbinding {self.complex}", self.rate_per_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proteins:
    """`count` primary proteins, each with at most one ligand bead.

    A state is free (used by no complex), or the primary, or the ligand of complexes; never two.
    """

    count: int
    states: tuple[BeadState, ...] = ()
    pairs: tuple[PairInteraction, ...] = ()
    complexes: tuple[Complex, ...] = ()
    free_transitions: tuple[Transition, ...] = ()
    complex_transitions: tuple[Transition, ...] = ()
    binding: tuple[Binding, ...] = ()
    unbinding: tuple[Unbinding, ...] = ()
    # (name of a free state or of a complex, fraction of the primaries); fractions sum to 1
    initial_populations: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count of proteins must be >= 0, got {self.count}")
        if self.count > 0 and not self.free_states and not self.complexes:
            raise ValueError("proteins need at least one state when count > 0")
        _require_distinct("protein states", [state.name for state in self.states])
        _require_distinct("complexes", [complex_.name for complex_ in self.complexes])
        self._check_complexes()
        self._check_pairs()
        self._check_changes()
        self._check_populations()

    @property
    def free_states(self) -> tuple[str, ...]:
        """Names of the states of primaries without a ligand, in the order of `states`."""
        in_complex = {c.primary_state for c in self.complexes} | {
            c.ligand_state for c in self.complexes
        }
        return tuple(state.name for state in self.states if state.name not in in_complex)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of bead, in order of first appearance in `states`."""
        return tuple(dict.fromkeys(state.kind for state in self.states))

    def index_of(self, state_name: str) -> int:
        """Index of a state in `states`; ValueError if there is none of that name."""
        for index, state in enumerate(self.states):
            if state.name == state_name:
                return index
        raise ValueError(
            f"no protein state is called {state_name!r}; there are "
            f"{', '.join(state.name for state in self.states)}"
        )

    def complex_index_of(self, complex_name: str) -> int:
        """Index of a complex in `complexes`; ValueError if there is none of that name."""
        for index, complex_ in enumerate(self.complexes):
            if complex_.name == complex_name:
                return index
        raise ValueError(
            f"no complex is called {complex_name!r}; there are "
            f"{', '.join(complex_.name for complex_ in self.complexes) or 'none'}"
        )

    def kind_of(self, state_name: str) -> str:
        return self.states[self.index_of(state_name)].kind

    def pair_between(self, kind: str, other: str) -> PairInteraction | None:
        """The interaction of two kinds, in either order; None where they do not interact."""
        for pair in self.pairs:
            if pair.kinds in ((kind, other), (other, kind)):
                return pair
        return None

    def binding_sources(self, binding: Binding) -> tuple[str, ...]:
        """Free states from which `binding` can happen."""
        complex_ = self.complexes[self.complex_index_of(binding.complex)]
        kind = self.kind_of(complex_.primary_state)
        return tuple(name for name in self.free_states if self.kind_of(name) == kind)

    def _check_complexes(self) -> None:
        for complex_ in self.complexes:
            self.index_of(complex_.primary_state)
            self.index_of(complex_.ligand_state)
        primaries = {complex_.primary_state for complex_ in self.complexes}
        ligands = {complex_.ligand_state for complex_ in self.complexes}
        if both := primaries & ligands:
            raise ValueError(f"a state must be primary or ligand, got both for {sorted(both)[0]}")
        if clash := {c.name for c in self.complexes} & set(self.free_states):
            raise ValueError(f"a complex and a free state share the name {sorted(clash)[0]}")

    def _check_pairs(self) -> None:
        seen: set[frozenset[str]] = set()
        for pair in self.pairs:
            for kind in pair.kinds:
                if kind not in self.kinds:
                    raise ValueError(
                        f"a pair names the kind {kind!r}; kinds are {', '.join(self.kinds)}"
                    )
            if frozenset(pair.kinds) in seen:
                raise ValueError(f"the pair {'-'.join(pair.kinds)} is given twice")
            seen.add(frozenset(pair.kinds))

    def _check_changes(self) -> None:
        free, complexes = self.free_states, tuple(c.name for c in self.complexes)
        for transition in self.free_transitions:
            _require_one_of("free transition", transition.source, free)
            _require_one_of("free transition", transition.target, free)
        for transition in self.complex_transitions:
            _require_one_of("complex transition", transition.source, complexes)
            _require_one_of("complex transition", transition.target, complexes)
        for binding in self.binding:
            _require_one_of("binding", binding.complex, complexes)
        for unbinding in self.unbinding:
            _require_one_of("unbinding", unbinding.complex, complexes)
            _require_one_of("unbinding", unbinding.target_state, free)

    def _check_populations(self) -> None:
        names = [name for name, _ in self.initial_populations]
        _require_distinct("initial populations", names)
        allowed = self.free_states + tuple(complex_.name for complex_ in self.complexes)
        for name, fraction in self.initial_populations:
            _require_one_of("initial population", name, allowed)
            _require_not_negative(f"initial population of {name}", fraction)
        total = math.fsum(fraction for _, fraction in self.initial_populations)
        if self.count > 0 and not abs(total - 1) < 1e-9:
            raise ValueError(f"initial populations must sum to 1, got {total}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RadialPotentials:
    """Protein-lipid potentials u(r) of each bead state on each lipid; zero from the cutoff on."""

    u: NDArray[np.float64]  # (states, S, n_r)   kT at r = 0, dr, 2 dr, ...
    dr_nm: float
    cutoff_nm: float

    def __post_init__(self) -> None:
        _require_positive("dr_nm", self.dr_nm)
        _require_positive("cutoff_nm", self.cutoff_nm)
        if self.u.ndim != 3:
            raise ValueError(f"u must be (states, lipids, radii), got shape {self.u.shape}")
        _require_array("u", self.u, np.float64, self.u.shape)
        last_nm = (self.u.shape[2] - 1) * self.dr_nm
        if not last_nm >= self.cutoff_nm * (1 - 1e-9):
            raise ValueError(
                f"u must reach the cutoff {self.cutoff_nm} nm, its table ends at {last_nm} nm"
            )
        if self.u.size and np.any(self.u[:, :, self.radii_nm >= self.cutoff_nm * (1 - 1e-9)]):
            raise ValueError(f"u must be 0 from the cutoff {self.cutoff_nm} nm on")

    @property
    def radii_nm(self) -> NDArray[np.float64]:
        return np.arange(self.u.shape[2], dtype=np.float64) * self.dr_nm


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How the model is stepped; a noise amplitude of 0 switches the lipid noise off."""

    time_step_us: float
    precision: str  # "single" or "double"
    protein_substep_us: float
    noise_amplitude: float
    noise_range_nm: float

    def __post_init__(self) -> None:
        _require_positive("time_step_us", self.time_step_us)
        _require_positive("protein_substep_us", self.protein_substep_us)
        _require_not_negative("noise_amplitude", self.noise_amplitude)
        _require_positive("noise_range_nm", self.noise_range_nm)
        _require_one_of("precision", self.precision, ("single", "double"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is written: patches at every snapshot, fields and checkpoints at every n-th."""

    snapshot_interval_us: float
    field_every: int = 1
    checkpoint_every: int = 1
    control_patches: int = 30
    control_distance_nm: float = 50.0
    compression: int = 0  # gzip level of HDF5 datasets, 0 to 9

    def __post_init__(self) -> None:
        _require_positive("snapshot_interval_us", self.snapshot_interval_us)
        _require_positive("field_every", self.field_every)
        _require_positive("checkpoint_every", self.checkpoint_every)
        _require_not_negative("control_patches", self.control_patches)
        _require_not_negative("control_distance_nm", self.control_distance_nm)
        if not 0 <= self.compression <= 9:
            raise ValueError(f"compression must be 0 to 9, got {self.compression}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A complete membrane model, ready to run."""

    membrane: Membrane
    lipids: Lipids
    correlation: Correlation
    proteins: Proteins
    potentials: RadialPotentials
    numerics: Numerics
    output: Output
    seed: int
    duration_us: float

    def __post_init__(self) -> None:
        _require_positive("duration_us", self.duration_us)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be in [0, 2^64), got {self.seed}")
        for coupling in self.correlation.couplings:
            _require_array(
                "matrix", coupling.matrix, np.float64, (self.lipids.count, self.lipids.count)
            )
        expected = (len(self.proteins.states), self.lipids.count)
        if self.potentials.u.shape[:2] != expected:
            raise ValueError(
                f"potentials must be of (states, lipids) = {expected}, "
                f"got {self.potentials.u.shape[:2]}"
            )


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def _require_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be > 0, got {value}")


def _require_not_negative(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be >= 0, got {value}")


def _require_one_of(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed) or '(none)'}; got {value!r}")


def _require_distinct(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} must differ in name, {name!r} is given twice")


def _require_array(name: str, values: object, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
        got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values)
        raise ValueError(f"{name} must be an array of {dtype.__name__} {shape}, got {got}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite")
