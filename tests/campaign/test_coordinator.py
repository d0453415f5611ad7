"""The loop: what is told is durable, what is lost is done again, what is late changes nothing."""

import json
import os

import pytest

from campaign.audit import audit_run
from campaign.conformance import course_of, differences
from campaign.control import send_command
from campaign.coordinator import Coordinator
from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    ControlReceived,
    JobFailed,
    JobFinished,
    Permitted,
)
from campaign.journal import MemoryJournal, read_journal
from campaign.run_folder import RunFolderError, open_run, read_setup, selection_settings
from campaign.run_lock import RunInUse, holder
from campaign.selection import PatchSelection, SelectionDivergence, reader
from campaign.spool import DivergentBatch, patch_path, read_permit
from continuum.patch_files import write_patches
from tests.campaign.laboratory import (
    SPECIES,
    STATES,
    LinearEncoder,
    ToyShell,
    carry_on,
    membrane_patches,
    picks,
    setup_of,
    start,
)

SMALL = ("continuum.snapshots=4", "selection.per_snapshot=1.5")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """No power fails in these tests, so nothing need reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def made(tmp_path):
    """Make a run of some overrides; its folder and its configuration as read back."""

    def make(name="run", *overrides):
        run = tmp_path / name
        start(run, setup_of(*SMALL, *overrides))
        return run, read_setup(run)

    return make


def sound(run):
    report = audit_run(run)
    assert report.sound, report
    return report


def events(run, kind):
    return [r.event for r in read_journal(run / "journal").records if isinstance(r.event, kind)]


def course(run):
    return course_of(read_journal(run / "journal").records)


def test_a_campaign_runs_to_its_end_and_is_sound(made):
    run, setup = made()
    state = carry_on(run, setup)
    assert state.finished == "complete"
    report = sound(run)
    assert report.selections_replayed == len(picks(state)) == 7
    assert report.files_checked == 5 + 5 + 7 + state.version


@pytest.mark.parametrize("slots", [1, 4])
def test_the_course_does_not_depend_on_timing(made, slots):
    one, setup = made("one")
    other, other_setup = made("other", f"molecular_dynamics.slots={slots}", "embedding.ahead=1")
    carry_on(one, setup)
    carry_on(other, other_setup)
    assert differences(course(one), course(other)) == []


def test_courses_that_differ_are_told_apart(made):
    one, setup = made("one")
    other, other_setup = made("other", "seed=2")
    carry_on(one, setup)
    carry_on(other, other_setup)
    found = differences(course(one), course(other))
    assert {line.partition(":")[0] for line in found} >= {"opened", "batches", "selected"}


def test_embeddings_enter_in_order_whatever_order_they_come_in(made):
    run, setup = made("run", "bridge.credit=4", "feedback.enabled=false")
    carry_on(run, setup)
    assert [event.snapshot_index for event in events(run, BatchEmbedded)] == list(range(5))


def test_an_embedding_that_fails_is_tried_again(made):
    run, setup = made()
    state = carry_on(run, setup, prepare=lambda shell: shell.embedders.failing.update({1: 2}))
    assert state.finished == "complete"
    sound(run)


def test_a_batch_that_cannot_be_embedded_ends_the_campaign_and_not_the_run(made):
    run, setup = made()
    state = carry_on(run, setup, prepare=lambda shell: shell.embedders.failing.update({1: 99}))
    assert state.finished == "failed: snapshot 1 cannot be embedded (planted)"
    assert carry_on(run, setup).finished == "complete"
    sound(run)


def test_patches_that_are_not_finite_are_quarantined_and_accounted_for(made):
    run, setup = made("run", "continuum.source=attached", "feedback.enabled=false")
    for snapshot in range(5):
        batch = membrane_patches(1, snapshot, [])
        if snapshot == 2:
            batch.density[3, 0, 4, 4] = float("nan")
        write_patches(patch_path(run, snapshot), batch, SPECIES, STATES)
    state = carry_on(run, setup)
    assert state.finished == "complete"
    assert state.quarantined == {2: (3,)}
    assert all(job.patch_id != (2 << 20) + 3 for job in state.order)
    sound(run)


def test_a_late_answer_changes_nothing(made):
    run, setup = made()

    class Late:
        def __init__(self, pilots):
            self.pilots, self.answered = pilots, []

        def poll(self):
            late = list(self.answered)
            self.answered = self.pilots.poll()
            return [*late, *self.answered, *self.answered]

        def __getattr__(self, name):
            return getattr(self.pilots, name)

    def prepare(shell):
        shell.pilots = Late(shell.pilots)

    fails_once = lambda job: "crash" if job.attempt == 1 else None  # noqa: E731
    state = carry_on(run, setup, prepare=prepare, failing=fails_once)
    assert state.finished == "complete"
    assert len(events(run, JobFinished)) == len(events(run, JobFailed)) == len(state.order)
    sound(run)


def test_nobody_is_told_before_the_journal_has_it(made):
    run, setup = made()
    told = []

    class Journal(MemoryJournal):
        committed = 0

        def commit(self):
            self.committed = len(self.records)

    journal = Journal()

    def durable(kind, snapshot):
        return any(
            isinstance(record.event, kind) and record.event.snapshot_index == snapshot
            for record in journal.records[: journal.committed]
        )

    with open_run(run, setup, LinearEncoder.version) as opened:
        shell = ToyShell(run, setup)
        coordinator = Coordinator(
            opened.state,
            journal,
            shell,
            PatchSelection(selection_settings(setup)),
            reader(run),
            run / "selections",
        )
        accepted, permit = shell.intake.accepted, shell.intake.permit

        def checked_accepted(snapshot):
            told.append(durable(BatchIngested, snapshot))
            accepted(snapshot)

        def checked_permit(snapshot, version):
            told.append(durable(Permitted, snapshot))
            permit(snapshot, version)

        shell.intake.accepted, shell.intake.permit = checked_accepted, checked_permit
        coordinator.begin(pid=1)
        coordinator.run()
    assert len(told) > 5
    assert all(told)


def test_ranks_that_die_are_started_again_and_repeat_themselves(made):
    run, setup = made("run")
    other, _ = made("other")
    state = carry_on(run, setup, prepare=lambda shell: shell.continuum.dies_after.update({1, 3}))
    assert state.finished == "complete"
    assert state.continuum == 3
    carry_on(other, setup)
    assert differences(course(run), course(other)) == []
    sound(run)


def test_ranks_that_never_get_anywhere_end_the_campaign(made):
    run, setup = made()

    def prepare(shell):
        shell.continuum.launch = lambda incarnation, last: (
            setattr(shell.continuum, "incarnation", incarnation) or -1
        )
        shell.continuum.poll = lambda: (
            shell.continuum._end(1, finished=False) if shell.continuum.incarnation else None
        )

    state = carry_on(run, setup, prepare=prepare)
    assert state.finished == "failed: the continuum ended 3 times without a new snapshot ()"


def test_patches_that_come_again_with_other_content_stop_everything(made):
    run, setup = made()
    carry_on(run, setup, steps=6)

    def prepare(shell):
        shell.continuum.seed = 99
        (run / "checkpoints.json").unlink(missing_ok=True)

    with pytest.raises(DivergentBatch, match="nothing is overwritten"):
        carry_on(run, setup, prepare=prepare)


@pytest.mark.parametrize("command", ["drain", "stop"])
@pytest.mark.parametrize("steps", [3, 9, 15])
def test_a_campaign_that_was_ended_goes_on_as_if_it_had_not_been(made, command, steps):
    run, setup = made("run")
    undisturbed, _ = made("undisturbed")
    carry_on(run, setup, steps=steps)
    send_command(run, command)
    state = carry_on(run, setup)
    assert state.finished == {"drain": "drained", "stop": "stopped"}[command]
    assert not (command == "drain" and state.running)
    assert carry_on(run, setup).finished == "complete"
    carry_on(undisturbed, setup)
    assert differences(course(run), course(undisturbed)) == []
    sound(run)


def test_commands_are_obeyed_once_and_in_order(made):
    run, setup = made("run", "molecular_dynamics.mix={poisson: 1.0, brownian: 0.0}")
    send_command(run, "set", ("mix.brownian", "1"))
    send_command(run, "set", ("mix.poisson", "0"))
    state = carry_on(run, setup)
    assert {job.engine for job in state.order} == {"brownian"}
    assert carry_on(run, setup, steps=1).controls == 2
    assert [event.number for event in events(run, ControlReceived)] == [1, 2]


def test_a_campaign_can_be_made_longer(made):
    run, setup = made("run")
    longer, longer_setup = made("longer", "continuum.snapshots=6")
    carry_on(run, setup)
    send_command(run, "set", ("snapshots", "6"))
    assert carry_on(run, setup).ingested == 7
    carry_on(longer, longer_setup)
    assert differences(course(run), course(longer)) == []
    sound(run)


def test_a_command_that_cannot_be_obeyed_is_refused_and_harms_nobody(made):
    run, setup = made()
    send_command(run, "set", ("mix.brownian", "1"))
    send_command(run, "explode")
    (run / "control" / "command-000003.json").write_text("{")
    assert carry_on(run, setup).finished == "complete"
    refused = events(run, ControlReceived)
    assert [event.command for event in refused] == ["refused"] * 3
    assert "cannot be set" in refused[0].arguments[0]


def test_a_poisonous_patch_is_a_bounded_loss(made):
    run, setup = made()
    poison = lambda job: "crash" if job.patch_id & 1 else None  # noqa: E731
    state = carry_on(run, setup, failing=poison)
    assert state.finished == "complete"
    lost = [job for job in state.order if job.patch_id & 1]
    assert 0 < len(lost) == state.abandoned < len(state.order)
    assert all(job.attempt == 3 and job.message == "crash: planted" for job in lost)
    sound(run)


def test_a_campaign_without_a_sound_slot_fails_and_can_be_taken_up(made):
    run, setup = made()
    state = carry_on(run, setup, prepare=lambda shell: shell.pilots.cordon.extend([0, 1]))
    assert state.finished == "failed: no MD slot is usable (planted)"
    assert carry_on(run, setup).finished == "complete"
    sound(run)


def test_free_pacing_is_sound_too(made):
    run, setup = made("run", "feedback.pacing=free", "bridge.credit=2")

    def prepare(shell):
        passing = shell.continuum._pass
        shell.continuum._pass = lambda snapshot, permit: passing_freely(
            passing, shell, snapshot, permit
        )

    def passing_freely(passing, shell, snapshot, permit):
        from dataclasses import replace

        from continuum.parameter_versions import latest_version

        newest = latest_version(run / "parameters") or 0
        passing(snapshot, replace(permit, parameter_version=newest))

    state = carry_on(run, setup, prepare=prepare)
    assert state.finished == "complete"
    assert state.version == 2
    sound(run)


def test_two_coordinators_cannot_work_on_one_run(made):
    run, setup = made()
    assert holder(run / "journal") is None
    with open_run(run, setup, LinearEncoder.version):
        found = holder(run / "journal")
        assert found is not None
        with pytest.raises(RunInUse, match=f"process {found.pid} on"):
            carry_on(run, setup)
    assert holder(run / "journal") is None


@pytest.mark.parametrize("part", ["code_version", "config_hash", "encoder_version"])
def test_a_run_goes_on_only_as_what_it_was_begun_as(made, monkeypatch, part):
    run, setup = made()
    carry_on(run, setup, steps=2)
    if part == "code_version":
        monkeypatch.setattr("campaign.run_folder.code_version", lambda: "9.9")
    if part == "encoder_version":
        monkeypatch.setattr(LinearEncoder, "version", "another")
    if part == "config_hash":
        path = run / "config.resolved.yaml"
        path.write_text(path.read_text().replace("per_snapshot: 1.5", "per_snapshot: 2.5"))
        setup = read_setup(run)
    with pytest.raises(RunFolderError, match="was begun with"):
        carry_on(run, setup)


def test_a_torn_journal_loses_only_what_nobody_was_told(made):
    run, setup = made("run")
    carry_on(run, setup, steps=8)
    segment = run / "journal" / "00000000.seg"
    segment.write_bytes(segment.read_bytes()[:-5])
    state = carry_on(run, setup)
    assert state.finished == "complete"
    sound(run)


def test_a_permit_is_given_again_by_the_next_coordinator(made):
    run, setup = made()
    state = carry_on(run, setup, steps=8)
    permit = read_permit(run)
    (run / "control" / "permit.json").unlink()
    carry_on(run, setup, steps=0)
    assert read_permit(run) == permit
    assert permit.snapshot_index == state.permitted


def test_a_journal_whose_picks_the_selector_denies_is_refused(made):
    run, setup = made()
    carry_on(run, setup)
    path = run / "journal" / "00000000.seg"
    contents = read_journal(run / "journal")
    path.unlink()
    from dataclasses import replace

    from campaign.events import Selected
    from campaign.journal import Journal

    journal = Journal.create(run / "journal")
    for record in contents.records:
        event = record.event
        if isinstance(event, Selected) and len(event.patches) == 2:
            nudged = event.patches[0]._replace(importance=0.125)
            event = replace(event, patches=(nudged, *event.patches[1:]))
        journal.append(event, record.t_wall)
    journal.close()
    with pytest.raises(SelectionDivergence):
        carry_on(run, setup)
    assert any("repeated it is" in line for line in audit_run(run).breaks)


def test_the_selector_is_saved_only_after_its_selections_are_durable(made):
    run, setup = made("run", "selection.save_every=1")
    carry_on(run, setup, steps=9)
    for path in (run / "selections").glob("0*"):
        facts = json.loads((path / "selection.json").read_text())
        assert facts["snapshots"] == int(path.name)
        assert facts["snapshots"] <= len(course(run).selected)
