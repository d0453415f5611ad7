"""Protein states as a continuous-time Markov chain; ligands bind and leave (physics 7.5).

Each primary is in one of M conditions: a free state, or a complex with its ligand. Jumps happen at
their exact times inside a step (Gillespie 1977), so the law does not depend on the step; draws are
keyed by (seed, step, event, primary), so it does not depend on the ranks either.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.sparse.csgraph import connected_components

from continuum.compilation import inlined, kernel
from continuum.parameters import Proteins
from continuum.philox import LIGAND_PLACEMENT, STATE_CHANGE, philox, uniform
from continuum.protein_motion import wrapped

Float = NDArray[np.float64]

_MOST_EVENTS = 10_000  # expected in one step; the event number has 24 bits of the counter


class StateKinetics(NamedTuple):
    """The conditions of a primary and the rates between them."""

    rate: Float  # (M, M) µs^-1, from row to column, zero diagonal
    primary_state: NDArray[np.int8]  # (M,) index into Proteins.states
    ligand_state: NDArray[np.int8]  # (M,) -1 for a free state
    stiffness: Float  # (M,) kT/nm², of the bond
    rest_length: Float  # (M,) nm


def condition_names(proteins: Proteins) -> tuple[str, ...]:
    """The M conditions: free states, then complexes."""
    return proteins.free_states + tuple(complex_.name for complex_ in proteins.complexes)


def state_kinetics(proteins: Proteins) -> StateKinetics:
    """Collect transitions, binding and unbinding into one rate matrix."""
    names = condition_names(proteins)
    rate = np.zeros((len(names), len(names)))
    for jump in proteins.free_transitions + proteins.complex_transitions:
        rate[names.index(jump.source), names.index(jump.target)] += jump.rate_per_us
    for binding in proteins.binding:
        for source in proteins.binding_sources(binding):
            rate[names.index(source), names.index(binding.complex)] += binding.rate_per_us
    for leaving in proteins.unbinding:
        ends = names.index(leaving.complex), names.index(leaving.target_state)
        rate[ends] += leaving.rate_per_us
    free = [(proteins.index_of(name), -1, 0.0, 0.0) for name in proteins.free_states]
    bound = [
        (
            proteins.index_of(c.primary_state),
            proteins.index_of(c.ligand_state),
            c.bond_stiffness_kt_per_nm2,
            c.rest_length_nm,
        )
        for c in proteins.complexes
    ]
    columns = np.array(free + bound, dtype=np.float64).reshape(-1, 4).T
    return StateKinetics(
        rate=rate,
        primary_state=columns[0].astype(np.int8),
        ligand_state=columns[1].astype(np.int8),
        stiffness=columns[2].copy(),
        rest_length=columns[3].copy(),
    )


def generator(rate: Float) -> Float:
    """Q with dp/dt = p Q for the row vector p of populations: rows sum to zero."""
    return rate - np.diag(rate.sum(axis=1))


def equilibrium_populations(
    rate: Float,  # (M, M) µs^-1
    start: Float | None = None,  # (M,) populations, uniform if not given
) -> Float:
    """Where the populations go: the null vector of the generator, (M,) summing to 1.

    Conditions that no chain of jumps connects (proteins of different kinds) keep the share they
    have in `start`. Raises ValueError where the end depends on chance (several traps).
    """
    size = len(rate)
    share = np.full(size, 1.0 / max(size, 1)) if start is None else start / start.sum()
    result = np.zeros(size)
    groups, label = connected_components(rate > 0, directed=True, connection="weak")
    for group in range(groups):
        members = np.flatnonzero(label == group)
        null = null_space(generator(rate[np.ix_(members, members)]).T)
        if null.shape[1] != 1:
            raise ValueError(
                f"the rates must lead to one equilibrium, got {null.shape[1]} traps among "
                f"conditions {members.tolist()}"
            )
        result[members] = share[members].sum() * null[:, 0] / null[:, 0].sum()
    return result


def change_states(
    position: Float,  # (2P, 2) nm, a new ligand's is set, a lost one's becomes NaN
    state: NDArray[np.int8],  # (2P,) changed in place
    primaries: NDArray[np.int64],  # the primaries to advance; every rank may advance all
    kinetics: StateKinetics,
    dt_us: float,
    side_nm: float,
    step: int,
    key_low: np.uint32,
    key_high: np.uint32,
) -> int:
    """Advance the states of the given primaries by dt and return the number of jumps.

    A new ligand is placed where its bond's thermal law puts it. Raises ValueError where the rates
    would make more than 10^4 jumps in a step, or a bead pair is in no condition of the kinetics.
    """
    busiest = kinetics.rate.sum(axis=1).max(initial=0.0) * dt_us
    if not 0 <= busiest <= _MOST_EVENTS:
        raise ValueError(
            f"a step must hold at most {_MOST_EVENTS} state changes of a protein, "
            f"got {busiest:.3g} at dt_us = {dt_us}"
        )
    events, stray = _change_states(
        position, state, primaries, kinetics, dt_us, float(side_nm), step, key_low, key_high
    )
    if stray >= 0:
        ligand = state[stray + len(state) // 2]
        raise ValueError(
            f"primary {stray} must be in a free state or a complex, "
            f"got states {state[stray]} and {ligand}"
        )
    return int(events)


@kernel
def _condition_of(primary_state: int, ligand_state: int, kinetics: StateKinetics) -> int:
    for m in range(len(kinetics.primary_state)):
        if kinetics.primary_state[m] == primary_state and kinetics.ligand_state[m] == ligand_state:
            return m
    return -1


@kernel
def _change_states(
    position: Float,
    state: NDArray[np.int8],
    primaries: NDArray[np.int64],
    kinetics: StateKinetics,
    dt_us: float,
    side_nm: float,
    step: int,
    key_low: np.uint32,
    key_high: np.uint32,
) -> tuple[int, int]:
    ligands = len(state) // 2
    events = 0
    low = np.uint32(step & 0xFFFFFFFF)
    for i in primaries:
        condition = _condition_of(state[i], state[ligands + i], kinetics)
        if condition < 0:
            return events, i
        elapsed_us = 0.0
        event = 0
        while True:
            leaving = kinetics.rate[condition].sum()
            if leaving <= 0.0:
                break
            high = np.uint32(((step >> 32) & 0xFF) | (event << 8))
            words = philox(low, high, np.uint32(i), np.uint32(STATE_CHANGE), key_low, key_high)
            elapsed_us -= math.log(uniform(words[0])) / leaving
            if elapsed_us >= dt_us:
                break
            condition = _chosen(kinetics.rate[condition], uniform(words[1]) * leaving)
            state[i] = kinetics.primary_state[condition]
            was_bound = state[ligands + i] >= 0
            state[ligands + i] = kinetics.ligand_state[condition]
            if state[ligands + i] < 0:
                position[ligands + i] = np.nan
            elif not was_bound:
                place_ligand(
                    position, i, condition, kinetics, low, high, side_nm, key_low, key_high
                )
            event += 1
        events += event
    return events, -1


@kernel
def _chosen(rate: Float, threshold: float) -> int:
    """The target whose share of the summed rates holds the threshold."""
    chosen = -1
    below = 0.0
    for target in range(len(rate)):
        if rate[target] > 0.0:
            chosen = target
            below += rate[target]
            if threshold < below:
                break
    return chosen


@kernel
def place_ligand(
    position: Float,
    i: int,
    condition: int,
    kinetics: StateKinetics,
    low: np.uint32,
    high: np.uint32,
    side_nm: float,
    key_low: np.uint32,
    key_high: np.uint32,
) -> None:
    """Put the ligand of primary i at a thermal distance and a uniform angle."""
    words = philox(low, high, np.uint32(i), np.uint32(LIGAND_PLACEMENT), key_low, key_high)
    r = thermal_bond_length(
        uniform(words[0]), kinetics.stiffness[condition], kinetics.rest_length[condition]
    )
    angle = 2.0 * math.pi * uniform(words[1])
    ligand = len(position) // 2 + i
    position[ligand, 0] = wrapped(position[i, 0] + r * math.cos(angle), side_nm)
    position[ligand, 1] = wrapped(position[i, 1] + r * math.sin(angle), side_nm)


@inlined
def _below(r, stiffness, rest):  # type: ignore[no-untyped-def]
    """∫_0^r x exp(-k (x - r0)² / 2) dx."""
    root = math.sqrt(0.5 * stiffness)
    head = math.exp(-((root * rest) ** 2)) - math.exp(-((root * (r - rest)) ** 2))
    spread = math.erf(root * (r - rest)) + math.erf(root * rest)
    return head / stiffness + rest * math.sqrt(0.5 * math.pi / stiffness) * spread


@kernel
def thermal_bond_length(u: float, stiffness: float, rest: float) -> float:
    """Inverse of the cumulative density ∝ r exp(-k (r - r0)² / 2) at u in (0, 1), by bisection.

    For r0 = 0 this is the length of a Gaussian vector of variance 1/k per axis.
    """
    low = 0.0
    high = rest + 10.0 / math.sqrt(stiffness)
    wanted = u * _below(high, stiffness, rest)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _below(middle, stiffness, rest) < wanted:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
