import numpy as np
import pytest

from continuum import radial_equilibrium
from continuum.configuration import load_model
from continuum.correlation import c_of_k
from continuum.parameters import Correlation, GaussianCoupling, RadialPotentials
from continuum.radial_equilibrium import (
    equilibrium_profiles,
    gaussian_kernel,
    potential_on,
    protein_profiles,
    radial_correlation,
)

WEAK = load_model("published")
STRONG = load_model("published", ["potentials.strength=1.2"])
RASB = 1  # its coupling is 1, the m of membrane-physics 7.6


def strong_case(spacing_nm=0.05):
    operator = radial_correlation(STRONG.lipids, STRONG.correlation, spacing_nm)
    return operator, potential_on(operator.radii_nm, STRONG.potentials, RASB)


def test_the_convolution_of_two_gaussians_is_a_gaussian():
    matrix = np.eye(14)
    correlation = Correlation(
        couplings=(GaussianCoupling(range_nm=0.5, matrix=matrix),), repulsion=None
    )
    operator = radial_correlation(WEAK.lipids, correlation)
    r, width = operator.radii_nm, 0.9
    h = np.exp(-(r**2) / (2 * width**2)) * np.ones((14, 1))
    total = 0.5**2 + width**2
    area = 2 * np.pi * 0.5**2 * width**2 / total
    expected = WEAK.lipids.bulk_density[:, None] * area * np.exp(-(r**2) / (2 * total))
    np.testing.assert_allclose(operator.apply(h), expected, rtol=0, atol=1e-6)


def test_a_profile_that_is_remembered_is_that_of_its_operator_and_potentials_alone(monkeypatch):
    operator, u = strong_case(0.1)
    wider = radial_correlation(STRONG.lipids, STRONG.correlation, 0.1, extent_nm=17.0)
    first = equilibrium_profiles(operator, u).copy()
    again = equilibrium_profiles(operator, u.copy())
    np.testing.assert_array_equal(again, first)
    again[:] = 7.0
    other = equilibrium_profiles(operator, 0.5 * u)
    assert np.abs(other - first).max() > 0.1
    beyond = equilibrium_profiles(wider, np.pad(u, ((0, 0), (0, 10))))
    assert beyond.shape[1] == first.shape[1] + 10

    def never(*arguments):
        raise AssertionError("it was solved before")

    monkeypatch.setattr(radial_equilibrium, "_newton_step", never)
    np.testing.assert_array_equal(equilibrium_profiles(operator, u), first)


def test_few_modes_carry_the_whole_kernel():
    operator, _ = strong_case(0.1)
    r = operator.radii_nm
    for part in operator.parts:
        assert part.strength.size < 0.5 * r.size
        whole = gaussian_kernel(r, r, part.range_nm)
        carried = (part.modes * part.strength) @ part.modes.T
        np.testing.assert_allclose(carried, whole, rtol=0, atol=1e-12)


def test_where_nothing_disturbs_lipids_the_preconditioner_solves_at_once():
    operator, _ = strong_case(0.1)
    r = operator.radii_nm
    species = np.random.default_rng(0).normal(size=(14, 1))
    wanted = species * np.sqrt(r) * np.exp(-0.5 * (r - 3.0) ** 2)
    scale = radial_equilibrium._bulk_scale(operator)
    given = wanted - scale * operator.field_of(scale * wanted)
    assert np.abs(given - wanted).max() > 10.0
    found = radial_equilibrium._bulk_response(operator).apply(given.ravel())
    np.testing.assert_allclose(found, wanted.ravel(), rtol=0, atol=0.01)


def test_the_kernel_is_the_mean_over_directions():
    angle = 2 * np.pi * (np.arange(720) + 0.5) / 720
    r, source = np.array([0.0, 0.7, 5.0]), np.array([0.3, 4.6])
    kernel = gaussian_kernel(r, source, 0.8)
    for a in range(3):
        for b in range(2):
            squared = r[a] ** 2 + source[b] ** 2 - 2 * r[a] * source[b] * np.cos(angle)
            slow = np.mean(np.exp(-squared / (2 * 0.8**2)))
            assert kernel[a, b] == pytest.approx(slow, rel=1e-9)


# membrane-physics 7.6; outer lipids: +17 % DIPE and -10 % DPSM at 1.2
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (WEAK, {6: (2.2, 0.05), 5: (1.15, 0.02), 7: (0.62, 0.005)}),
        (
            STRONG,
            {6: (7.1, 0.05), 5: (1.32, 0.005), 7: (0.43, 0.005), 11: (1.17, 0.01), 12: (0.9, 0.01)},
        ),
    ],
    ids=["0.4", "1.2"],
)
def test_enrichment_at_a_protein_is_that_of_the_reference(model, expected):
    _, g = protein_profiles(model)
    assert g.shape[:2] == (9, 14)
    for lipid, (value, tolerance) in expected.items():
        assert g[RASB, lipid, 0] == pytest.approx(value, abs=tolerance)


def test_profiles_satisfy_stationarity_on_a_two_dimensional_grid():
    """Independent of the radial quadrature: the field of the profile on a plane, by FFT."""
    operator, u = strong_case()
    g = equilibrium_profiles(operator, u)
    cells, side_nm = 160, 40.0
    axis = (np.arange(cells) + 0.5) * side_nm / cells - side_nm / 2
    distance = np.hypot(axis[:, None], axis[None, :])
    inside = distance < operator.radii_nm[-1]
    excess = np.zeros((14, cells, cells))
    for lipid in range(14):
        h = np.interp(distance, operator.radii_nm, g[lipid] - 1)
        excess[lipid] = np.where(inside, STRONG.lipids.bulk_density[lipid] * h, 0)
    k = 2 * np.pi * np.fft.fftfreq(cells, side_nm / cells)
    waves, which = np.unique(np.hypot(k[:, None], k[None, :]), return_inverse=True)
    c = c_of_k(STRONG.lipids, STRONG.correlation, waves)[which.reshape(cells, cells)]
    field = np.fft.ifft2(np.einsum("yxij,jyx->iyx", c, np.fft.fft2(excess))).real
    near = distance < 6.0
    for lipid in range(14):
        density = np.interp(distance[near], operator.radii_nm, g[lipid])
        potential = np.interp(distance[near], operator.radii_nm, u[lipid])
        residual = np.log(density) + potential - field[lipid][near]
        assert np.abs(residual).max() < 2e-3  # of linear interpolation


def test_the_profile_converges_at_fourth_order_in_the_radial_spacing():
    values = []
    for spacing_nm in (0.2, 0.1, 0.05):
        operator, u = strong_case(spacing_nm)
        values.append(equilibrium_profiles(operator, u)[:, 0])
    coarse, fine = np.abs(values[0] - values[2]).max(), np.abs(values[1] - values[2]).max()
    assert 8 < coarse / fine < 64
    assert fine < 1e-3


def test_the_extent_of_the_grid_does_not_matter():
    _, u = strong_case()
    wider = radial_correlation(STRONG.lipids, STRONG.correlation, extent_nm=20.0)
    further = equilibrium_profiles(wider, potential_on(wider.radii_nm, STRONG.potentials, RASB))
    operator, u = strong_case()
    g = equilibrium_profiles(operator, u)
    np.testing.assert_allclose(further[:, : g.shape[1]], g, rtol=0, atol=1e-6)


def test_a_potential_between_the_points_of_its_table_has_no_cusp_at_the_protein():
    table = np.cos(np.arange(51.0))[None, None, :] * (np.arange(51) < 50)
    potentials = RadialPotentials(u=table, dr_nm=0.2, cutoff_nm=10.0)
    r = np.array([0.0, 1e-4, 2e-4, 0.2, 10.0, 12.0])
    u = potential_on(r, potentials, 0)[0]
    assert abs((u[2] - u[0]) / (u[1] - u[0]) - 4.0) < 1e-2  # a parabola
    np.testing.assert_allclose(u[3:], [np.cos(1.0), 0.0, 0.0], rtol=0, atol=1e-15)


def test_without_a_potential_nothing_gathers():
    operator, u = strong_case()
    assert np.array_equal(equilibrium_profiles(operator, 0 * u), np.ones_like(u))


def test_ideal_lipids_follow_boltzmann():
    operator = radial_correlation(WEAK.lipids, Correlation(couplings=(), repulsion=None))
    u = potential_on(operator.radii_nm, STRONG.potentials, RASB)
    np.testing.assert_allclose(equilibrium_profiles(operator, u), np.exp(-u), rtol=1e-12)


def test_a_weak_potential_gives_the_linear_response():
    """h = -M⁻¹-response in Fourier space; here its integral, (k = 0)."""
    operator, u = strong_case()
    weak = 1e-6 * u
    h = equilibrium_profiles(operator, weak) - 1
    integral = h @ operator.weight
    forcing = -(weak @ operator.weight)
    c = c_of_k(STRONG.lipids, STRONG.correlation, np.zeros(1))[0]
    expected = np.linalg.solve(np.eye(14) - c * STRONG.lipids.bulk_density, forcing)
    np.testing.assert_allclose(integral, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_held_profiles_stay_and_the_others_respond_consistently():
    operator, u = strong_case()
    g = equilibrium_profiles(operator, u)
    held = STRONG.lipids.leaflet == 0
    garbled = np.where(held[:, None], g, 7.0)
    again = equilibrium_profiles(
        operator, np.where(held[:, None], 5.0, u), held=held, held_g=garbled
    )
    np.testing.assert_allclose(again, g, rtol=0, atol=1e-9)


def test_condensing_lipids_are_refused():
    matrix = np.diag([3.0] + [0.0] * 13)
    condensing = Correlation(
        couplings=(GaussianCoupling(range_nm=1.0, matrix=matrix),), repulsion=None
    )
    operator = radial_correlation(WEAK.lipids, condensing)
    u = potential_on(operator.radii_nm, STRONG.potentials, RASB)
    with pytest.raises(ValueError, match="no equilibrium profile found"):
        equilibrium_profiles(operator, 10 * u)


def test_a_spacing_too_coarse_for_the_gaussians_is_refused():
    with pytest.raises(ValueError, match=r"spacing_nm must be > 0 and <= 0\.25, got 0\.3"):
        radial_correlation(WEAK.lipids, WEAK.correlation, spacing_nm=0.3)
