import itertools
import math

import numpy as np
import pytest

from continuum.parameters import BeadState, Complex, PairInteraction, Proteins
from continuum.philox import key_of
from continuum.protein_motion import (
    LARGEST_DRIFT_NM,
    langevin_substep,
    pair_and_bond_energy,
    pair_and_bond_force,
    protein_force_field,
)

SIDE_NM = 61.0
KEY = key_of(20_260_101)
FREE, PRIMARY, LIGAND, CLOSE_PRIMARY, CLOSE_LIGAND = range(5)


def proteins(count, cutoff_nm=12.0, pairs=True):
    def pair(kinds, core, strength=0.0):
        return PairInteraction(
            kinds=kinds,
            core_length_nm=core,
            strength_kt=strength,
            range_nm=7.0,
            cutoff_nm=cutoff_nm,
        )

    def bond(name, primary, ligand, rest):
        return Complex(
            name=name,
            primary_state=primary,
            ligand_state=ligand,
            bond_stiffness_kt_per_nm2=8.0,
            rest_length_nm=rest,
        )

    kinds = {"free": "RAS", "m": "RAS", "f": "RAF", "z": "RAS", "zf": "RAF"}
    return Proteins(
        count=count,
        states=tuple(
            BeadState(name=name, kind=kind, diffusivity_nm2_per_us=10.0 + 3.0 * index)
            for index, (name, kind) in enumerate(kinds.items())
        ),
        pairs=(pair(("RAS", "RAS"), 3.0, 2.5), pair(("RAF", "RAS"), 2.5)) if pairs else (),
        complexes=(bond("m-f", "m", "f", 3.0), bond("z-zf", "z", "zf", 0.0)),
        initial_populations=(("free", 1.0),),
    )


def crowd(count=24, seed=3, side_nm=SIDE_NM):
    """Primaries on a jittered lattice, two thirds with a ligand of either sort."""
    rng = np.random.default_rng(seed)
    per_side = math.isqrt(count - 1) + 1
    lattice = np.array(list(itertools.product(range(per_side), repeat=2)))[:count]
    position = np.full((2 * count, 2), np.nan)
    state = np.full(2 * count, -1, np.int8)
    position[:count] = (lattice + rng.uniform(0, 0.6, (count, 2))) * side_nm / per_side
    state[:count] = np.array([FREE, PRIMARY, CLOSE_PRIMARY])[np.arange(count) % 3]
    for i in range(count):
        if state[i] != FREE:
            state[count + i] = state[i] + 1
            angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 3.5)
            offset = reach * np.array([np.cos(angle), np.sin(angle)])
            position[count + i] = (position[i] + offset) % side_nm
    return position, state


def slow_energy(position, state, model, side_nm):
    """Straight from the definition: every image, every pair of beads, no tables."""
    names = [s.name for s in model.states]
    count = len(state) // 2
    energy = 0.0
    for p, other in itertools.combinations(np.flatnonzero(state >= 0), 2):
        images = np.array(list(itertools.product((-1, 0, 1), repeat=2))) * side_nm
        r = np.linalg.norm(position[p] - position[other] + images, axis=1).min()
        name, other_name = names[state[p]], names[state[other]]
        if other == p + count:
            bond = next(c for c in model.complexes if c.primary_state == name)
            energy += 0.5 * bond.bond_stiffness_kt_per_nm2 * (r - bond.rest_length_nm) ** 2
            continue
        pair = model.pair_between(model.kind_of(name), model.kind_of(other_name))
        if pair is None or r >= pair.cutoff_nm:
            continue
        for sign, x in ((1, r), (-1, pair.cutoff_nm)):
            energy += sign * (pair.core_length_nm / x) ** 12
            energy += sign * pair.strength_kt * math.exp(-x / pair.range_nm)
    return energy


def force_on_all(position, state, model, side_nm=SIDE_NM):
    force = np.zeros_like(position)
    owned = np.arange(len(state) // 2)
    pair_and_bond_force(position, state, owned, protein_force_field(model), side_nm, force)
    return force


# 12 nm: cells of a list on 61 nm; 30 nm: too few cells, so all pairs
@pytest.mark.parametrize("cutoff_nm", [12.0, 30.0])
def test_the_energy_is_its_definition_and_the_force_is_its_slope(cutoff_nm):
    position, state = crowd()
    model = proteins(24, cutoff_nm)
    expected = slow_energy(position, state, model, SIDE_NM)
    field = protein_force_field(model)
    assert pair_and_bond_energy(position, state, field, SIDE_NM) == pytest.approx(
        expected, rel=1e-12
    )

    force = force_on_all(position, state, model)

    step = 1e-6
    for p in np.flatnonzero(state >= 0)[::3]:
        for axis in range(2):
            moved = position.copy()
            moved[p, axis] += step
            up = slow_energy(moved, state, model, SIDE_NM)
            moved[p, axis] -= 2 * step
            down = slow_energy(moved, state, model, SIDE_NM)
            slope = (up - down) / (2 * step)
            assert force[p, axis] == pytest.approx(-slope, rel=1e-6, abs=1e-6)


def test_forces_cancel_and_absent_beads_feel_none():
    position, state = crowd()
    force = force_on_all(position, state, proteins(24))
    assert np.abs(force).max() > 1
    np.testing.assert_allclose(force.sum(axis=0), 0, atol=1e-11 * np.abs(force).sum())
    assert np.all(force[state < 0] == 0)


def test_a_force_does_not_depend_on_who_owns_the_bead():
    position, state = crowd()
    model = proteins(24)
    together = force_on_all(position, state, model)
    apart = np.full_like(position, 7.0)
    for owned in (np.arange(0, 24, 2), np.array([21, 3]), np.array([], np.int64)):
        apart[:] = 7.0
        pair_and_bond_force(position, state, owned, protein_force_field(model), SIDE_NM, apart)
        mine = np.concatenate([owned, owned + 24])
        assert np.array_equal(apart[mine], together[mine])
        assert np.all(np.delete(apart, mine, axis=0) == 7.0)


def test_forces_are_summed_in_the_order_of_bead_numbers_wherever_the_beads_lie():
    side_nm = 64.0
    position, state = crowd(side_nm=side_nm)
    position = np.round(position * 2**20) / 2**20 % side_nm
    force = force_on_all(position, state, proteins(24), side_nm)
    for shift in ([17.25, 0.0], [40.5, 3.0], [5.0, 60.125]):
        moved = (position + np.array(shift)) % side_nm
        assert np.array_equal(force_on_all(moved, state, proteins(24), side_nm), force)


def test_a_substep_is_the_same_bits_however_the_beads_are_shared():
    model = proteins(24)
    field = protein_force_field(model)
    start, state = crowd()
    lipid_force = np.random.default_rng(0).normal(size=start.shape)
    results = []
    for shares in (
        [np.arange(24)],
        [np.arange(0, 24, 3), np.delete(np.arange(24), slice(0, 24, 3))],
    ):
        result = np.full_like(start, np.nan)
        for owned in shares:
            position = start.copy()
            langevin_substep(position, state, owned, lipid_force, field, SIDE_NM, 1e-3, 5, 2, *KEY)
            mine = np.concatenate([owned, owned + 24])
            others = np.delete(np.arange(48), mine)
            assert np.array_equal(position[others], start[others], equal_nan=True)
            result[mine] = position[mine]
        results.append(result)
    assert np.array_equal(results[0], results[1], equal_nan=True)
    assert np.array_equal(np.isnan(results[0][:, 0]), state < 0)
    present = results[0][state >= 0]
    assert present.min() >= 0
    assert present.max() < SIDE_NM


def displaced(count, state_index, dt_us, step, substep, force=(0.0, 0.0), seed=1):
    """Displacements of `count` free beads in one substep."""
    position = np.full((2 * count, 2), 30.0)
    position[count:] = np.nan
    state = np.full(2 * count, -1, np.int8)
    state[:count] = state_index
    field = protein_force_field(proteins(count, pairs=False))
    pull = np.broadcast_to(np.array(force), position.shape).copy()
    langevin_substep(
        position, state, np.arange(count), pull, field, SIDE_NM, dt_us, step, substep, *key_of(seed)
    )
    return position[:count] - 30.0


@pytest.mark.parametrize("state_index", [FREE, PRIMARY])
def test_kicks_have_the_variance_of_diffusion(state_index):
    count, dt_us = 20_000, 1e-3
    moves = displaced(count, state_index, dt_us, 4, 1)
    diffusivity = 10.0 + 3.0 * state_index
    error = np.sqrt(2 / count)
    assert np.abs(moves.mean(axis=0)).max() < 4 * np.sqrt(2 * diffusivity * dt_us / count)
    np.testing.assert_allclose(moves.var(axis=0), 2 * diffusivity * dt_us, rtol=4 * error)
    assert abs(np.corrcoef(moves.T)[0, 1]) < 4 / np.sqrt(count)
    assert abs(np.corrcoef(moves[:-1, 0], moves[1:, 0])[0, 1]) < 4 / np.sqrt(count)


def test_a_ligand_is_kicked_by_its_own_diffusivity_and_not_with_its_primary():
    count, dt_us = 20_000, 1e-3
    position = np.full((2 * count, 2), 30.0)
    state = np.repeat(np.array([CLOSE_PRIMARY, CLOSE_LIGAND], np.int8), count)
    field = protein_force_field(proteins(count, pairs=False))
    none = np.zeros_like(position)
    langevin_substep(position, state, np.arange(count), none, field, SIDE_NM, dt_us, 0, 0, *KEY)
    moves = position - 30.0
    for beads, state_index in ((moves[:count], CLOSE_PRIMARY), (moves[count:], CLOSE_LIGAND)):
        variance = 2 * (10.0 + 3.0 * state_index) * dt_us
        np.testing.assert_allclose(beads.var(axis=0), variance, rtol=4 * np.sqrt(2 / count))
    assert abs(np.corrcoef(moves[:count, 0], moves[count:, 0])[0, 1]) < 4 / np.sqrt(count)


@pytest.mark.parametrize(
    "other", [{"step": 5}, {"substep": 2}, {"seed": 2}, {"step": 4 + 2**32}, {"step": 4 + 2**33}]
)
def test_kicks_of_another_time_or_seed_are_unrelated(other):
    draw = {"step": 4, "substep": 1, "seed": 1}
    first = displaced(4000, FREE, 1e-3, **draw)
    second = displaced(4000, FREE, 1e-3, **{**draw, **other})
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(8000)


def test_a_lipid_force_drifts_a_bead_at_its_mobility():
    still = displaced(5, PRIMARY, 1e-3, 4, 1)
    pulled = displaced(5, PRIMARY, 1e-3, 4, 1, force=(2.0, -1.0))
    drift = np.broadcast_to(13.0 * 1e-3 * np.array([2.0, -1.0]), still.shape)
    np.testing.assert_allclose(pulled - still, drift, atol=1e-13)


def test_a_huge_force_keeps_its_direction_and_moves_a_bead_half_a_nanometre():
    still = displaced(5, FREE, 1e-3, 4, 1)
    pulled = displaced(5, FREE, 1e-3, 4, 1, force=(3e6, -4e6))
    expected = np.broadcast_to(LARGEST_DRIFT_NM * np.array([0.6, -0.8]), still.shape)
    np.testing.assert_allclose(pulled - still, expected, atol=1e-12)


@pytest.mark.parametrize("distance_nm", [0.0, 1e-9, 0.1, 1.0])
def test_overlapping_beads_part_without_being_thrown(distance_nm):
    position = np.array([[30.0, 30.0], [30.0 + distance_nm, 30.0], [np.nan] * 2, [np.nan] * 2])
    state = np.array([FREE, FREE, -1, -1], np.int8)
    field = protein_force_field(proteins(2))
    for step in range(60):
        before = position.copy()
        langevin_substep(
            position, state, np.arange(2), np.zeros((4, 2)), field, SIDE_NM, 1e-3, step, 0, *KEY
        )
        assert np.abs(position[:2] - before[:2]).max() < LARGEST_DRIFT_NM + 6 * np.sqrt(2e-2)
    assert 2.0 < np.linalg.norm(position[0] - position[1]) < 8.0


def test_a_bond_fluctuates_with_the_variance_of_the_discrete_equation():
    count, dt_us, stiffness = 4000, 1e-3, 8.0
    model = proteins(count, pairs=False)
    field = protein_force_field(model)
    position = np.full((2 * count, 2), 0.3)  # bonds across the corner of the membrane
    state = np.repeat(np.array([CLOSE_PRIMARY, CLOSE_LIGAND], np.int8), count)
    for step in range(60):
        langevin_substep(
            position,
            state,
            np.arange(count),
            np.zeros_like(position),
            field,
            SIDE_NM,
            dt_us,
            step,
            0,
            *KEY,
        )
    bond = position[count:] - position[:count]
    bond -= SIDE_NM * np.round(bond / SIDE_NM)
    relative_diffusivity = (10.0 + 3.0 * CLOSE_PRIMARY) + (10.0 + 3.0 * CLOSE_LIGAND)
    decay = 1 - relative_diffusivity * stiffness * dt_us
    # x' = decay x + sqrt(2 D dt) ξ
    variance = 2 * relative_diffusivity * dt_us / (1 - decay**2)
    np.testing.assert_allclose(bond.var(axis=0), variance, rtol=4 * np.sqrt(2 / count))
