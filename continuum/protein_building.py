"""Proteins and protein-lipid potentials from a configuration (membrane-physics 7.5, 7.6)."""

from pathlib import Path

import numpy as np

from continuum.configuration_errors import ConfigurationError, nearest, refused
from continuum.configuration_schema import PotentialsSection, ProteinsSection
from continuum.lipid_building import require_lipid
from continuum.parameter_versions import read_parameter_version
from continuum.parameters import (
    INNER,
    LEAFLET_NAMES,
    OUTER,
    BeadState,
    Binding,
    Complex,
    Lipids,
    PairInteraction,
    Proteins,
    RadialPotentials,
    Transition,
    Unbinding,
)
from continuum.radial_potentials import gaussian_potentials


def build_proteins(section: ProteinsSection) -> Proteins:
    """Proteins of a configuration; ConfigurationError where names do not fit together."""
    try:
        return _proteins(section)
    except ValueError as error:
        raise ConfigurationError(f"proteins: {error}") from error


def _proteins(section: ProteinsSection) -> Proteins:
    return Proteins(
        count=section.count,
        states=tuple(
            BeadState(name=name, **state.model_dump()) for name, state in section.states.items()
        ),
        pairs=tuple(
            PairInteraction(kinds=_kinds(name), **pair.model_dump())
            for name, pair in section.pairs.items()
        ),
        complexes=tuple(
            Complex(name=name, **complex_.model_dump())
            for name, complex_ in section.complexes.items()
        ),
        free_transitions=_transitions(section.free_transitions_per_us),
        complex_transitions=_transitions(section.complex_transitions_per_us),
        binding=tuple(
            Binding(complex=name, rate_per_us=rate) for name, rate in section.binding_per_us.items()
        ),
        unbinding=tuple(
            Unbinding(complex=name, target_state=target, rate_per_us=rate)
            for name, targets in section.unbinding_per_us.items()
            for target, rate in targets.items()
        ),
        initial_populations=tuple((section.initial_populations or {}).items()),
    )


def _kinds(pair: str) -> tuple[str, str]:
    first, second = pair.split("-")
    return first, second


def _transitions(rates: dict[str, dict[str, float]]) -> tuple[Transition, ...]:
    return tuple(
        Transition(source=source, target=target, rate_per_us=rate)
        for source, targets in rates.items()
        for target, rate in targets.items()
    )


def stationary_populations(section: ProteinsSection) -> dict[str, float]:
    """Null vector of the generator of all jumps, as fractions of the primaries."""
    free = section.model_copy(update={"count": 0, "initial_populations": {}})
    proteins = build_proteins(free)
    names = proteins.free_states + tuple(complex_.name for complex_ in proteins.complexes)
    jumps = [
        (jump.source, jump.target, jump.rate_per_us)
        for jump in proteins.free_transitions + proteins.complex_transitions
    ]
    jumps += [(u.complex, u.target_state, u.rate_per_us) for u in proteins.unbinding]
    for binding in proteins.binding:
        for source in proteins.binding_sources(binding):
            jumps.append((source, binding.complex, binding.rate_per_us))
    generator = np.zeros((len(names), len(names)))
    for source, target, rate in jumps:
        generator[names.index(target), names.index(source)] += rate
        generator[names.index(source), names.index(source)] -= rate
    _, singular, right = np.linalg.svd(generator)
    if len(names) > 1 and not singular[-2] > 1e-9 * max(singular[0], 1e-300):
        raise refused(
            "proteins.initial_populations",
            None,
            "must be given, since the rates leave more than one stationary state",
        )
    fractions = right[-1] / right[-1].sum()
    return dict(zip(names, np.clip(fractions, 0.0, None).tolist(), strict=True))


def build_potentials(
    section: PotentialsSection, lipids: Lipids, proteins: Proteins
) -> RadialPotentials:
    """The tables u(r), analytic or from a file; ValueError names the key at fault."""
    names = [state.name for state in proteins.states]
    if section.table is not None:
        return _from_table(Path(section.table), lipids, names)
    _check_names(section, lipids, names)
    amplitude = np.zeros((len(names), lipids.count))
    core = np.zeros((len(names), lipids.count))
    range_nm = np.ones(lipids.count)
    for i, (lipid, side) in enumerate(zip(lipids.names, lipids.leaflet.tolist(), strict=True)):
        leaflet = LEAFLET_NAMES[side]
        well = section.lipids.of(side).get(lipid)
        for s, name in enumerate(names):
            state = section.states[name]
            if leaflet in section.core_leaflets:
                core[s, i] = state.core_kt
            if well is not None:
                factor = state.factors.of(side).get(lipid, 1.0)
                amplitude[s, i] = section.strength * state.coupling * factor * well.amplitude_kt
                range_nm[i] = well.range_nm
    return gaussian_potentials(
        amplitude_kt=amplitude,
        range_nm=range_nm,
        core_kt=core,
        core_range_nm=section.core_range_nm,
        taper_from_nm=section.taper_from_nm,
        cutoff_nm=section.cutoff_nm,
    )


def _check_names(section: PotentialsSection, lipids: Lipids, names: list[str]) -> None:
    for name in section.states:
        if name not in names:
            requirement = f"must name protein states, which are {', '.join(names)}"
            raise refused("potentials.states", name, requirement, nearest(name, names))
    if missing := [name for name in names if name not in section.states]:
        raise refused(
            "potentials.states", missing[0], "must hold every protein state, it lacks one"
        )
    for side in (INNER, OUTER):
        for lipid in section.lipids.of(side):
            require_lipid(f"potentials.lipids.{LEAFLET_NAMES[side]}", lipid, lipids, (side,))
        for name, state in section.states.items():
            for lipid in state.factors.of(side):
                path = f"potentials.states.{name}.factors.{LEAFLET_NAMES[side]}"
                require_lipid(path, lipid, lipids, (side,))
    if not section.taper_from_nm < section.cutoff_nm:
        requirement = f"must be < potentials.cutoff_nm = {section.cutoff_nm}"
        raise refused("potentials.taper_from_nm", section.taper_from_nm, requirement)


def _from_table(path: Path, lipids: Lipids, names: list[str]) -> RadialPotentials:
    version = read_parameter_version(path)
    if list(version.state_names) != names:
        requirement = f"must be a table of the protein states {', '.join(names)}"
        raise refused("potentials.table", list(version.state_names), requirement)
    if version.lipid_labels != lipids.labels:
        requirement = f"must be a table of the lipids {', '.join(lipids.labels)}"
        raise refused("potentials.table", list(version.lipid_labels), requirement)
    return version.potentials
