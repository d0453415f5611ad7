import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from selector import FarthestPointSampler, HistoryError, RecordedSampler, ReplayError, replay
from selector.history import HEADER, PREAMBLE, read_records
from selector.recorded import snapshot_path

ROOT = Path(__file__).parents[2]


def record_a_little(path, vectors_of, snapshot_at=None, steps=5):
    """A small history with every kind of event; returns the sampler's state after each record."""
    recorded = RecordedSampler.create(path, FarthestPointSampler(3, k=2, capacity=12, warm_up=2))
    random = np.random.default_rng(3)
    for step in range(steps):
        names = [f"patch-{step}-{i}-{'long' * i}" for i in range(6)]
        recorded.add(names, random.standard_normal((6, 3)).astype(np.float32))
        picks = recorded.select(3, lease=True)
        recorded.confirm(picks[:1])
        recorded.release(picks[1:2])
        if step == snapshot_at:
            recorded.snapshot()
    recorded.invalidate(recorded.sampler.candidate_ids[:1])
    recorded.mark_selected(["outside"], np.ones((1, 3), np.float32))
    everything = recorded.sampler.candidate_ids + recorded.sampler.selected_ids
    fresh = random.standard_normal((len(everything), 3)).astype(np.float32)
    recorded.reencode(dict(zip(everything, fresh, strict=True)))
    recorded.select(2, frozen=True)
    recorded.close()
    return recorded


def state_of(recorded):
    sampler = recorded.sampler
    ids = sampler.candidate_ids
    return (
        ids,
        sampler.selected_ids,
        sampler.leased_ids,
        sampler.weights()[1].tolist(),
        sampler.importance(ids).tolist() if ids else [],
        sampler.departed_count,
    )


def test_replay_reproduces_every_selection(tmp_path, vectors_of):
    recorded = record_a_little(tmp_path / "log", vectors_of)
    result = replay(tmp_path / "log")
    assert [name for name, _ in result.selections if name in recorded.sampler.selected_ids]
    assert result.sampler.selected_ids == recorded.sampler.selected_ids
    assert result.evictions > 0
    assert len(result.selections) == 17


@pytest.mark.parametrize("snapshot_at", [None, 2])
def test_recovery_restores_the_whole_state(tmp_path, vectors_of, snapshot_at):
    recorded = record_a_little(tmp_path / "log", vectors_of, snapshot_at)
    recovered = RecordedSampler.recover(tmp_path / "log")
    assert state_of(recovered) == state_of(recorded)
    recovered.add(["new"], np.zeros((1, 3), np.float32))
    recovered.select(1)
    recovered.close()
    assert replay(tmp_path / "log").sampler.selected_ids == recovered.sampler.selected_ids


def test_a_history_cut_at_any_byte_recovers_to_its_last_whole_record(
    tmp_path, vectors_of, monkeypatch
):
    record_a_little(tmp_path / "log", vectors_of, steps=3)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # thousands of them take minutes
    data = (tmp_path / "log").read_bytes()
    ends = [end for end, *_ in read_records(tmp_path / "log")]
    cut = tmp_path / "cut"
    states = {}
    for end in ends:
        cut.write_bytes(data[:end])
        recovered = RecordedSampler.recover(cut)
        states[end] = state_of(recovered)[:4]
        recovered.close()
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        whole = [end for end in ends if end <= size]
        if not whole:
            with pytest.raises(HistoryError):
                RecordedSampler.recover(cut)
            continue
        recovered = RecordedSampler.recover(cut)
        recovered.close()
        assert cut.stat().st_size == whole[-1]
        assert recovered.writer.sequence == len(whole)
        if size in (whole[-1], whole[-1] + 1):
            assert state_of(recovered)[:4] == states[whole[-1]]


def test_any_flipped_bit_is_reported_never_swallowed(tmp_path, vectors_of):
    record_a_little(tmp_path / "log", vectors_of)
    data = bytearray((tmp_path / "log").read_bytes())
    damaged = tmp_path / "damaged"
    for at in range(0, len(data), 7):
        data[at] ^= 0x10
        damaged.write_bytes(data)
        with pytest.raises(HistoryError):
            list(read_records(damaged))
        data[at] ^= 0x10


def test_a_history_of_another_version_is_refused(tmp_path, vectors_of):
    record_a_little(tmp_path / "log", vectors_of)
    data = bytearray((tmp_path / "log").read_bytes())
    data[8] = 9
    (tmp_path / "log").write_bytes(data)
    with pytest.raises(HistoryError, match="version 1, it is of 9"):
        replay(tmp_path / "log")


def test_replay_notices_an_importance_that_differs_in_its_last_bit(tmp_path, vectors_of):
    import zlib

    record_a_little(tmp_path / "log", vectors_of)
    data = bytearray((tmp_path / "log").read_bytes())
    start = len(PREAMBLE)
    for end, _, record in read_records(tmp_path / "log"):
        if record.kind.name == "SELECT" and np.isfinite(record.values).all():
            break
        start = end
    payload_at = start + HEADER.size + 4
    data[end - 12] ^= 1  # the lowest byte of the last float64 before the checksum
    payload = bytes(data[payload_at : end - 4])
    data[end - 4 : end] = zlib.crc32(payload).to_bytes(4, "little")
    (tmp_path / "log").write_bytes(data)
    with pytest.raises(ReplayError, match="selection differs"):
        replay(tmp_path / "log")


def test_a_failed_write_closes_the_history(tmp_path, vectors_of):
    recorded = record_a_little(tmp_path / "log", vectors_of)
    with pytest.raises(HistoryError, match="closed"):
        recorded.select(1)


def test_creating_over_an_existing_history_is_refused(tmp_path):
    RecordedSampler.create(tmp_path / "log", FarthestPointSampler(2)).close()
    with pytest.raises(FileExistsError):
        RecordedSampler.create(tmp_path / "log", FarthestPointSampler(2))


VICTIM = """
import sys
import numpy as np
from selector import FarthestPointSampler, RecordedSampler
recorded = RecordedSampler.create(sys.argv[1], FarthestPointSampler(4, capacity=200, warm_up=3))
random = np.random.default_rng(0)
for step in range(100_000):
    ids = np.arange(step * 20, step * 20 + 20)
    recorded.add(ids, random.standard_normal((20, 4)).astype(np.float32))
    picks = recorded.select(2)
    if sys.argv[2] == "snapshot":
        recorded.snapshot()
    print(step, *picks, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["append", "snapshot"])
def test_after_kill_9_nothing_acknowledged_is_lost(tmp_path, mode):
    """Killed at arbitrary moments of appending, or of writing and renaming snapshots."""
    for attempt in range(6):
        path = tmp_path / f"log{attempt}"
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(path), mode],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert victim.stdout is not None
        first = victim.stdout.readline()
        time.sleep(0.05 + 0.037 * attempt)
        os.kill(victim.pid, signal.SIGKILL)
        lines = [first, *victim.stdout.read().splitlines()]
        victim.stdout.close()
        victim.wait()
        acknowledged = [int(pick) for line in lines for pick in line.split()[1:]]
        recovered = RecordedSampler.recover(path)
        assert acknowledged
        assert acknowledged[-1] in recovered.sampler.selected_ids
        assert set(acknowledged) <= set(recovered.sampler.selected_ids)
        recovered.close()
        assert replay(path).sampler.selected_ids == recovered.sampler.selected_ids
        assert not snapshot_path(path).exists() or mode == "snapshot"
