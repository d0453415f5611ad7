import dataclasses
import math

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid
from scipy.linalg import expm
from scipy.stats import chi2, kstest

from continuum.configuration import load_model
from continuum.initial_proteins import equilibrium_of, initial_proteins
from continuum.parameters import (
    BeadState,
    Binding,
    Complex,
    Proteins,
    Transition,
    Unbinding,
)
from continuum.philox import key_of
from continuum.protein_states import (
    change_states,
    condition_names,
    equilibrium_populations,
    generator,
    state_kinetics,
    thermal_bond_length,
)

SIDE_NM = 100.0
KEY = key_of(77)


@pytest.fixture(scope="module")
def preset():
    return load_model("published").proteins


def all_in(count, proteins, name):
    """`count` primaries in one free state at scattered places."""
    position = np.full((2 * count, 2), np.nan)
    position[:count] = np.random.default_rng(5).uniform(0, SIDE_NM, (count, 2))
    state = np.full(2 * count, -1, np.int8)
    state[:count] = proteins.index_of(name)
    return position, state


def evolve(position, state, proteins, dt_us, steps, key=KEY, first_step=0):
    kinetics = state_kinetics(proteins)
    every = np.arange(len(state) // 2)
    return sum(
        change_states(position, state, every, kinetics, dt_us, SIDE_NM, first_step + step, *key)
        for step in range(steps)
    )


def census(state, proteins):
    """Number of primaries in each condition."""
    kinetics = state_kinetics(proteins)
    count = len(state) // 2
    pairs = zip(kinetics.primary_state, kinetics.ligand_state, strict=True)
    counts = np.array([np.sum((state[:count] == a) & (state[count:] == b)) for a, b in pairs])
    assert counts.sum() == count
    return counts


def assert_drawn_from(counts, populations):
    """Pearson's test, failing one honest run in 10^4."""
    expected = counts.sum() * populations
    statistic = np.sum((counts - expected) ** 2 / expected)
    assert statistic < chi2.ppf(1 - 1e-4, len(counts) - 1)


def test_the_preset_rates_lead_to_the_documented_populations(preset):
    populations = dict(equilibrium_of(preset))
    free = np.array([populations[name] for name in ("RASa", "RASb", "RASc")])
    bound = np.array([populations[c.name] for c in preset.complexes])
    np.testing.assert_allclose(bound / bound.sum(), [0.5, 0.3, 0.2], atol=5e-4)
    assert bound.sum() == pytest.approx(1 / 3, abs=1e-4)
    assert free.sum() + bound.sum() == pytest.approx(1)
    assert dict(preset.initial_populations) == pytest.approx(populations, abs=2e-3)


@pytest.mark.parametrize(
    ("members", "populations"),
    [(slice(0, 3), [0.45, 0.35, 0.20]), (slice(3, 6), [0.50, 0.30, 0.20])],
)
def test_the_preset_rates_within_a_group_are_in_detailed_balance(preset, members, populations):
    rate = state_kinetics(preset).rate[members, members]
    np.testing.assert_allclose(equilibrium_populations(rate), populations, atol=5e-4)
    flow = np.array(populations)[:, None] * rate
    assert flow.max() > 0.01
    np.testing.assert_allclose(flow, flow.T, rtol=3e-3)


def test_the_equilibrium_is_stationary_and_kinds_that_never_mix_keep_their_share():
    rng = np.random.default_rng(0)
    rate = np.zeros((5, 5))
    rate[:3, :3] = rng.uniform(0.1, 1, (3, 3))
    rate[3:, 3:] = [[0, 0.2], [0.6, 0]]
    np.fill_diagonal(rate, 0)
    start = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    end = equilibrium_populations(rate, start)
    np.testing.assert_allclose(end @ generator(rate), 0, atol=1e-15)
    np.testing.assert_allclose(end, start @ expm(generator(rate) * 200.0), atol=1e-12)
    np.testing.assert_allclose(end[3:], [0.3, 0.1], atol=1e-14)


def test_an_equilibrium_that_depends_on_chance_is_refused():
    rate = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="must lead to one equilibrium, got 2 traps"):
        equilibrium_populations(rate)


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_populations_follow_the_master_equation_however_time_is_cut(preset, steps):
    count, time_us = 20_000, 12.0
    position, state = all_in(count, preset, "RASb")

    evolve(position, state, preset, time_us / steps, steps)

    start = np.array([name == "RASb" for name in condition_names(preset)], float)
    expected = start @ expm(generator(state_kinetics(preset).rate) * time_us)
    assert expected.min() > 1e-3
    assert_drawn_from(census(state, preset), expected)


def test_a_long_run_reaches_the_null_vector_of_the_generator(preset):
    position, state = all_in(20_000, preset, "RASc")
    evolve(position, state, preset, 150.0, 3)
    equilibrium = np.array([fraction for _, fraction in equilibrium_of(preset)])
    assert_drawn_from(census(state, preset), equilibrium)


def test_jumps_are_as_frequent_as_the_rates_say(preset):
    position, state = initial_proteins(
        dataclasses.replace(preset, count=5000, initial_populations=equilibrium_of(preset)),
        1000.0,
        seed=3,
    )
    equilibrium = np.array([fraction for _, fraction in equilibrium_of(preset)])
    expected = 5000 * 8.0 * float(equilibrium @ state_kinetics(preset).rate.sum(axis=1))
    jumps = evolve(position, state, preset, 0.5, 16)
    assert jumps == pytest.approx(expected, abs=5 * math.sqrt(expected))


def test_beads_exist_exactly_where_a_ligand_is_bound(preset):
    count = 3000
    position, state = all_in(count, preset, "RASa")
    ever_bound = np.zeros(count, bool)
    for step in range(40):
        evolve(position, state, preset, 2.0, 1, first_step=step)
        bound = state[count:] >= 0
        ever_bound |= bound
        assert np.array_equal(np.isfinite(position[count:]).all(axis=1), bound)
        assert np.array_equal(np.isnan(position[count:]).all(axis=1), ~bound)
        assert np.isfinite(position[:count]).all()
        in_complex = np.isin(state[:count], state_kinetics(preset).primary_state[3:])
        assert np.array_equal(in_complex, bound)
    assert np.sum(ever_bound & (state[count:] < 0)) > 50


def test_a_ligand_stays_where_it_is_while_its_complex_changes(preset):
    count = 2000
    position, state = all_in(count, preset, "RASa")
    evolve(position, state, preset, 30.0, 1)
    before, old_state = position.copy(), state.copy()
    kept = state[count:] >= 0
    only_complexes = dataclasses.replace(preset, binding=(), unbinding=(), free_transitions=())
    assert evolve(position, state, only_complexes, 5.0, 1, first_step=1) > 100
    assert np.array_equal(position, before, equal_nan=True)
    assert np.sum(state[count:][kept] != old_state[count:][kept]) > 100


def test_a_protein_does_not_feel_who_else_is_advanced(preset):
    results = []
    for shares in (
        [np.arange(400)],
        [np.arange(399, -1, -3), np.setdiff1d(np.arange(400), np.arange(399, -1, -3))],
    ):
        position, state = all_in(400, preset, "RASa")
        for step in range(5):
            for share in shares:
                change_states(
                    position, state, share, state_kinetics(preset), 9.0, SIDE_NM, step, *KEY
                )
        results.append((position, state))
    assert np.array_equal(results[0][1], results[1][1])
    assert np.array_equal(results[0][0], results[1][0], equal_nan=True)
    assert len(np.unique(results[0][1])) > 5


def test_another_step_or_seed_gives_other_jumps(preset):
    states = []
    for first_step, seed in ((0, 1), (1, 1), (0, 2), (2**32, 1)):
        position, state = all_in(1000, preset, "RASa")
        evolve(position, state, preset, 3.0, 1, key_of(seed), first_step)
        states.append(state)
    for a in range(4):
        for b in range(a):
            assert np.sum(states[a] != states[b]) > 300


def one_way(rest_nm, stiffness=8.0, count=1):
    """Every free protein binds at once and stays."""
    return Proteins(
        count=count,
        states=tuple(
            BeadState(name=name, kind=kind, diffusivity_nm2_per_us=1.0)
            for name, kind in (("free", "A"), ("held", "A"), ("ligand", "B"))
        ),
        complexes=(
            Complex(
                name="pair",
                primary_state="held",
                ligand_state="ligand",
                bond_stiffness_kt_per_nm2=stiffness,
                rest_length_nm=rest_nm,
            ),
        ),
        binding=(Binding(complex="pair", rate_per_us=100.0),),
        initial_populations=(("free", 1.0),),
    )


@pytest.mark.parametrize("rest_nm", [0.0, 0.2, 3.0])
def test_a_new_ligand_is_placed_by_the_boltzmann_law_of_its_bond(rest_nm):
    count, stiffness = 20_000, 8.0
    model = one_way(rest_nm, stiffness)
    position, state = all_in(count, model, "free")
    evolve(position, state, model, 1.0, 1)
    bond = position[count:] - position[:count]
    bond -= SIDE_NM * np.round(bond / SIDE_NM)
    assert position.min() >= 0
    assert position.max() < SIDE_NM

    x = np.linspace(0, rest_nm + 12 / math.sqrt(stiffness), 20_001)
    cumulative = cumulative_trapezoid(
        x * np.exp(-0.5 * stiffness * (x - rest_nm) ** 2), x, initial=0
    )
    cumulative /= cumulative[-1]
    assert kstest(np.hypot(*bond.T), lambda r: np.interp(r, x, cumulative)).pvalue > 1e-4
    angle = np.arctan2(bond[:, 1], bond[:, 0]) / (2 * np.pi) + 0.5
    assert kstest(angle, "uniform").pvalue > 1e-4
    if rest_nm == 0:
        np.testing.assert_allclose(bond.var(axis=0), 1 / stiffness, rtol=4 * math.sqrt(2 / count))


def test_a_bond_without_rest_length_has_rayleighs_quantiles():
    for u in (1e-9, 0.01, 0.5, 0.99, 1 - 1e-9):
        expected = math.sqrt(-2 * math.log1p(-u) / 8.0)
        assert thermal_bond_length(u, 8.0, 0.0) == pytest.approx(expected, rel=1e-7)


def test_states_of_no_condition_and_steps_beyond_measure_are_refused(preset):
    position, state = all_in(3, preset, "RASa")
    state[1] = preset.index_of("mRASa")
    with pytest.raises(ValueError, match="primary 1 must be in a free state or a complex"):
        evolve(position, state, preset, 1.0, 1)
    for dt_us in (1e7, -1.0, math.nan):
        with pytest.raises(ValueError, match="at most 10000 state changes"):
            evolve(*all_in(3, preset, "RASa"), preset, dt_us, 1)


def test_two_ligand_systems_share_one_matrix():
    model = Proteins(
        count=1,
        states=tuple(
            BeadState(name=name, kind=kind, diffusivity_nm2_per_us=1.0)
            for name, kind in (("a", "A"), ("x", "X"), ("ax", "A"), ("l", "L"), ("b", "A"))
        ),
        complexes=(
            Complex(
                name="a-l",
                primary_state="ax",
                ligand_state="l",
                bond_stiffness_kt_per_nm2=1.0,
                rest_length_nm=0.0,
            ),
        ),
        free_transitions=(Transition(source="a", target="b", rate_per_us=3.0),),
        binding=(Binding(complex="a-l", rate_per_us=5.0),),
        unbinding=(Unbinding(complex="a-l", target_state="b", rate_per_us=7.0),),
        initial_populations=(("x", 1.0),),
    )
    assert condition_names(model) == ("a", "x", "b", "a-l")
    expected = np.zeros((4, 4))
    expected[0, 2], expected[3, 2] = 3.0, 7.0
    expected[0, 3] = expected[2, 3] = 5.0
    assert np.array_equal(state_kinetics(model).rate, expected)


def test_initial_proteins_are_apart_and_populated_as_asked(preset):
    count = preset.count
    position, state = initial_proteins(preset, 250.0, seed=9, separation_nm=8.0)
    primaries = position[:count]
    separation = np.abs(primaries[:, None] - primaries[None])
    separation = np.hypot(*np.minimum(separation, 250.0 - separation).transpose(2, 0, 1))
    assert separation[~np.eye(count, dtype=bool)].min() >= 8.0
    assert_drawn_from(
        census(state, preset), np.array([fraction for _, fraction in equilibrium_of(preset)])
    )
    cells = np.floor(primaries / 62.5).astype(int) @ [4, 1]
    assert_drawn_from(np.bincount(cells, minlength=16), np.full(16, 1 / 16))

    again, same_state = initial_proteins(preset, 250.0, seed=9, separation_nm=8.0)
    assert np.array_equal(position, again, equal_nan=True)
    assert np.array_equal(state, same_state)
    other, _ = initial_proteins(preset, 250.0, seed=10, separation_nm=8.0)
    assert not np.isclose(position[:count], other[:count]).any()


def test_proteins_that_do_not_fit_are_refused(preset):
    with pytest.raises(ValueError, match=r"300 proteins must fit 12\.0 nm apart"):
        initial_proteins(preset, 100.0, seed=1, separation_nm=12.0)
