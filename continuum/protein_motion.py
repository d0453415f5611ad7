"""Proteins as overdamped Langevin beads: dR = D F dt + sqrt(2 D dt) ξ (physics 1.2, 7.5).

F = lipid force - grad [Σ_pairs (a/r)¹² + A exp(-r/λ) - shift + Σ_bonds ½ k (r - r0)²]. Every sum
runs in the order of bead numbers: a bead feels the same force to the bit whoever computes it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import inlined, kernel
from continuum.parameters import Proteins
from continuum.philox import PROTEIN_KICK, normal_pair, philox

Float = NDArray[np.float64]

# One substep drifts a bead by at most this far. A force that wants more (25 kT/nm at 1 ns) is met
# only deep inside a core, where r < a and the Boltzmann weight is below e^-5, or where a new ligand
# lands in a neighbour. The direction is kept, so such a bead leaves the core at 0.5 nm a substep
# instead of being thrown across the membrane; the forces of equilibrium are left alone.
LARGEST_DRIFT_NM = 0.5
# Inside this fraction of the core length the pair energy is taken as constant, at 10^7 kT.
_HARD_FRACTION = 0.25
_MOST_CELLS = 64


class ProteinForceField(NamedTuple):
    """The pair and bond terms as flat arrays, indexed by bead state, kind and pair of states."""

    diffusivity: Float  # (states,) nm²/µs
    kind: NDArray[np.int64]  # (states,)
    core: Float  # (kinds, kinds) nm
    strength: Float  # (kinds, kinds) kT
    range: Float  # (kinds, kinds) nm
    cutoff: Float  # (kinds, kinds) nm, 0 where two kinds do not interact
    shift: Float  # (kinds, kinds) kT, subtracted
    bond_stiffness: Float  # (primary state, ligand state) kT/nm², 0 where there is no complex
    bond_length: Float  # (primary state, ligand state) nm


def protein_force_field(proteins: Proteins) -> ProteinForceField:
    """Flatten the parameters; the membrane must be at least twice as wide as every cutoff."""
    states, kinds = len(proteins.states), len(proteins.kinds)
    core, strength, cutoff, shift = (np.zeros((kinds, kinds)) for _ in range(4))
    decay = np.ones((kinds, kinds))
    for pair in proteins.pairs:
        i, j = (proteins.kinds.index(kind) for kind in pair.kinds)
        at_cutoff = (pair.core_length_nm / pair.cutoff_nm) ** 12
        at_cutoff += pair.strength_kt * math.exp(-pair.cutoff_nm / pair.range_nm)
        for a, b in ((i, j), (j, i)):
            core[a, b], strength[a, b] = pair.core_length_nm, pair.strength_kt
            decay[a, b], cutoff[a, b], shift[a, b] = pair.range_nm, pair.cutoff_nm, at_cutoff
    stiffness, length = np.zeros((states, states)), np.zeros((states, states))
    for bond in proteins.complexes:
        ends = proteins.index_of(bond.primary_state), proteins.index_of(bond.ligand_state)
        stiffness[ends] = bond.bond_stiffness_kt_per_nm2
        length[ends] = bond.rest_length_nm
    return ProteinForceField(
        diffusivity=np.array([state.diffusivity_nm2_per_us for state in proteins.states]),
        kind=np.array([proteins.kinds.index(s.kind) for s in proteins.states], dtype=np.int64),
        core=core,
        strength=strength,
        range=decay,
        cutoff=cutoff,
        shift=shift,
        bond_stiffness=stiffness,
        bond_length=length,
    )


@inlined
def _nearest(d, side):  # type: ignore[no-untyped-def]
    """The nearest image of a difference of two positions in [0, side)."""
    if d > 0.5 * side:
        return d - side
    return d + side if d < -0.5 * side else d


@inlined
def _pair(dx, dy, a, b, field):  # type: ignore[no-untyped-def]
    """w of two kinds at distance (dx, dy), and -(dw/dr)/r, which times (dx, dy) is the force."""
    core = field.core[a, b]
    hard = _HARD_FRACTION * core
    r = math.sqrt(dx * dx + dy * dy)
    near = max(r, hard)
    if near <= 0.0:
        return field.strength[a, b] - field.shift[a, b], 0.0
    sixth = (core / near) ** 6
    tail = field.strength[a, b] * math.exp(-near / field.range[a, b])
    energy = sixth * sixth + tail - field.shift[a, b]
    return energy, (12.0 * sixth * sixth / near + tail / field.range[a, b]) / near


@kernel
def cells_of_beads(
    position: Float, state: NDArray[np.int8], side_nm: float, reach_nm: float
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Bin present beads into n x n cells no narrower than the reach (n = 1 if not worth it).

    Returns n, the start of each cell and the beads cell by cell, ascending within a cell.
    """
    n = 1
    if reach_nm > 0.0:
        n = int(min(side_nm / reach_nm, float(_MOST_CELLS)))
    if n < 4:
        n = 1
    cell = np.empty(len(state), np.int64)
    start = np.zeros(n * n + 1, np.int64)
    for p in range(len(state)):
        cell[p] = -1
        if state[p] >= 0:
            ix = min(int(position[p, 0] / side_nm * n), n - 1)
            iy = min(int(position[p, 1] / side_nm * n), n - 1)
            cell[p] = iy * n + ix
            start[cell[p] + 1] += 1
    for c in range(n * n):
        start[c + 1] += start[c]
    bead = np.empty(start[n * n], np.int64)
    filled = start[: n * n].copy()
    for p in range(len(state)):
        if cell[p] >= 0:
            bead[filled[cell[p]]] = p
            filled[cell[p]] += 1
    return n, start, bead


@kernel
def _neighbours(
    p: int,
    position: Float,
    side_nm: float,
    n: int,
    start: NDArray[np.int64],
    bead: NDArray[np.int64],
    found: NDArray[np.int64],
) -> int:
    """Beads in the 3 x 3 cells around bead p, ascending, into `found`; returns how many."""
    count = 0
    spread = 0 if n == 1 else 1
    cx = min(int(position[p, 0] / side_nm * n), n - 1)
    cy = min(int(position[p, 1] / side_nm * n), n - 1)
    for sy in range(-spread, spread + 1):
        row = cy + sy
        row += n if row < 0 else (-n if row >= n else 0)
        for sx in range(-spread, spread + 1):
            column = cx + sx
            column += n if column < 0 else (-n if column >= n else 0)
            c = row * n + column
            for entry in range(start[c], start[c + 1]):
                if bead[entry] == p:
                    continue
                k = count
                while k > 0 and found[k - 1] > bead[entry]:
                    found[k] = found[k - 1]
                    k -= 1
                found[k] = bead[entry]
                count += 1
    return count


@kernel
def pair_and_bond_force(
    position: Float,  # (2P, 2) nm, all beads
    state: NDArray[np.int8],  # (2P,) -1 absent
    owned: NDArray[np.int64],  # primaries whose force, and whose ligand's, is wanted
    field: ProteinForceField,
    side_nm: float,
    force: Float,  # (2P, 2) kT/nm, overwritten for owned beads only
) -> None:
    """Force on the owned beads: all pairs but bonded partners, then the bond."""
    primaries = len(state) // 2
    reach_nm = field.cutoff.max() if field.cutoff.size else 0.0
    n, start, bead = cells_of_beads(position, state, side_nm, reach_nm)
    found = np.empty(len(state), np.int64)
    for i in owned:
        for p in (i, i + primaries):
            force[p, 0] = 0.0
            force[p, 1] = 0.0
            if state[p] < 0:
                continue
            partner = i + primaries if p == i else i
            fx, fy = 0.0, 0.0
            count = 0
            if reach_nm > 0.0:
                count = _neighbours(p, position, side_nm, n, start, bead, found)
            a = field.kind[state[p]]
            for other in found[:count]:
                b = field.kind[state[other]]
                dx = _nearest(position[p, 0] - position[other, 0], side_nm)
                dy = _nearest(position[p, 1] - position[other, 1], side_nm)
                reach = field.cutoff[a, b]
                if other == partner or dx * dx + dy * dy >= reach * reach:
                    continue
                _, pull = _pair(dx, dy, a, b, field)
                fx += pull * dx
                fy += pull * dy
            if state[partner] >= 0:
                dx = _nearest(position[p, 0] - position[partner, 0], side_nm)
                dy = _nearest(position[p, 1] - position[partner, 1], side_nm)
                pull = _bond_pull(dx, dy, state[i], state[i + primaries], field)
                fx += pull * dx
                fy += pull * dy
            force[p, 0] = fx
            force[p, 1] = fy


@inlined
def _bond_pull(dx, dy, primary, ligand, field):  # type: ignore[no-untyped-def]
    """-(dw/dr)/r of ½ k (r - r0)²; none at r = 0, where a bond with r0 > 0 has no direction."""
    length = field.bond_length[primary, ligand]
    stiffness = field.bond_stiffness[primary, ligand]
    if length == 0.0:
        return -stiffness
    r = math.sqrt(dx * dx + dy * dy)
    return -stiffness * (1.0 - length / r) if r > 0.0 else 0.0


@kernel
def pair_and_bond_energy(
    position: Float, state: NDArray[np.int8], field: ProteinForceField, side_nm: float
) -> float:
    """Energy in kT whose gradient `pair_and_bond_force` is; each pair and bond counted once."""
    primaries = len(state) // 2
    energy = 0.0
    for p in range(len(state)):
        for other in range(p):
            if state[p] < 0 or state[other] < 0:
                continue
            dx = _nearest(position[p, 0] - position[other, 0], side_nm)
            dy = _nearest(position[p, 1] - position[other, 1], side_nm)
            if p - other == primaries:
                stretch = math.sqrt(dx * dx + dy * dy) - field.bond_length[state[other], state[p]]
                energy += 0.5 * field.bond_stiffness[state[other], state[p]] * stretch * stretch
                continue
            a, b = field.kind[state[p]], field.kind[state[other]]
            reach = field.cutoff[a, b]
            if dx * dx + dy * dy < reach * reach:
                pair_energy, _ = _pair(dx, dy, a, b, field)
                energy += pair_energy
    return energy


@inlined
def wrapped(x, side):  # type: ignore[no-untyped-def]
    """x moved by whole sides into [0, side)."""
    inside = x - side * math.floor(x / side)
    return inside if 0.0 <= inside < side else 0.0


@kernel
def langevin_substep(
    position: Float,  # (2P, 2) nm, owned beads moved in place
    state: NDArray[np.int8],  # (2P,)
    owned: NDArray[np.int64],  # owned primaries
    lipid_force: Float,  # (2P, 2) kT/nm
    field: ProteinForceField,
    side_nm: float,
    dt_us: float,
    step: int,
    substep: int,
    key_low: np.uint32,
    key_high: np.uint32,
) -> None:
    """R += D F dt + sqrt(2 D dt) ξ for owned primaries and their ligands, ξ keyed by bead and time.

    All forces are taken before any bead moves. Positions of other beads must be current.
    """
    primaries = len(state) // 2
    force = np.empty((len(state), 2))
    pair_and_bond_force(position, state, owned, field, side_nm, force)
    low = np.uint32(step & 0xFFFFFFFF)
    high = np.uint32(((step >> 32) & 0xFF) | (substep << 8))
    for i in owned:
        for p in (i, i + primaries):
            if state[p] < 0:
                continue
            diffusivity = field.diffusivity[state[p]]
            dx = diffusivity * dt_us * (force[p, 0] + lipid_force[p, 0])
            dy = diffusivity * dt_us * (force[p, 1] + lipid_force[p, 1])
            drift = math.sqrt(dx * dx + dy * dy)
            if drift > LARGEST_DRIFT_NM:
                dx *= LARGEST_DRIFT_NM / drift
                dy *= LARGEST_DRIFT_NM / drift
            words = philox(low, high, np.uint32(p), np.uint32(PROTEIN_KICK), key_low, key_high)
            kick_x, kick_y = normal_pair(words[0], words[1])
            spread = math.sqrt(2.0 * diffusivity * dt_us)
            position[p, 0] = wrapped(position[p, 0] + dx + spread * kick_x, side_nm)
            position[p, 1] = wrapped(position[p, 1] + dy + spread * kick_y, side_nm)
