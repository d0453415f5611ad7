from dataclasses import replace

import numpy as np
import pytest

from continuum.halo import SingleProcess
from continuum.lipid_flux import add_windows
from continuum.membrane import Membrane
from continuum.protein_lipid_coupling import lipid_force, potential_table
from tests.continuum.laboratory import preset_model
from tests.continuum.reference_solver import ReferenceMembrane


def crowd(*overrides):
    """A small fast membrane of five proteins that bind and move."""
    return preset_model(
        "proteins.count=5",
        "proteins.binding_per_us.zRASa_zRAFa=8.0",
        "numerics.noise.amplitude=0.3",
        *overrides,
        preset="laptop",
        side_nm=60.0,
        cells=72,
    )


class SecondOfTwo(SingleProcess):
    """What rank 1 of 2 would see of the ranks' number; its neighbours are never asked."""

    rank, size = 1, 2


def test_a_membrane_is_decided_by_its_model_and_seed():
    states = []
    for seed in (1, 1, 2):
        membrane = Membrane(crowd(f"seed={seed}"), SingleProcess())
        for _ in range(5):
            membrane.advance()
        assert membrane.step == 5
        assert membrane.time_us == pytest.approx(0.05)
        states.append((membrane.fields.own_density().copy(), membrane.position.copy()))
    for a, b, same in ((0, 1, True), (0, 2, False)):
        assert np.array_equal(states[a][0], states[b][0]) is same
        assert np.array_equal(states[a][1], states[b][1], equal_nan=True) is same


def test_proteins_drift_down_the_energy_the_lipids_give_them():
    """Without kicks of their own weight: a bead beside a hill of PAP6 is drawn to it."""
    model = crowd("proteins.binding_per_us.zRASa_zRAFa=0.0", "potentials.strength=4.0")
    membrane = Membrane(model, SingleProcess())
    quantum, h = membrane.fields.quantum, model.membrane.spacing_nm
    pap6 = model.lipids.labels.index("inner PAP6")
    centre = (np.arange(72) + 0.5) * h
    hill = np.exp(-((centre[:, None] - 30.0) ** 2 + (centre[None, :] - 30.0) ** 2) / 2 / 3.0**2)
    membrane.fields.own_density()[pap6] = np.rint((0.036 + 0.3 * hill) / quantum)
    membrane.position[:5] = [[34.0, 30.0], [26.0, 30.0], [30.0, 34.0], [30.0, 26.0], [5.0, 5.0]]
    membrane.state[:5], membrane.state[5:] = 0, -1
    force = lipid_force(
        membrane.fields.own_density(),
        quantum,
        0,
        72,
        h,
        potential_table(model.potentials),
        membrane.position,
        membrane.state,
    )
    pull = [force[0, 0], force[1, 0], force[2, 1], force[3, 1]]
    assert [np.sign(f) for f in pull] == [-1, 1, -1, 1]
    before = membrane.fields.own_density()[pap6].sum(dtype=np.int64)
    for _ in range(3):
        membrane.advance()
    assert membrane.fields.own_density()[pap6].sum(dtype=np.int64) == before


def test_lipids_feel_the_proteins_on_their_way_through_the_step():
    membrane = Membrane(crowd("numerics.noise.amplitude=0.0"), SingleProcess())
    reference = ReferenceMembrane(membrane.model)
    advance, cells, found = membrane.fields.advance, membrane.slab.cells, {}
    refresh = membrane._windows.refresh

    def spy_on_path(path, share, state, table):
        found.update(path=path.copy(), share=share, state=state.copy())
        refresh(path, share, state, table)

    def spy(windows, step):
        felt = np.zeros((14, cells, cells), np.float32)
        for s in range(14):
            window, start, beads = windows.of_species(s)
            for row in range(cells):
                line = row + membrane.fields.halo
                near = beads[start[line] : start[line + 1]]
                add_windows(felt[s, row], window, windows.corners, near, row)
        found.update(felt=felt)
        advance(windows, step)

    membrane.fields.advance, membrane._windows.refresh = spy, spy_on_path
    before = membrane.position.copy()
    membrane.advance()
    path, share, state = found["path"], found["share"], found["state"]
    np.testing.assert_array_equal(path[0], before)
    foreseen = np.abs(path[-1] - membrane.position)[:5]
    assert 0 < foreseen.max() < 0.01
    assert np.abs(path[-1] - before)[:5].max() > 0.5

    def potential(position):
        present = np.flatnonzero(state >= 0)
        return sum(reference.protein_potential(position[[p]], int(state[p])) for p in present)

    expected = sum(
        part[:, None, None] * potential(position)
        for position, part in zip(path, share, strict=True)
    )
    np.testing.assert_allclose(found["felt"], expected, rtol=0, atol=2e-3)
    assert np.abs(potential(path[0]) - expected).max() > 0.1


def test_every_primary_has_one_owner():
    model = crowd("proteins.count=40")
    membrane = Membrane(model, SingleProcess())
    np.testing.assert_array_equal(membrane.owned(), np.arange(40))
    upper = Membrane(model, SecondOfTwo())
    middle_nm = upper.slab.first_row * model.membrane.spacing_nm
    expected = np.flatnonzero(upper.position[:40, 1] >= middle_nm)
    assert 0 < len(expected) < 40
    np.testing.assert_array_equal(upper.owned(), expected)
    upper.position[0, 1] = np.nextafter(model.membrane.side_nm, 0)
    assert 0 in upper.owned()


def test_broken_lipids_are_noticed():
    membrane = Membrane(crowd(), SingleProcess())
    membrane.check_finite()
    membrane.fields.own_density()[3, 5, 7] = -1
    with pytest.raises(FloatingPointError, match="lost their positive densities before t = 0 us"):
        membrane.check_finite()
    membrane.fields.own_density()[3, 5, 7] = 0
    membrane.check_finite()
    membrane.fields.pressure.pressure[0, 9, 9] = np.nan
    with pytest.raises(FloatingPointError, match=r"use a smaller numerics\.time_step_us"):
        membrane.check_finite()


def test_ranks_and_steps_that_do_not_fit_are_refused():
    class OneOfNine(SingleProcess):
        rank, size = 0, 9

    with pytest.raises(ValueError, match="9 ranks do not fit 72 rows"):
        Membrane(crowd(), OneOfNine())
    model = crowd()
    too_long = replace(model, numerics=replace(model.numerics, time_step_us=0.05))
    with pytest.raises(ValueError, match=r"time_step_us must be below 0\.04026 for noise"):
        Membrane(too_long, SingleProcess())


def test_adopted_potentials_act_from_the_next_step_on():
    model = crowd("numerics.noise.amplitude=0.0")
    plain, changed = (Membrane(model, SingleProcess()) for _ in range(2))
    weaker = replace(model.potentials, u=0.3 * model.potentials.u)
    changed.set_potentials(weaker, 7)
    assert (plain.parameter_version, changed.parameter_version) == (0, 7)
    for membrane in (plain, changed):
        for _ in range(3):
            membrane.advance()
    deviations = [
        np.abs(
            membrane.fields.own_density() * membrane.fields.quantum
            - model.lipids.bulk_density[:, None, None]
        ).max()
        for membrane in (plain, changed)
    ]
    assert deviations[0] > 1.5 * deviations[1] > 0
