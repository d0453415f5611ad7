"""Patches through a folder: once each, in order, whole, and only from the incarnation at work."""

import threading
import time

import h5py
import numpy as np
import pytest

from campaign.spool import (
    DivergentBatch,
    Fenced,
    Permit,
    SpoolIntake,
    SpoolTransport,
    batch_crc32,
    patch_path,
    read_incarnation,
    read_permit,
    store_batch,
    write_incarnation,
    write_permit,
)
from continuum.patch_files import read_patches
from tests.campaign.patch_laboratory import SPECIES, STATES, batch_of, changed

CHANGES = {
    "patch_id": lambda a: a + np.uint64(1),
    "density": lambda a: np.nextafter(a, np.float32(9)),
    "centre_nm": lambda a: a + 1e-12,
    "central_state": lambda a: np.roll(a, 1),
    "n_ras": lambda a: a + np.uint8(1),
    "n_raf": lambda a: a + np.uint8(1),
    "kind": lambda a: a + np.uint8(1),
    "bead_position_nm": lambda a: -a,
    "bead_state": lambda a: a + np.int8(1),
}


def transport(run, incarnation=1):
    return SpoolTransport(run, incarnation, SPECIES, STATES)


@pytest.mark.parametrize("name", CHANGES)
def test_the_checksum_sees_a_change_of_any_array(name):
    batch = batch_of(3)
    other = changed(batch, **{name: CHANGES[name](getattr(batch, name))})
    assert batch_crc32(other) != batch_crc32(batch)


@pytest.mark.parametrize("scalar", [{"time_us": 7.5}, {"parameter_version": 1}])
def test_the_checksum_sees_a_change_of_a_scalar(scalar):
    assert batch_crc32(changed(batch_of(3), **scalar)) != batch_crc32(batch_of(3))


def test_the_checksum_sees_beads_move_from_one_patch_to_the_next():
    batch = batch_of(3)
    offset = batch.bead_offset.copy()
    offset[1] += 1
    assert batch_crc32(changed(batch, bead_offset=offset)) != batch_crc32(batch)


def test_the_checksum_is_the_same_before_and_after_the_disk(tmp_path):
    sent = batch_of(3)
    arrived = store_batch(tmp_path, sent, SPECIES, STATES)
    assert batch_crc32(read_patches(arrived.path)) == batch_crc32(sent) == arrived.crc32


def test_what_is_sent_arrives_once_each_and_in_order(tmp_path):
    sender, intake = transport(tmp_path), SpoolIntake(tmp_path)
    assert intake.poll() == []
    for index in range(3):
        sender.send(batch_of(index))
    sender.send(batch_of(1))  # a resumed continuum says it again
    arrived = intake.poll()
    assert [each.snapshot_index for each in arrived] == [0, 1, 2]
    assert [each.crc32 for each in arrived] == [batch_crc32(batch_of(i)) for i in range(3)]
    assert [(each.count, each.controls) for each in arrived] == [(5, 2)] * 3
    assert intake.poll() == []


def test_a_batch_waits_for_the_ones_before_it(tmp_path):
    intake = SpoolIntake(tmp_path)
    transport(tmp_path).send(batch_of(1))
    assert intake.poll() == []
    transport(tmp_path).send(batch_of(0))
    assert [each.snapshot_index for each in intake.poll()] == [0, 1]


def test_a_new_intake_begins_where_the_journal_ends(tmp_path):
    for index in range(4):
        transport(tmp_path).send(batch_of(index))
    assert [each.snapshot_index for each in SpoolIntake(tmp_path, 2).poll()] == [2, 3]


def test_the_same_id_with_other_content_is_refused_and_nothing_overwritten(tmp_path):
    transport(tmp_path).send(batch_of(2))
    before = patch_path(tmp_path, 2).read_bytes()
    with pytest.raises(DivergentBatch, match=r"0000000002\.h5 holds patches with checksum"):
        transport(tmp_path).send(changed(batch_of(2), time_us=99.0))
    assert patch_path(tmp_path, 2).read_bytes() == before


def test_a_sender_repeats_into_a_file_that_is_not_touched_again(tmp_path):
    transport(tmp_path).send(batch_of(2))
    inode = patch_path(tmp_path, 2).stat().st_ino
    transport(tmp_path).send(batch_of(2))
    assert patch_path(tmp_path, 2).stat().st_ino == inode


def test_an_older_incarnation_can_neither_send_nor_pass(tmp_path):
    old = transport(tmp_path, 1)
    write_incarnation(tmp_path, 1)
    old.send(batch_of(0))
    write_incarnation(tmp_path, 2)
    with pytest.raises(Fenced, match=r"incarnation 1 .* replaced by 2"):
        old.send(batch_of(1))
    with pytest.raises(Fenced):
        old.wait_permit(1)
    assert not patch_path(tmp_path, 1).exists()
    transport(tmp_path, 2).send(batch_of(1))


def test_a_permit_lets_pass_up_to_its_boundary_and_no_further(tmp_path):
    write_permit(tmp_path, Permit(snapshot_index=3, parameter_version=1))
    waited = []
    sender = SpoolTransport(
        tmp_path, 1, SPECIES, STATES, waiting=lambda: waited.append(time.monotonic())
    )
    assert sender.wait_permit(2) == sender.wait_permit(3) == read_permit(tmp_path)
    assert not waited
    later = Permit(snapshot_index=4, parameter_version=2)
    timer = threading.Timer(0.2, write_permit, (tmp_path, later))
    timer.start()
    began = time.monotonic()
    assert sender.wait_permit(4) == later
    assert time.monotonic() - began >= 0.19
    assert waited
    timer.join()


def test_a_damaged_batch_is_named(tmp_path):
    transport(tmp_path).send(batch_of(0))
    path = patch_path(tmp_path, 0)
    with h5py.File(path, "r") as file:
        offset = file["density"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"0000000000\.h5 is not a whole patches file"):
        SpoolIntake(tmp_path).poll()


@pytest.mark.parametrize(
    "text", ['{"snapshot_index": -1, "parameter_version": 0}', "{", "[]", '{"snapshot_index": 1}']
)
def test_a_control_file_that_is_none_is_an_error_that_names_it(tmp_path, text):
    assert read_permit(tmp_path) is None
    assert read_incarnation(tmp_path) is None
    write_permit(tmp_path, Permit(snapshot_index=0, parameter_version=0))
    (tmp_path / "control" / "permit.json").write_text(text)
    with pytest.raises(ValueError, match=r"permit\.json"):
        read_permit(tmp_path)
