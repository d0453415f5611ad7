import numpy as np
import pytest

from continuum.correlation import c_of_k
from continuum.decomposition import Slab
from continuum.grid_transfer import WEIGHTS, spread_row
from continuum.halo import SingleProcess
from continuum.lipid_interactions import (
    CouplingPotentials,
    coarse_sigma,
    coarsening_factor,
    low_rank,
)
from tests.continuum.laboratory import LipidTank, bumps, correlation, lipids, model_of, wave
from tests.continuum.reference_solver import ReferenceMembrane

MATRIX = [[0.04, -0.03, 0.02], [-0.03, 0.05, 0.01], [0.02, 0.01, -0.06]]
OF_RANK_ONE = np.outer([0.2, -0.1, 0.15], [0.2, -0.1, 0.15])
LIPIDS = lipids([20.0, 60.0, 40.0], [0.7, 0.4, 0.9], [0, 0, 1], [1.2, 0.7, 1.0])
QUANTUM = 2.0**-56


def potentials(model, density):
    """(S, y, x) kT and crowding (2, y, x) of a density, from a first evaluation."""
    cells, halo, h = model.membrane.cells, 8, model.membrane.spacing_nm
    slab = Slab(cells=cells, first_row=0, rows=cells)
    couplings = CouplingPotentials(
        lipids=model.lipids,
        correlation=model.correlation,
        slab=slab,
        world=SingleProcess(),
        spacing_nm=h,
        sweep_halo=halo,
        dtype=np.float64,
    )
    quanta = np.rint(density / QUANTUM).astype(np.int64)
    quanta = np.concatenate([quanta[:, -halo:], quanta, quanta[:, :halo]], axis=1)
    crowding = np.full((2, cells + 8, cells), np.nan)
    couplings.refresh(quanta, halo, QUANTUM, crowding, 4)
    result = np.empty_like(density)
    scratch = np.empty(cells // couplings.factor + 4)
    for s in range(len(density)):
        for row in range(cells):
            spread_row(
                couplings.potential[s],
                couplings.halo,
                row,
                couplings.factor,
                np.array(WEIGHTS),
                scratch,
                result[s, row],
            )
    return result, crowding[:, 4:-4]


@pytest.mark.parametrize(
    ("terms", "factor", "tolerance"),
    [
        (((1.7, MATRIX),), 2, 2e-3),
        (((1.0, MATRIX),), 1, 2e-3),
        (((1.7, MATRIX), (2.6, np.eye(3) * 0.02)), 2, 2e-3),
        (((1.7, OF_RANK_ONE),), 2, 2e-3),
        (((1.7, OF_RANK_ONE), (2.6, MATRIX)), 2, 2e-3),
        ((), 2, 0.0),
    ],
)
def test_potentials_are_exact_convolutions_of_smooth_densities(terms, factor, tolerance):
    cells, h = 32, 0.8
    model = model_of(LIPIDS, correlation(*terms), cells=cells, spacing_nm=h)
    assert coarsening_factor(model.correlation, h) == factor
    density = LIPIDS.bulk_density[:, None, None] * bumps(cells, 3)
    found, crowding = potentials(model, density)
    exact = ReferenceMembrane(model).excess(density)
    assert np.linalg.norm(found - exact) <= tolerance * np.linalg.norm(exact)
    deviation = density - LIPIDS.bulk_density[:, None, None]
    for leaflet in (0, 1):
        own = LIPIDS.leaflet == leaflet
        expected = np.tensordot(LIPIDS.area_weight[own], deviation[own], 1)
        np.testing.assert_allclose(crowding[leaflet], expected, rtol=0, atol=1e-14)


def test_a_matrix_of_low_rank_is_split_and_another_is_not():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 6))
    matrix = vectors.T @ np.diag([1.0, -0.3]) @ vectors
    onto, mixing = low_rank(matrix)
    assert onto.shape == (6, 2)
    np.testing.assert_allclose(onto @ mixing, matrix, rtol=0, atol=1e-14 * np.abs(matrix).max())
    assert low_rank(np.eye(6)) is None


@pytest.mark.parametrize(("range_nm", "factor"), [(1.7, 2), (1.0, 1)])
def test_the_interaction_is_symmetric(range_nm, factor):
    """<a_i, V_i[b_j]> = <b_j, V_j[a_i]>: an exact gradient of a discrete free energy."""
    model = model_of(LIPIDS, correlation((range_nm, MATRIX)), cells=24)
    assert coarsening_factor(model.correlation, 0.8) == factor
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-0.3, 0.3, (2, 24, 24))
    bulk = np.repeat(LIPIDS.bulk_density[:, None, None], 24, axis=1).repeat(24, axis=2)
    for i, j in ((0, 1), (1, 2), (2, 0), (1, 1)):
        from_a, from_b = bulk.copy(), bulk.copy()
        from_a[i] += a
        from_b[j] += b
        left = np.vdot(a, potentials(model, from_b)[0][i])
        right = np.vdot(b, potentials(model, from_a)[0][j])
        assert left == pytest.approx(right, rel=1e-10)


def test_a_step_moves_each_lipid_by_its_coupling_to_the_others():
    """Linear response to a wave in one species: Δn_i = (1 - P) n_i Σ_j C_ij(k) Δn_j."""
    cells, h, dt_us = 32, 0.8, 0.004
    model = model_of(LIPIDS, correlation((1.7, MATRIX)), cells=cells, spacing_nm=h, dt_us=dt_us)
    for kx, ky in ((1, 0), (0, 2), (2, -1)):
        shape = wave(cells, kx, ky)
        k = 2 * np.pi / cells / h * np.hypot(kx, ky)
        c = c_of_k(LIPIDS, model.correlation, np.array([k]))[0]
        for j in range(3):
            tank = LipidTank(model)
            density = np.ones((3, cells, cells)) * LIPIDS.bulk_density[:, None, None]
            density[j] += 1e-4 * shape
            tank.density = density
            tank.advance()
            response = 2 * (shape * tank.density).mean(axis=(1, 2)) / 1e-4
            for i in range(3):
                if i == j:
                    continue
                kept = np.exp(-LIPIDS.diffusivity[i] * k**2 * dt_us)
                expected = (1 - kept) * LIPIDS.bulk_density[i] * c[i, j]
                assert response[i] == pytest.approx(expected, rel=0.03)


def test_gaussians_too_narrow_for_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"range_nm of a coupling must be at least 0.36 .* 0.3"):
        LipidTank(model_of(LIPIDS, correlation((0.3, MATRIX))))
    assert coarse_sigma(0.3, 0.8, 1) is None
    assert coarse_sigma(1.0, 0.8, 2) is None
