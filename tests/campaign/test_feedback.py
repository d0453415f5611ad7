import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from campaign import feedback
from campaign.feedback import (
    FeedbackError,
    correlation_of,
    least_eigenvalue,
    lone_profiles,
    make_feedback,
    next_potentials,
    prior_counts,
)
from campaign.lone_counts import (
    SAME_PLACE_NM,
    LoneCounts,
    LoneProfiles,
    Observation,
    ring_crowding,
    tellable_states,
)
from campaign.molecular_dynamics.results import ALONE, MdResult, Surroundings, write_result
from campaign.molecular_dynamics.results import read_result as whole
from campaign.molecular_dynamics.settings import FeedbackLimits
from campaign.single_thread import single_threaded
from continuum import radial_equilibrium
from continuum.parameter_versions import read_parameter_version, version_path
from continuum.potential_inversion import shell_areas
from continuum.sweep_polynomial import check_steepness, largest_w
from tests.campaign.md_laboratory import (
    CHOL,
    INNER,
    MRAFA,
    MRASA,
    PAP6,
    RASA,
    RASB,
    START,
    STATES,
    TRUTH,
    ZRAFA,
    ZRASA,
    tables,
)

QUICK = FeedbackLimits(largest_change_kt=3.0)
TRUE_PROFILES = LoneProfiles(radii_nm=tables().radii_nm, g=tables().g)
BULK = START.lipids.bulk_density[INNER]


def expected_result(states, frames, *, around=ALONE, density=1.0, noise=None):
    """Mean counts of some states under the truth, or Poisson draws of them."""
    counts = np.zeros((9, 8, 600))
    for state in states:
        crowding = ring_crowding(around, state, TRUE_PROFILES)
        per_frame = BULK[:, None] * shell_areas(600) * TRUE_PROFILES.at_bins[state] * crowding
        counts[state] = density * frames * per_frame
    if noise is not None:
        counts = noise.poisson(counts).astype(np.float64)
    return MdResult(
        counts=counts,
        frames=frames,
        effective_frames=float(frames),
        simulated_us=1.0,
        surroundings=around,
    )


def around(*beads, counted=(0,)):
    """Surroundings of beads (state, x, y)."""
    return Surroundings(
        bead_state=np.array([bead[0] for bead in beads], dtype=np.int8),
        bead_position_nm=np.array([bead[1:] for bead in beads], dtype=np.float64),
        counted=np.array(counted, dtype=np.int64),
        box_nm=30.0,
    )


def fed_back(results, *, rounds=1, model=START, prior_frames=1.0, limits=QUICK, previous=None):
    potentials = previous or model.potentials
    outcome = None
    with single_threaded():
        for version in range(1, rounds + 1):
            potentials, outcome = next_potentials(
                potentials,
                [(Observation.of(result), 1.0) for result in results],
                model,
                version=version,
                jobs=[],
                prior_frames=prior_frames,
                limits=limits,
            )
    return potentials, outcome


def error_kt(potentials, state):
    near = TRUTH.potentials.radii_nm < 4.0
    return np.abs(potentials.u - TRUTH.potentials.u)[state][INNER][:, near].max()


@pytest.fixture
def run(tmp_path):
    """A run with results of ten jobs: RASa and, every third, RASb."""
    (tmp_path / "md").mkdir()
    rng = np.random.default_rng(8)
    for number in range(10):
        state = RASB if number % 3 == 0 else RASA
        result = expected_result([state], 200, noise=rng)
        write_result(tmp_path / "md" / f"{number:016x}.h5", result, f"{number:016x}", 1, number)
    return tmp_path


JOBS = [f"{number:016x}" for number in range(10)]
EQUAL = dict.fromkeys(JOBS, 1)


def make(run, version=1, jobs=JOBS, weights=EQUAL, **changes):
    values = {"prior_frames": 100.0, "limits": QUICK}
    return make_feedback(run, version, jobs, weights, START, **(values | changes))


def forget():
    """As a process that has just been started."""
    for memory in (
        feedback._observation,
        feedback._initial_profiles,
        feedback._least_at,
        feedback.correlation_of,
        radial_equilibrium._remembered,
        radial_equilibrium._bulk_response,
    ):
        memory.cache_clear()


def stored(run, version=1):
    return read_parameter_version(version_path(run / "parameters", version))


def test_exact_counts_lead_to_the_truth():
    potentials, outcome = fed_back([expected_result([RASA], 10_000)], rounds=2, prior_frames=1e-3)
    assert error_kt(potentials, RASA) < 0.01
    assert outcome.independent_frames["RASa"] == 10_000.0
    assert outcome.step == 1.0
    np.testing.assert_array_equal(potentials.u[:, ~INNER], START.potentials.u[:, ~INNER])
    others = [state for state in range(9) if state != RASA]
    np.testing.assert_array_equal(potentials.u[others], START.potentials.u[others])


def test_the_prior_says_what_the_initial_potentials_say():
    """N0 frames of it and N of the truth give (N0 g0 + N g*) / (N0 + N)."""
    with single_threaded():
        operator = correlation_of(START)
        counts = prior_counts(START, 300.0, operator)
        g0 = lone_profiles(START, START.potentials, operator).at_bins
    np.testing.assert_allclose(counts, 300.0 * BULK[:, None] * shell_areas(600) * g0, rtol=1e-12)
    unchanged = MdResult(counts=counts, frames=300, effective_frames=300.0, simulated_us=1.0)
    potentials, _ = fed_back([unchanged], prior_frames=300.0)
    assert np.abs(potentials.u - START.potentials.u).max() < 1e-4
    half, _ = fed_back([expected_result([RASA], 300)], rounds=3, prior_frames=300.0)
    with single_threaded():
        mixed = lone_profiles(START, half, operator).g[RASA, PAP6]
        initial = lone_profiles(START, START.potentials, operator).g[RASA, PAP6]
    truth = CubicSpline(tables().radii_nm, tables().g[RASA, PAP6])(operator.radii_nm)
    near = operator.radii_nm < 4.0
    np.testing.assert_allclose(mixed[near], 0.5 * (initial + truth)[near], rtol=2e-3)


def test_no_step_is_longer_than_the_limit():
    limits = FeedbackLimits(largest_change_kt=0.3)
    potentials, outcome = fed_back([expected_result([RASA], 10_000)], limits=limits)
    assert 0.29 < outcome.largest_change_kt < 0.301
    assert np.abs(potentials.u - START.potentials.u).max() < 0.301


def test_correlated_frames_count_as_what_they_are_worth():
    """Ten frames worth one weigh against the prior as one."""
    exact = expected_result([RASA], 100)
    correlated = MdResult(
        counts=10.0 * exact.counts, frames=1000, effective_frames=100.0, simulated_us=1.0
    )
    first, outcome = fed_back([exact], prior_frames=100.0)
    second, same = fed_back([correlated], prior_frames=100.0)
    np.testing.assert_allclose(second.u, first.u, atol=1e-9)
    assert outcome == same


def test_the_sum_is_what_a_slow_loop_gives():
    rng = np.random.default_rng(3)
    results = [expected_result([RASA, CHOL], 20, noise=rng) for _ in range(4)]
    weights = [0.5, 2.0, 1.0, 0.5]
    summed = LoneCounts.none(TRUE_PROFILES)
    seen = [Observation.of(result) for result in results]
    summed.add_all(zip(seen, weights, strict=True))
    slow = sum(w * result.counts for w, result in zip(weights, results, strict=True))
    np.testing.assert_allclose(summed.alone(), slow, rtol=1e-12)
    assert summed.frames[RASA] == 80.0
    assert summed.independent_frames()[RASA] == pytest.approx(80.0**2 / (20 * 5.5))
    assert summed.independent_frames()[RASB] == 0.0
    halves = [LoneCounts.none(TRUE_PROFILES) for _ in range(2)]
    halves[0].add_all([(seen[0], 0.5), (seen[1], 2.0)])
    halves[1].add_all([(seen[2], 1.0), (seen[3], 0.5)])
    halves[0].add(halves[1])
    np.testing.assert_allclose(halves[0].alone(), slow, rtol=1e-12)
    assert halves[0].independent_frames()[RASA] == summed.independent_frames()[RASA]


@pytest.mark.parametrize("largest", [200.0, 300.0, 70_000.0, 2.0**33, 0.5])
def test_an_observation_holds_counts_exactly(largest):
    counts = np.zeros((9, 8, 600))
    counts[RASA] = np.linspace(0.0, largest, 4800).round(0 if largest > 1 else 3).reshape(8, 600)
    result = MdResult(counts=counts, frames=1, effective_frames=1.0, simulated_us=1.0)
    seen = Observation.of(result)
    assert list(seen.counts) == [RASA]
    np.testing.assert_array_equal(seen.counts[RASA], counts[RASA])


def test_rings_are_crowded_as_a_slow_sum_over_a_fine_ring_says():
    beads = [(RASB, 29.0, 2.0), (RASA, 3.5, 1.0), (MRAFA, 25.0, 28.0)]
    crowding = ring_crowding(around(*beads), RASB, TRUE_PROFILES)
    angle = np.linspace(0.0, 2.0 * np.pi, 2000, endpoint=False)
    for number in (3, 150, 300, 599):
        r = (number + 0.5) * 0.02
        x, y = 29.0 + r * np.cos(angle), 2.0 + r * np.sin(angle)
        product = np.ones((8, angle.size))
        for state, bead_x, bead_y in beads[1:]:
            away_x, away_y = x - bead_x, y - bead_y
            away_x, away_y = (a - 30.0 * np.rint(a / 30.0) for a in (away_x, away_y))
            distance = np.hypot(away_x, away_y)
            g = CubicSpline(tables().radii_nm, tables().g[state], axis=1)(np.minimum(distance, 16))
            product *= g
        np.testing.assert_allclose(crowding[:, number], product.mean(axis=1), rtol=2e-3)
    assert crowding[PAP6].max() > 1.5


def test_a_lone_protein_is_not_crowded():
    for alone in (ALONE, around((RASA, 15.0, 15.0))):
        crowding = ring_crowding(alone, RASA, TRUE_PROFILES)
        np.testing.assert_allclose(crowding, 1.0, rtol=0, atol=1e-14)


def test_what_neighbours_gather_is_not_laid_to_the_protein():
    """Both beads of a complex; ignoring neighbours would miss by more than a kT.

    Their errors feed each other, and fall by about a third in every version.
    """
    both = around((MRASA, 15.0, 15.0), (MRAFA, 18.0, 15.0), counted=(0, 1))
    result = expected_result([MRASA, MRAFA], 10_000, around=both)
    limits = FeedbackLimits()
    potentials, _ = fed_back([result], rounds=9, prior_frames=1e-3, limits=limits)
    assert error_kt(potentials, MRASA) < 0.05
    assert error_kt(potentials, MRAFA) < 0.1
    blind = replace(result, surroundings=ALONE)
    potentials, _ = fed_back([blind], rounds=2, prior_frames=1e-3)
    assert error_kt(potentials, MRASA) > 1.0


def test_patches_of_other_density_do_not_distort_the_crowding():
    """A dense patch with one pattern of neighbours, a thin one with another."""
    near, far = (around((RASB, 15.0, 15.0), (RASA, 15.0 + d, 15.0)) for d in (2.5, 7.0))
    results = [
        expected_result([RASB], 3000, around=near, density=0.6),
        expected_result([RASB], 3000, around=far, density=1.7),
        expected_result([RASA], 3000),
    ]
    potentials, _ = fed_back(results, rounds=5, prior_frames=1e-3)
    assert error_kt(potentials, RASB) < 0.02


def test_two_beads_in_one_place_are_one_to_the_lipids():
    """RAF of a z complex has no potential of its own and must not be given half of RAS's."""
    both = around((ZRASA, 15.0, 15.0), (ZRAFA, 15.2, 14.9), counted=(0, 1))
    result = expected_result([ZRASA, ZRAFA], 10_000, around=both)
    potentials, outcome = fed_back([result], rounds=2, prior_frames=1e-3)
    assert error_kt(potentials, ZRASA) < 0.02
    np.testing.assert_array_equal(potentials.u[ZRAFA], START.potentials.u[ZRAFA])
    assert outcome.independent_frames["zRAFa"] == 0.0


def test_a_bond_keeps_two_beads_in_one_place_or_apart():
    """A z complex that tells of its RAF now and then lets the potentials of both beads drift."""
    r = np.linspace(0.0, 6.0, 6001)
    for bond in START.proteins.complexes:
        energy_kt = bond.bond_stiffness_kt_per_nm2 / 2 * (r - bond.rest_length_nm) ** 2
        weight = r * np.exp(-energy_kt)
        near = weight[r < SAME_PLACE_NM].sum() / weight.sum()
        assert near > 0.999 if bond.rest_length_nm == 0 else near < 0.001
    for apart_nm, tells in ((SAME_PLACE_NM - 0.01, False), (SAME_PLACE_NM + 0.01, True)):
        both = around((ZRASA, 15.0, 15.0), (ZRAFA, 15.0 + apart_nm, 15.0), counted=(0, 1))
        result = expected_result([ZRASA, ZRAFA], 100, around=both)
        assert tellable_states(result) == ({ZRASA, ZRAFA} if tells else {ZRASA})


def test_too_few_counts_change_nothing():
    result = expected_result([RASA], 20)
    potentials, _ = fed_back([result], prior_frames=1.0)
    with single_threaded():
        prior = prior_counts(START, 1.0, correlation_of(START))
    enough = (result.counts + prior)[RASA, :, :150].sum(axis=1) >= 200.0
    assert 0 < enough.sum() < 8
    changed = np.abs(potentials.u - START.potentials.u)[RASA][INNER].max(axis=1) > 0.0
    np.testing.assert_array_equal(changed, enough)


def test_a_version_says_where_it_comes_from(run):
    outcome, crc = make(run, jobs=JOBS[:6], weights={job: 1 + i for i, job in enumerate(JOBS)})
    version = stored(run)
    assert version.version == 1
    assert version.state_names == tuple(STATES)
    assert version.lipid_labels == START.lipids.labels
    assert crc == zlib.crc32(version.potentials.u.tobytes())
    said = json.loads(version.provenance)
    assert said["jobs"] == outcome.jobs == 6
    assert said["jobs_crc32"] == zlib.crc32("\n".join(JOBS[:6]).encode())
    weights = np.arange(1, 7) / 3.5
    rasb = weights[[0, 3]]
    expected = rasb.sum() ** 2 / (rasb**2).sum() * 200.0
    assert said["independent_frames"]["RASb"] == pytest.approx(expected, rel=1e-5)
    assert said["largest_change_kt"] > 0.5
    assert said["least_eigenvalue"] > 0.1


def test_the_same_jobs_make_the_same_bytes_in_whatever_order(run, tmp_path_factory):
    make(run, weights={job: 1 + i for i, job in enumerate(JOBS)})
    other = tmp_path_factory.mktemp("other")
    (other / "md").symlink_to(run / "md")
    # scaled weights are the same weights
    make(other, jobs=JOBS[::-1], weights={job: 3 * (1 + i) for i, job in enumerate(JOBS)})
    first, second = (version_path(folder / "parameters", 1) for folder in (run, other))
    assert first.read_bytes() == second.read_bytes()


def test_weights_decide_between_jobs_that_disagree(run):
    odd = {job: 1000.0 if int(job, 16) == 1 else 1.0 for job in JOBS}
    outcome, _ = make(run, weights=odd)
    assert outcome.independent_frames["RASa"] == pytest.approx(200.0, rel=0.03)
    other = run / "other"
    (other / "parameters").mkdir(parents=True)
    (other / "md").symlink_to(run / "md")
    equal, _ = make(other)
    assert equal.independent_frames["RASa"] == pytest.approx(1200.0)
    assert np.abs(stored(run).potentials.u - stored(other).potentials.u).max() > 0.01


def test_making_a_version_again_changes_nothing(run):
    first = make(run)
    path = version_path(run / "parameters", 1)
    written = path.stat().st_mtime_ns
    assert make(run) == first
    assert path.stat().st_mtime_ns == written
    assert make(run, version=2)[0].version == 2
    assert make(run) == first


def test_each_result_is_read_once_for_all_versions(run, monkeypatch):
    read = []
    monkeypatch.setattr(feedback, "read_result", lambda path: read.append(path) or whole(path))
    make(run, 1, JOBS[:6])
    assert len(read) == 6
    make(run, 2, JOBS)
    assert sorted(path.stem for path in read) == JOBS
    (run / "md" / f"{JOBS[0]}.h5").write_bytes(b"damaged since")
    with pytest.raises(FeedbackError, match=f"the result of job {JOBS[0]} cannot be used"):
        make(run, 3)


def test_who_remembers_nothing_makes_the_same_bytes(run):
    for version in (1, 2, 3):
        make(run, version, JOBS[: 4 + 3 * version])
    kept = version_path(run / "parameters", 3).read_bytes()
    version_path(run / "parameters", 3).unlink()
    forget()
    make(run, 3, JOBS)
    assert version_path(run / "parameters", 3).read_bytes() == kept


def test_another_content_under_the_same_number_is_refused(run):
    make(run)
    before = version_path(run / "parameters", 1).read_bytes()
    with pytest.raises(FeedbackError, match="exists with other potentials than its jobs give"):
        make(run, jobs=JOBS[:5])
    assert version_path(run / "parameters", 1).read_bytes() == before
    version_path(run / "parameters", 1).write_bytes(before[:2000])
    with pytest.raises(FeedbackError, match="version 1 is there but damaged"):
        make(run)


def test_a_version_stands_on_the_one_before_it(run):
    with pytest.raises(FeedbackError, match="version 2 needs the one before it"):
        make(run, version=2)
    with pytest.raises(ValueError, match="versions from 1 on, got 0"):
        make(run, version=0)
    slow = FeedbackLimits(largest_change_kt=0.1)
    make(run, limits=slow)
    make(run, version=2, limits=slow)
    wells = [stored(run, version).potentials.u[RASA, PAP6].min() for version in (1, 2)]
    start = START.potentials.u[RASA, PAP6].min()
    assert start > wells[0] > wells[1]
    assert 0.12 < start - wells[1] < 0.201


def test_results_that_cannot_be_used_are_named(run):
    missing = f"{99:016x}"
    with pytest.raises(FeedbackError, match=f"job {missing} has no weight"):
        make(run, jobs=[*JOBS, missing])
    with pytest.raises(FeedbackError, match=f"result of job {missing} cannot be used: .*No such"):
        make(run, jobs=[*JOBS, missing], weights={**EQUAL, missing: 1})
    damaged = run / "md" / f"{JOBS[4]}.h5"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    with pytest.raises(FeedbackError, match=f"the result of job {JOBS[4]} cannot be used"):
        make(run)
    for wrong in (0.0, -1.0, np.nan):
        with pytest.raises(FeedbackError, match="weights must be > 0"):
            make(run, weights={**EQUAL, JOBS[2]: wrong})
    with pytest.raises(ValueError, match="prior_frames must be > 0, got 0"):
        make(run, prior_frames=0.0)
    assert not (run / "parameters").exists()


def test_no_jobs_make_a_version_like_the_one_before(run):
    make(run, jobs=[], weights={})
    np.testing.assert_array_equal(stored(run).potentials.u, START.potentials.u)


def test_stability_is_judged_at_the_densities_around_proteins():
    """PAP6 that likes itself is stable in bulk, and not where a protein gathers much of it."""
    with single_threaded():
        operator = correlation_of(START)
        found = least_eigenvalue(START, TRUTH.potentials, operator)
    assert 0.3 < found < 0.45
    coupling = START.correlation.couplings[0]
    matrix = coupling.matrix.copy()
    matrix[PAP6, PAP6] = 0.5
    sticky = replace(
        START,
        correlation=replace(
            START.correlation,
            couplings=(replace(coupling, matrix=matrix), *START.correlation.couplings[1:]),
        ),
    )
    with single_threaded():
        operator = correlation_of(sticky)
        calm = least_eigenvalue(sticky, START.potentials, operator)
        steep = least_eigenvalue(sticky, TRUTH.potentials, operator)
    assert calm > 0.1 > steep
    potentials, outcome = fed_back([expected_result([RASA], 5000)], model=sticky)
    assert outcome.least_eigenvalue >= 0.1
    assert 0.0 < outcome.step < 1.0
    change = np.abs(potentials.u - START.potentials.u).max()
    assert change == pytest.approx(outcome.largest_change_kt, abs=1e-6)
    assert feedback._SMALLEST_STEP == 1.0 / 16.0


def test_what_is_fed_back_is_never_too_steep_for_the_sweeps_of_the_run():
    """A narrow gap in the counts, taken at its word, would end the campaign."""
    gap = expected_result([RASA], 5000)
    gap.counts[RASA, PAP6, 60:100] = 0.0
    limits = QUICK.model_copy(
        update={
            "smoothing_nm": 0.05,
            "least_g": 1e-6,
            "largest_change_kt": 12.0,
            "largest_u_kt": 12.0,
        }
    )
    spacing_nm = START.membrane.spacing_nm
    potentials, outcome = fed_back([gap], limits=limits)
    assert 0.0 < outcome.step < 1.0
    assert outcome.least_eigenvalue > 0.1
    check_steepness(potentials, spacing_nm, largest_w(START.potentials, spacing_nm))
