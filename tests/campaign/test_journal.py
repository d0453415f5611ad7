"""The journal gives back what was committed, whatever tears it, and says what it cannot."""

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import campaign.journal
from campaign.events import Permitted
from campaign.journal import (
    PREAMBLE,
    Journal,
    JournalError,
    MemoryJournal,
    encode_record,
    read_journal,
    segments,
)


def filled(folder, number, start=0):
    """A journal with events 0, 1, 2 ... committed in groups of three."""
    journal = Journal.create(folder)
    for index in range(start, start + number):
        journal.append(Permitted(snapshot_index=index), float(index))
        if index % 3 == 2:
            journal.commit()
    journal.close()
    return folder


def indices(contents):
    assert [record.sequence for record in contents.records] == list(range(len(contents.records)))
    return [record.event.snapshot_index for record in contents.records]


def test_what_was_appended_comes_back_in_order(tmp_path):
    contents = read_journal(filled(tmp_path / "j", 10))
    assert indices(contents) == list(range(10))
    assert [record.t_wall for record in contents.records] == list(map(float, range(10)))
    assert contents.torn_bytes == 0


def test_nothing_is_there_before_the_commit_and_all_of_it_after(tmp_path):
    journal = Journal.create(tmp_path / "j")
    journal.append(Permitted(snapshot_index=0), 0.0)
    assert indices(read_journal(tmp_path / "j")) == []
    journal.commit()
    assert indices(read_journal(tmp_path / "j")) == [0]


def test_a_group_costs_one_sync(tmp_path, monkeypatch):
    journal = Journal.create(tmp_path / "j")
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for index in range(100):
        journal.append(Permitted(snapshot_index=index), 0.0)
    journal.commit()
    journal.commit()
    assert len(synced) == 1


def test_a_journal_goes_on_where_it_ended_and_over_many_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign.journal, "SEGMENT_BYTES", 300)
    filled(tmp_path / "j", 10)
    journal, contents = Journal.open(tmp_path / "j")
    assert indices(contents) == list(range(10))
    for index in range(10, 20):
        journal.append(Permitted(snapshot_index=index), 0.0)
        journal.commit()
    journal.close()
    assert len(segments(tmp_path / "j")) == 4
    assert indices(read_journal(tmp_path / "j")) == list(range(20))


def ends(data):
    """Where the records of a segment end, by reading lengths alone."""
    at, found = len(PREAMBLE), [len(PREAMBLE)]
    while at < len(data):
        at += 16 + int.from_bytes(data[at : at + 4], "little")
        found.append(at)
    return found


def test_a_cut_anywhere_leaves_the_whole_records_before_it(tmp_path):
    data = segments(filled(tmp_path / "j", 5))[0].read_bytes()
    whole = ends(data)
    for cut in range(len(PREAMBLE), len(data)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "00000000.seg").write_bytes(data[:cut])
        expected = sum(end <= cut for end in whole) - 1
        seen = read_journal(folder)
        assert indices(seen) == list(range(expected))
        assert seen.torn_bytes == cut - whole[expected]
        journal, contents = Journal.open(folder)
        assert contents.torn_bytes == seen.torn_bytes
        journal.append(Permitted(snapshot_index=expected), 0.0)
        journal.close()
        assert indices(read_journal(folder)) == list(range(expected + 1))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_is_never_read_as_something_else(tmp_path_factory, data):
    folder = filled(tmp_path_factory.mktemp("j") / "j", 6)
    path = segments(folder)[0]
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    last = ends(segments(filled(folder.with_name("whole"), 6))[0].read_bytes())[-2]
    if at < last:
        with pytest.raises(JournalError):
            read_journal(folder)
    else:
        assert indices(read_journal(folder)) == list(range(5))


def test_damage_before_whole_records_is_named_and_can_be_cut_out(tmp_path):
    folder = filled(tmp_path / "j", 6)
    path = segments(folder)[0]
    content = bytearray(path.read_bytes())
    second = ends(content)[2]
    content[second + 20] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(JournalError, match=rf"damaged at byte {second}: record 2 .*--repair"):
        Journal.open(folder)
    assert path.read_bytes() == content
    journal, contents = Journal.open(folder, repair=True)
    journal.close()
    assert indices(contents) == [0, 1]
    assert "record 2" in contents.damage
    assert path.with_suffix(".seg.damaged").read_bytes() == content
    assert indices(read_journal(folder)) == [0, 1]


def test_damage_in_an_early_segment_sets_later_ones_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign.journal, "SEGMENT_BYTES", 200)
    folder = filled(tmp_path / "j", 12)
    first, *later = segments(folder)
    first.write_bytes(first.read_bytes()[:-3])
    with pytest.raises(JournalError, match="later segments are there"):
        read_journal(folder)
    journal, contents = Journal.open(folder, repair=True)
    journal.close()
    assert indices(contents) == [0, 1]
    assert segments(folder) == [first]
    assert all(path.with_suffix(".seg.damaged").exists() for path in later)


def test_a_missing_segment_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign.journal, "SEGMENT_BYTES", 200)
    folder = filled(tmp_path / "j", 12)
    segments(folder)[1].unlink()
    with pytest.raises(JournalError, match=r"00000001\.seg is missing"):
        read_journal(folder)


@pytest.mark.parametrize(
    ("start", "message"),
    [(b"something else", "not a segment"), (PREAMBLE[:-4] + b"\7\0\0\0", "version 7")],
)
def test_another_format_or_version_is_refused(tmp_path, start, message):
    (tmp_path / "00000000.seg").write_bytes(start)
    with pytest.raises(JournalError, match=message):
        read_journal(tmp_path)


def test_an_event_of_another_version_is_refused_by_name(tmp_path):
    record = encode_record(0, b'{"t":1.0,"kind":"Exploded"}')
    (tmp_path / "00000000.seg").write_bytes(PREAMBLE + record)
    with pytest.raises(JournalError, match="record 0: 'Exploded' is no kind"):
        read_journal(tmp_path)


def test_a_record_out_of_sequence_is_not_read(tmp_path):
    payload = b'{"t":1.0,"kind":"Permitted","snapshot_index":0}'
    records = encode_record(0, payload) + encode_record(2, payload)
    (tmp_path / "00000000.seg").write_bytes(PREAMBLE + records)
    with pytest.raises(JournalError, match="record 1 is not whole"):
        read_journal(tmp_path)


def test_a_journal_is_created_once_and_must_exist_to_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        Journal.open(tmp_path / "none")
    filled(tmp_path / "j", 1)
    with pytest.raises(FileExistsError):
        Journal.create(tmp_path / "j")


def test_after_a_failed_write_a_journal_takes_no_more(tmp_path, monkeypatch):
    journal = Journal.create(tmp_path / "j")
    journal.append(Permitted(snapshot_index=0), 0.0)
    journal.commit()
    journal.append(Permitted(snapshot_index=1), 0.0)

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as caught:
            journal.commit()
    assert caught.value.filename == str(journal.segment)
    journal.append(Permitted(snapshot_index=2), 0.0)
    with pytest.raises(JournalError, match="failed"):
        journal.commit()
    assert indices(read_journal(tmp_path / "j")) == [0]


def test_a_journal_in_memory_keeps_events_in_order():
    journal = MemoryJournal()
    journal.append(Permitted(snapshot_index=0), 1.0)
    journal.commit()
    assert [record.event for record in journal.records] == [Permitted(snapshot_index=0)]
