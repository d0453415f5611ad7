"""An audit finds every loss, double and change that is planted in a sound run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from campaign.audit import Law, audit_run
from campaign.embedding_files import embedding_path, read_embeddings, write_embeddings
from campaign.events import FeedbackMade, JobFinished, Selected
from campaign.journal import Journal, read_journal
from campaign.molecular_dynamics.results import read_result, write_result
from campaign.spool import patch_path
from continuum.patch_files import read_patches, write_patches
from tests.campaign.laboratory import SPECIES, STATES


@pytest.fixture
def run(copied_run):
    return copied_run


def first_result(run):
    return min((run / "md").glob("*.h5"))


def breaks(run):
    report = audit_run(run)
    assert not report.sound
    return "\n".join(report.breaks)


def test_a_sound_run_is_sound(run):
    report = audit_run(run)
    assert report.sound
    assert [law.name.split()[-1] for law in report.laws] == [
        "emitted",
        "ingested",
        "embedded",
        "selected",
        "done",
    ]
    assert all(law.whole > 0 for law in report.laws)


def test_a_law_holds_only_if_its_parts_make_the_whole():
    assert Law("x", 3, {"a": 1, "b": 2}).holds
    assert not Law("x", 3, {"a": 1, "b": 1}).holds
    assert not Law("x", 3, {"a": 4, "b": -1}).holds


def test_lost_patches_are_found(run):
    patch_path(run, 1).unlink()
    assert "patches lost" in breaks(run)


def test_changed_patches_are_found(run):
    batch = read_patches(patch_path(run, 1))
    batch.density[2, 1, 5, 5] += np.float32(1e-6) * batch.density[2, 1, 5, 5] + np.float32(1e-6)
    write_patches(patch_path(run, 1), batch, SPECIES, STATES)
    assert "holds other patches than were ingested" in breaks(run)


def test_patches_of_another_snapshot_in_a_file_are_found(run):
    shutil.copy(patch_path(run, 0), patch_path(run, 1))
    assert "holds other patches" in breaks(run)


def test_a_gap_after_what_is_in_flight_is_found(run):
    batch = read_patches(patch_path(run, 3))
    for snapshot, expected in ((4, 24 + 6), (6, None)):
        moved = replace(
            batch,
            snapshot_index=snapshot,
            patch_id=np.uint64(snapshot << 20) + np.arange(len(batch), dtype=np.uint64),
        )
        write_patches(patch_path(run, snapshot), moved, SPECIES, STATES)
        report = audit_run(run)
        if expected:
            assert report.sound
            assert report.laws[0].parts == {"ingested": 24, "in flight": 6}
    assert report.breaks == ("the patches of snapshot 5 are lost: 6 is there",)


@pytest.mark.parametrize("change", ["lost", "vector", "id", "double"])
def test_lost_and_changed_embeddings_are_found(run, change):
    path = embedding_path(run, 2)
    whole = read_embeddings(path)
    path.unlink()
    if change == "vector":
        vector = whole.vector.copy()
        vector[0, 0] = np.nextafter(vector[0, 0], np.float32(9))
        write_embeddings(path, replace(whole, vector=vector))
    if change == "id":
        write_embeddings(path, replace(whole, patch_id=whole.patch_id + np.uint64(1)))
    if change == "double":
        write_embeddings(path, replace(whole, quarantined=np.array([0], np.uint32)))
    assert "mbeddings" in breaks(run)


def test_lost_results_are_found(run):
    first_result(run).unlink()
    assert "result lost" in breaks(run)


def test_changed_results_are_found(run):
    path = first_result(run)
    stored = read_result(path)
    stored.result.counts[0, 0, 0] += 1
    write_result(path, stored.result, stored.job, 1, stored.patch_id, stored.seed)
    assert "holds another result" in breaks(run)


def test_a_result_in_the_place_of_another_is_found(run):
    first, second = sorted((run / "md").glob("*.h5"))[:2]
    shutil.copy(first, second)
    assert f"is the result of job {first.stem}" in breaks(run)


def test_a_result_nobody_asked_for_is_found(run):
    shutil.copy(first_result(run), run / "md" / f"{99:016x}.h5")
    assert "no job asked for" in breaks(run)


def test_lost_and_early_parameter_versions_are_found(run):
    parameters = run / "parameters"
    shutil.copy(parameters / "v000001.h5", parameters / "v000003.h5")
    assert "ahead of the journal" in breaks(run)
    (parameters / "v000001.h5").unlink()
    assert "parameter version lost" in breaks(run)


def test_a_version_taken_up_at_the_wrong_boundary_is_found(run):
    path = run / "parameters" / "adopted.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["parameter_version"] for record in records] == [0, 0, 1, 1]
    records[1]["parameter_version"] = 1
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "boundary 1 was passed under version 1, 0 was due" in breaks(run)


def rewritten(run, change):
    """The run with a journal in which `change` has its way."""
    records = read_journal(run / "journal").records
    shutil.rmtree(run / "journal")
    journal = Journal.create(run / "journal")
    for record in records:
        for event in change(record.event):
            journal.append(event, record.t_wall)
    journal.close()


def test_a_selection_that_the_selector_would_not_make_is_found(run):
    def change(event):
        if isinstance(event, Selected) and event.snapshot_index == 2:
            first, second = event.patches
            return [replace(event, patches=(second, first))]
        return [event]

    rewritten(run, change)
    assert "the selection after snapshot 2 was" in breaks(run)


def test_a_result_counted_twice_is_found(run):
    rewritten(run, lambda event: [event] * (2 if isinstance(event, JobFinished) else 1))
    assert "the job is done" in breaks(run)


def test_a_version_that_uses_a_job_again_is_found(run):
    def change(event):
        if isinstance(event, FeedbackMade):
            return [replace(event, jobs=(*event.jobs, event.jobs[0]))]
        return [event]

    rewritten(run, change)
    assert "it must be made of" in breaks(run)


def test_a_damaged_journal_is_a_break(run):
    path = run / "journal" / "00000000.seg"
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    assert "is damaged at byte" in breaks(run)


def test_a_torn_record_is_noted_and_no_break(run):
    with open(run / "journal" / "00000000.seg", "ab") as file:
        file.write(b"\x07\0\0\0")
    report = audit_run(run)
    assert report.sound
    assert report.notes == ("4 bytes of a record that was never acknowledged",)


def test_a_journal_alone_can_be_audited(run):
    shutil.rmtree(run / "patches")
    report = audit_run(run, files=False)
    assert report.sound
    assert report.files_checked == 0
