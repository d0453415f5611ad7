"""Where proteins start: uniform with a least separation, in states drawn from given populations."""

import numpy as np
from numpy.typing import NDArray

from continuum.compilation import kernel
from continuum.parameters import Proteins
from continuum.philox import INITIAL_POSITION, INITIAL_STATE, key_of, philox, uniform
from continuum.protein_states import (
    StateKinetics,
    condition_names,
    equilibrium_populations,
    place_ligand,
    state_kinetics,
)

Float = NDArray[np.float64]

LEAST_SEPARATION_NM = 4.0  # beyond the steep part of a protein's core
_MOST_TRIALS = 10_000


def initial_proteins(
    proteins: Proteins,
    side_nm: float,
    seed: int,
    separation_nm: float = LEAST_SEPARATION_NM,
) -> tuple[Float, NDArray[np.int8]]:
    """Positions (2P, 2) in nm, NaN where a ligand is absent, and states (2P,), -1 where absent.

    States are drawn from `proteins.initial_populations`. A pure function of its arguments. Raises
    ValueError when the primaries do not fit at that separation.
    """
    kinetics = state_kinetics(proteins)
    position = np.full((2 * proteins.count, 2), np.nan)
    state = np.full(2 * proteins.count, -1, np.int8)
    names = condition_names(proteins)
    population = np.zeros(len(names))
    for name, fraction in proteins.initial_populations:
        population[names.index(name)] = fraction
    placed = _place(
        position, state, population, kinetics, float(side_nm), separation_nm, *key_of(seed)
    )
    if placed < proteins.count:
        raise ValueError(
            f"{proteins.count} proteins must fit {separation_nm} nm apart on a side of "
            f"{side_nm} nm, got room for {placed}"
        )
    return position, state


def equilibrium_of(proteins: Proteins) -> tuple[tuple[str, float], ...]:
    """Equilibrium populations of the rates, in the form of `Proteins.initial_populations`."""
    populations = equilibrium_populations(state_kinetics(proteins).rate)
    return tuple(zip(condition_names(proteins), populations.tolist(), strict=True))


@kernel
def _place(
    position: Float,
    state: NDArray[np.int8],
    population: Float,
    kinetics: StateKinetics,
    side_nm: float,
    separation_nm: float,
    key_low: np.uint32,
    key_high: np.uint32,
) -> int:
    """Fill the arrays; returns the number of primaries placed."""
    count = len(state) // 2
    zero = np.uint32(0)
    for i in range(count):
        trial = 0
        while not _try(position, i, trial, side_nm, separation_nm, key_low, key_high):
            trial += 1
            if trial == _MOST_TRIALS:
                return i
        words = philox(zero, zero, np.uint32(i), np.uint32(INITIAL_STATE), key_low, key_high)
        threshold = uniform(words[0]) * population.sum()
        condition = -1
        below = 0.0
        for m in range(len(population)):
            if population[m] > 0.0 and (condition < 0 or threshold >= below):
                condition = m
            below += population[m]
        state[i] = kinetics.primary_state[condition]
        state[count + i] = kinetics.ligand_state[condition]
        if state[count + i] >= 0:
            # the last event number of step 0: no jump of the run draws the same words
            last = np.uint32(0xFFFFFF00)
            place_ligand(position, i, condition, kinetics, zero, last, side_nm, key_low, key_high)
    return count


@kernel
def _try(
    position: Float,
    i: int,
    trial: int,
    side_nm: float,
    separation_nm: float,
    key_low: np.uint32,
    key_high: np.uint32,
) -> bool:
    """Put primary i at its trial-th random place; False where an earlier primary is too near."""
    words = philox(
        np.uint32(trial), np.uint32(0), np.uint32(i), np.uint32(INITIAL_POSITION), key_low, key_high
    )
    position[i, 0] = uniform(words[0]) * side_nm
    position[i, 1] = uniform(words[1]) * side_nm
    for other in range(i):
        squared = 0.0
        for axis in range(2):
            d = abs(position[i, axis] - position[other, axis])
            d = min(d, side_nm - d)
            squared += d * d
        if squared < separation_nm * separation_nm:
            return False
    return True
