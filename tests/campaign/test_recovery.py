import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from campaign import feedback
from campaign.analysis.control import control_recovery
from campaign.analysis.embedding import AnalysisError
from campaign.configuration import read_campaign, rules_of
from campaign.local_executor import make_version
from campaign.molecular_dynamics.hidden_truth import FILE_NAME, write_truth
from campaign.molecular_dynamics.poisson import PoissonEngine
from campaign.molecular_dynamics.settings import PoissonSettings
from campaign.plan import MakeFeedback
from campaign.recovery import (
    lone_patch,
    recover_without_membrane,
    recovery_by_version,
    recovery_study,
)
from campaign.recovery_bars import GROUPS, standard_errors_kt, weights_behind
from campaign.recovery_errors import depths_kt, potential_errors_kt, recovery_of
from campaign.selection_weights import write_weights
from continuum.parameter_versions import read_parameter_version, version_path
from tests.campaign.md_laboratory import (
    INNER,
    MRAFA,
    MRASA,
    PAP6,
    RASA,
    RASB,
    START,
    STATES,
    ZRAFA,
    tables,
)


@pytest.fixture(scope="module")
def recovered(tmp_path_factory):
    """Eight feedbacks of two jobs each on lone RASa and RASb: 6,400 frames each in the end."""
    run = tmp_path_factory.mktemp("recovery")
    (run / "md").mkdir()
    write_truth(run / FILE_NAME, tables())
    engine = PoissonEngine(PoissonSettings(), tables())
    jobs = recover_without_membrane(
        run,
        engine,
        START,
        states=[RASA, RASB],
        feedbacks=8,
        jobs_per_feedback=2,
        duration_us=400.0,
        prior_frames=200.0,
    )
    return run, jobs


def test_feedback_finds_the_truth(recovered):
    """From λ = 0.4 to λ = 1.2: errors of 40 % of the PAP6 well fall below 10 %."""
    run, jobs = recovered
    recoveries = recovery_by_version(run, START, tables())
    assert [recovery.version for recovery in recoveries] == list(range(9))
    assert len(jobs) == 16
    simulated = [RASA, RASB]
    first, last = recoveries[0].fraction[simulated], recoveries[-1].fraction[simulated]
    assert (first[:, PAP6] > 0.35).all()
    assert last.max() < 0.1
    assert last[:, PAP6].max() < 0.06
    by_version = np.array([recovery.fraction[simulated, PAP6].mean() for recovery in recoveries])
    assert (np.diff(by_version[:7]) < 0.0).all()
    np.testing.assert_allclose(recoveries[-1].frames[simulated], 6400.0)
    others = [state for state in range(9) if state not in simulated]
    np.testing.assert_array_equal(recoveries[-1].error_kt[others], recoveries[0].error_kt[others])


def test_error_bars_are_of_the_size_of_the_errors(recovered):
    run, jobs = recovered
    last = read_parameter_version(version_path(run / "parameters", 8)).potentials
    weights = dict.fromkeys(jobs, 2.0)
    bars = standard_errors_kt(run, jobs, weights, last, START, prior_frames=200.0)
    errors = potential_errors_kt(last.u[:, INNER], tables())
    simulated = [RASA, RASB]
    assert 0.2 < (errors[simulated] / bars[simulated]).mean() < 4.0
    others = [state for state in range(9) if state not in simulated]
    np.testing.assert_allclose(bars[others], 0.0, atol=1e-9)
    with pytest.raises(ValueError, match=f"over {GROUPS} groups needs as many jobs, got 3"):
        standard_errors_kt(run, jobs[:3], weights, last, START, prior_frames=200.0)


def test_the_report_has_a_figure_numbers_a_table_and_a_sentence(recovered, tmp_path):
    run, jobs = recovered
    asked = []

    def weights(version):
        asked.append(version)
        return dict.fromkeys(jobs[: 2 * version], 1.0)

    uncoupled = recovery_of(START.potentials, tables(), START, version=0, frames={})
    study = recovery_study(run, START, weights=weights, bars=2, control=uncoupled)
    FigureCanvasAgg(study.figure).print_figure(tmp_path / "recovery.png", dpi=50)
    numbers = json.loads(json.dumps(study.numbers))
    last = numbers["last"]
    assert last["version"] == 8
    assert last["lipid_of_the_well"] == "inner PAP6"
    assert last["mean_error_fraction_of_depth"] < 0.06
    assert last["states"]["RASa"]["standard_error_fraction"]["inner PAP6"] > 0.0
    assert numbers["control"] == numbers["first"]
    by_version = numbers["error_fraction_by_version"]["RASa"]
    assert by_version[0] == numbers["control"]["states"]["RASa"]["error_fraction"]["inner PAP6"]
    assert by_version[8] == last["states"]["RASa"]["error_fraction"]["inner PAP6"]
    assert len(by_version) == 9
    assert sorted(asked) == [1, 8]
    row = next(line for line in study.table if line.startswith("RASa")).split()
    assert row[3] == row[-1] == f"{100 * by_version[0]:.1f}%"
    assert row[4] == f"{100 * by_version[8]:.1f}%"
    assert "After 8 feedbacks" in study.sentence
    assert "Without feedback" in study.sentence
    labels = [axes.get_xlabel() for part in study.figure.subfigs for axes in part.axes]
    assert "distance r (nm)" in labels
    assert "parameter version" in labels


def test_without_a_truth_there_is_nothing_to_compare_with(tmp_path):
    study = recovery_study(tmp_path, START)
    assert study.figure is None
    assert study.numbers == {}
    assert "no hidden truth" in study.sentence


def test_errors_are_means_over_area_in_units_of_the_well():
    u = tables().u.copy()
    radii_nm = np.arange(u.shape[2]) * tables().u_dr_nm
    u[RASA, PAP6] += 0.3 * (radii_nm < 2.0)
    u[RASB, PAP6] += 5.0 * (radii_nm > 4.0)
    errors = potential_errors_kt(u, tables())
    assert errors[RASA, PAP6] == pytest.approx(0.3 * np.sqrt(4.0 / 16.0), rel=0.01)
    assert errors.sum() == errors[RASA, PAP6]
    depth, deepest = depths_kt(tables())
    assert deepest == PAP6
    assert depth[RASA] == pytest.approx(2.48, abs=0.01)
    real = [state for state in range(9) if state != ZRAFA]
    assert depth[ZRAFA] == pytest.approx(depth[real].mean())


def test_lone_patches_are_bulk_around_one_protein():
    patch = lone_patch(START, MRASA, patch_id=5)
    assert patch.patch_id == 5
    assert patch.central_state == MRASA
    assert patch.bead_state.tolist() == [MRASA, MRAFA]
    assert patch.bead_position_nm.tolist() == [[0.0, 0.0], [3.0, 0.0]]
    np.testing.assert_allclose(
        patch.density[:, 18, 18], START.lipids.bulk_density.astype(np.float32)
    )
    assert lone_patch(START, RASA).bead_state.tolist() == [RASA]
    assert patch.state_names == tuple(STATES)


@pytest.mark.parametrize(("how", "expected"), [("equal", [1, 1]), ("selector", [3, 9])])
def test_jobs_count_as_the_configuration_says(how, expected, monkeypatch, tmp_path):
    """In a version and in its error bars alike."""
    setup = read_campaign("small", [f"feedback.weights={how}"])
    counted = {}

    def make(run, version, jobs, weights, model, **settings):
        counted.update({job: weights[job] for job in jobs})
        return None, 7

    monkeypatch.setattr(feedback, "make_feedback", make)
    action = MakeFeedback(version=2, boundary_snapshot=4, jobs=("b",), earlier=("a",))
    made = make_version(tmp_path, setup, action, {"a": 3, "b": 9})
    assert counted == dict(zip("ab", expected, strict=True))
    write_weights(
        tmp_path / "selections", 4 - setup.config.feedback.lag_snapshots, {"a": 3, "b": 9}
    )
    state = SimpleNamespace(versions=[replace(made, jobs=("a",)), made], rules=rules_of(setup))
    assert weights_behind(tmp_path, state, setup.config.feedback, 2) == counted


def test_a_control_hides_the_same_truth(tmp_path):
    run, control = tmp_path / "run", tmp_path / "control"
    for folder, truth in ((run, tables()), (control, replace(tables(), u=1.1 * tables().u))):
        folder.mkdir()
        write_truth(folder / FILE_NAME, truth)
    with pytest.raises(AnalysisError, match="hides another truth"):
        control_recovery(run, control)
