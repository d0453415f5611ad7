"""A campaign that dies at any change of the disk and is resumed is the undisturbed campaign.

The whole matrix takes a minute or two: `pytest -m exhaustive tests/campaign/test_crash_matrix.py`.
"""

import pytest

from campaign.audit import audit_run
from campaign.run_folder import RESOLVED, read_setup
from tests.campaign.fault_points import FaultPoints, Killed, fault_points
from tests.campaign.laboratory import carry_on, picks, setup_of, start

STRIDE = 11  # of the quick version; coprime with the 2 and 3 points of a rename and an append


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("setup") / "run"
    start(folder, setup_of("continuum.snapshots=5", "selection.per_snapshot=1.5"))
    carry_on(folder, read_setup(folder))  # what compiles kernels renames files of its cache, once
    return read_setup(folder)


def poisonous(job):
    """One patch whose jobs always crash, and one that crashes once."""
    if job.patch_id == 3:
        return "crash"
    return "timeout" if job.attempt == 1 and job.patch_id & 0xFFFFF == 4 else None


def undisturbed(tmp_path, monkeypatch, setup):
    start(tmp_path / "undisturbed", setup)
    with fault_points(monkeypatch, FaultPoints()) as points:
        state = carry_on(tmp_path / "undisturbed", setup, failing=poisonous)
    assert state.finished == "complete"
    assert state.abandoned
    assert state.version == 2
    return state, points


def check(run, setup, expected, monkeypatch, points):
    start(run, setup)
    with fault_points(monkeypatch, points), pytest.raises(Killed):
        carry_on(run, setup, failing=poisonous)
    with fault_points(monkeypatch, FaultPoints()):
        state = carry_on(run, setup, failing=poisonous)
    where = points.names[-1]
    assert state.finished == "complete", where
    assert picks(state) == picks(expected), where
    assert state.batches == expected.batches, where
    assert [e.jobs for e in state.versions] == [e.jobs for e in expected.versions], where
    report = audit_run(run)
    assert report.sound, (where, report)
    assert not report.notes


def test_a_death_at_any_point_changes_nothing(tmp_path, monkeypatch, setup):
    expected, points = undisturbed(tmp_path, monkeypatch, setup)
    for at in range(3, points.passed, STRIDE):
        check(tmp_path / str(at), setup, expected, monkeypatch, FaultPoints(at))


def test_a_run_that_died_while_it_was_made_can_be_made_again(tmp_path, monkeypatch, setup):
    with fault_points(monkeypatch, FaultPoints()) as points:
        start(tmp_path / "whole", setup)
    for at in range(points.passed):
        run = tmp_path / str(at)
        with fault_points(monkeypatch, FaultPoints(at)), pytest.raises(Killed):
            start(run, setup)
        if not (run / RESOLVED).exists():
            start(run, setup)
        assert read_setup(run).config == setup.config


@pytest.mark.exhaustive
def test_a_death_at_every_point_changes_nothing(tmp_path, monkeypatch, setup):
    expected, points = undisturbed(tmp_path, monkeypatch, setup)
    for at in range(points.passed):
        check(tmp_path / str(at), setup, expected, monkeypatch, FaultPoints(at))
