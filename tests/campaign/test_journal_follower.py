"""Following a journal tells each record once, in order, however the writing is cut into looks."""

import numpy as np
import pytest

from campaign.events import Permitted
from campaign.journal import Journal, read_journal
from campaign.journal_follower import JournalFollower


def written(folder, count, monkeypatch):
    """A journal of several segments."""
    monkeypatch.setattr("campaign.journal.SEGMENT_BYTES", 700)
    journal = Journal.create(folder)
    for index in range(count):
        journal.append(Permitted(snapshot_index=index), float(index))
        if index % 3 == 2:
            journal.commit()
    journal.close()
    return sorted(folder.glob("*.seg"))


def test_records_come_once_and_in_order_while_bytes_trickle_in(tmp_path, monkeypatch):
    segments = written(tmp_path / "whole", 60, monkeypatch)
    assert len(segments) > 3
    whole = read_journal(tmp_path / "whole").records
    rng = np.random.default_rng(5)
    grown, follower, found = tmp_path / "grown", JournalFollower(tmp_path / "grown"), []
    grown.mkdir()
    for segment in segments:
        data = segment.read_bytes()
        cuts = np.sort(rng.integers(0, len(data), 9)).tolist()
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            with open(grown / segment.name, "ab") as file:
                file.write(data[begin:end])
            found += follower.new()
    assert found == whole
    assert list(follower.new()) == []


def test_a_torn_tail_is_no_record_until_it_is_whole(tmp_path, monkeypatch):
    (segment, *_) = written(tmp_path, 4, monkeypatch)
    data = segment.read_bytes()
    segment.write_bytes(data[:-3])
    follower = JournalFollower(tmp_path)
    assert [record.sequence for record in follower.new()] == [0, 1, 2]
    segment.write_bytes(data)
    assert [record.sequence for record in follower.new()] == [3]


@pytest.mark.parametrize("missing", [True, False])
def test_a_journal_that_has_not_begun_has_no_records(tmp_path, missing):
    folder = tmp_path / "journal"
    if not missing:
        folder.mkdir()
    assert list(JournalFollower(folder).new()) == []
