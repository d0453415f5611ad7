"""Lipids and their direct correlations from a configuration (membrane-physics 7.1, 7.2)."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from continuum.configuration_errors import nearest, refused
from continuum.configuration_schema import (
    AcrossLeafletsSection,
    CorrelationSection,
    LipidSection,
    LipidsSection,
    RepulsionSection,
    SameLeafletSection,
)
from continuum.parameters import (
    INNER,
    LEAFLET_NAMES,
    OUTER,
    Correlation,
    GaussianCoupling,
    LeafletRepulsion,
    Lipids,
)

Array = NDArray[np.float64]


def build_lipids(sections: LipidsSection) -> Lipids:
    """The channels, inner ones first; w_i is the area over the leaflet's mole-weighted mean."""
    entries: list[tuple[str, int, LipidSection]] = [
        *((name, INNER, lipid) for name, lipid in sections.inner.items()),
        *((name, OUTER, lipid) for name, lipid in sections.outer.items()),
    ]
    leaflet = np.array([side for _, side, _ in entries], dtype=np.int8)
    density = np.array([lipid.density_per_nm2 for _, _, lipid in entries])
    area = np.array([lipid.area_nm2 for _, _, lipid in entries])
    weight = np.empty_like(area)
    for side in (INNER, OUTER):
        own = leaflet == side
        if own.any():
            weight[own] = area[own] / np.average(area[own], weights=density[own])
    return Lipids(
        names=tuple(name for name, _, _ in entries),
        leaflet=leaflet,
        bulk_density=density,
        diffusivity=np.array([lipid.diffusivity_nm2_per_us for _, _, lipid in entries]),
        area_weight=weight,
    )


def build_correlation(section: CorrelationSection, lipids: Lipids) -> Correlation:
    """c_ij with one coupling per distinct range; ValueError names the key at fault."""
    parts: list[tuple[float, Array]] = []
    if section.same_leaflet is not None:
        parts.append((section.same_leaflet.range_nm, _same_leaflet(section.same_leaflet, lipids)))
    if section.across_leaflets is not None:
        across = section.across_leaflets
        parts.append((across.range_nm, _across_leaflets(across, lipids)))
    for index, entry in enumerate(section.matrices):
        path = f"correlation.matrices.{index}.matrix"
        matrix = _square_matrix(path, entry.matrix, lipids.count)
        mass = 2.0 * np.pi * entry.range_nm**2 if entry.unit_mass else 1.0
        parts.append((entry.range_nm, matrix / mass))
    # Gaussians of one range cost one convolution, so they become one coupling.
    by_range: dict[float, Array] = {}
    for range_nm, matrix in parts:
        by_range[range_nm] = by_range.get(range_nm, 0.0) + matrix
    return Correlation(
        couplings=tuple(
            GaussianCoupling(range_nm=range_nm, matrix=matrix)
            for range_nm, matrix in by_range.items()
        ),
        repulsion=None if section.repulsion is None else _repulsion(section.repulsion, lipids),
    )


def _repulsion(section: RepulsionSection, lipids: Lipids) -> LeafletRepulsion:
    total = lipids.leaflet_density()
    occupied = np.where(total > 0, total, 1.0)
    integral = 2.0 * np.pi * section.range_nm**2 * occupied
    strength = np.where(total > 0, section.incompressibility / integral, 0.0)
    return LeafletRepulsion(range_nm=section.range_nm, strength=strength)


def _same_leaflet(section: SameLeafletSection, lipids: Lipids) -> Array:
    path = "correlation.same_leaflet.pairs"
    matrix = np.zeros((lipids.count, lipids.count))
    scale = _amplitude_scale(section)
    seen: set[frozenset[str]] = set()
    for first, second, amplitude in _pairs(path, section.pairs, seen, ordered=False):
        require_lipid(f"{path}.{first}-{second}", first, lipids, (INNER, OUTER))
        require_lipid(f"{path}.{first}-{second}", second, lipids, (INNER, OUTER))
        meetings = 0
        for side in (INNER, OUTER):
            for i in _indices(lipids, first, side):
                for j in _indices(lipids, second, side):
                    matrix[i, j] = matrix[j, i] = scale * amplitude
                    meetings += 1
        if meetings == 0:
            raise refused(
                f"{path}.{first}-{second}", amplitude, "must join two lipids of one leaflet"
            )
    return matrix


def _across_leaflets(section: AcrossLeafletsSection, lipids: Lipids) -> Array:
    path = "correlation.across_leaflets"
    matrix = np.zeros((lipids.count, lipids.count))
    scale = _amplitude_scale(section)
    for group, members in section.groups.items():
        for lipid in members:
            require_lipid(f"{path}.groups.{group}", lipid, lipids, (INNER, OUTER))
    seen: set[frozenset[str]] = set()
    pairs_path = f"{path}.group_pairs"
    for first, second, amplitude in _pairs(pairs_path, section.group_pairs, seen, ordered=False):
        for group in (first, second):
            if group not in section.groups:
                raise refused(
                    f"{pairs_path}.{first}-{second}",
                    group,
                    f"must name groups, which are {', '.join(section.groups)}",
                    nearest(group, list(section.groups)),
                )
        for one, other in ((first, second), (second, first)):
            for inner in section.groups[one]:
                for outer in section.groups[other]:
                    _couple_across(matrix, lipids, inner, outer, scale * amplitude)
    pairs_path = f"{path}.pairs"
    for inner, outer, amplitude in _pairs(pairs_path, section.pairs, set(), ordered=True):
        require_lipid(f"{pairs_path}.{inner}-{outer}", inner, lipids, (INNER,))
        require_lipid(f"{pairs_path}.{inner}-{outer}", outer, lipids, (OUTER,))
        _couple_across(matrix, lipids, inner, outer, scale * amplitude)
    return matrix


def _couple_across(matrix: Array, lipids: Lipids, inner: str, outer: str, amplitude: float) -> None:
    for i in _indices(lipids, inner, INNER):
        for j in _indices(lipids, outer, OUTER):
            matrix[i, j] = matrix[j, i] = amplitude


def _amplitude_scale(section: SameLeafletSection | AcrossLeafletsSection) -> float:
    if section.amplitudes_at_range_nm is None:
        return 1.0
    return (section.amplitudes_at_range_nm / section.range_nm) ** 2


def _pairs(
    path: str, pairs: dict[str, float], seen: set[frozenset[str]], *, ordered: bool
) -> Iterator[tuple[str, str, float]]:
    for name, amplitude in pairs.items():
        first, second = name.split("-")
        if not ordered and frozenset((first, second)) in seen:
            raise refused(
                f"{path}.{name}", amplitude, f"must be given once, {second}-{first} says it already"
            )
        seen.add(frozenset((first, second)))
        yield first, second, amplitude


def _indices(lipids: Lipids, name: str, side: int) -> list[int]:
    return [
        index
        for index in range(lipids.count)
        if lipids.names[index] == name and lipids.leaflet[index] == side
    ]


def require_lipid(path: str, name: str, lipids: Lipids, sides: Sequence[int]) -> None:
    """ConfigurationError unless one of the leaflets `sides` has a lipid of that name."""
    known = [n for n, side in zip(lipids.names, lipids.leaflet, strict=True) if side in sides]
    if name not in known:
        where = " or ".join(LEAFLET_NAMES[side] for side in sides)
        distinct = list(dict.fromkeys(known))
        raise refused(
            path,
            name,
            f"must name {where} lipids, which are {', '.join(distinct)}",
            nearest(name, distinct),
        )


def _square_matrix(path: str, rows: list[list[float]], count: int) -> Array:
    if len(rows) != count or any(len(row) != count for row in rows):
        shape = f"{len(rows)} rows of {sorted({len(row) for row in rows})} values"
        raise refused(path, shape, f"must be {count} rows of {count} values, one per lipid")
    matrix = np.array(rows, dtype=np.float64)
    if not np.array_equal(matrix, matrix.T):
        i, j = (int(index) for index in np.argwhere(matrix != matrix.T)[0])
        raise refused(
            path,
            f"[{i}][{j}] = {matrix[i, j]} and [{j}][{i}] = {matrix[j, i]}",
            "must be symmetric (action = reaction)",
        )
    return matrix
