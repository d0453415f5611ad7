"""kill -9 at every step of an append, of a snapshot and of its rename."""

import io
import os
import signal

import numpy as np
import pytest

from selector import FarthestPointSampler, RecordedSampler, replay
from selector.recorded import snapshot_path

CALLS = 5  # of the victim, each an acknowledged change


class Executioner:
    """Kills this process at its n-th step towards the disk, before, within or after the step."""

    def __init__(self, monkeypatch, fatal_step, when):
        self.steps_left, self.when = fatal_step, when
        for name in ("fsync", "fdatasync", "replace", "truncate"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, step):
        def act(*arguments, **keywords):
            self.steps_left -= 1
            if self.steps_left == 0 and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(*arguments, **keywords)
            if self.steps_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return act

    def opened(self, file):
        """The unbuffered file, whose writes count as steps and may be cut in half."""
        whole = file.write

        class Halved(io.RawIOBase):
            def write(_, data):
                self.steps_left -= 1
                if self.steps_left == 0:
                    whole(data[: {"before": 0, "within": len(data) // 2}.get(self.when)])
                    os.kill(os.getpid(), signal.SIGKILL)
                return whole(data)

            def fileno(_):
                return file.fileno()

            def close(_):
                file.close()

        return Halved()


def make_changes(path, executioner, acknowledge):
    """Adds, selections and snapshots; `acknowledge` hears of each call that returned."""
    recorded = RecordedSampler.create(path, FarthestPointSampler(3, capacity=40, warm_up=2))
    recorded.writer._file = executioner.opened(recorded.writer._file)
    random = np.random.default_rng(0)
    for call in range(CALLS):
        recorded.add(
            np.arange(20 * call, 20 * call + 20),
            random.standard_normal((20, 3)).astype(np.float32),
        )
        picks = recorded.select(2)
        acknowledge(picks)
        if call % 3 == 1:
            recorded.snapshot()


def killed_at(path, fatal_step, when, monkeypatch):
    """Picks that a process acknowledged before it was killed, and whether it was."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        failed = True
        try:
            executioner = Executioner(monkeypatch, fatal_step, when)
            make_changes(path, executioner, lambda picks: os.write(told, bytes(picks)))
            failed = False
        finally:
            os._exit(failed)
    os.close(told)
    acknowledged = b""
    while part := os.read(heard, 4096):
        acknowledged += part
    os.close(heard)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return list(acknowledged), os.WIFSIGNALED(status)


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_killed_at_any_step_towards_the_disk_nothing_acknowledged_is_lost(
    tmp_path, monkeypatch, when
):
    """The steps are each write, fsync, fdatasync and rename; a write is also cut in half."""
    warm = FarthestPointSampler(3, capacity=40, warm_up=2)  # so that no child compiles
    warm.add(np.arange(60), np.zeros((60, 3), np.float32))
    warm.select(3)
    warm.save(tmp_path / "warm.npz")
    step, was_killed, snapshots = 0, True, 0
    while was_killed:
        step += 1
        path = tmp_path / f"log{step}"
        acknowledged, was_killed = killed_at(path, step, when, monkeypatch)
        if not path.exists():
            assert acknowledged == []
            continue
        snapshots += snapshot_path(path).exists()
        recovered = RecordedSampler.recover(path)
        assert recovered.sampler.selected_ids[: len(acknowledged)] == acknowledged
        recovered.add([1000], np.ones((1, 3), np.float32))
        more = recovered.select(1)
        recovered.close()
        assert replay(path).sampler.selected_ids == recovered.sampler.selected_ids
        assert recovered.sampler.selected_ids[-1:] == more
    assert step > 3 * CALLS  # an add and a select write and sync each: every step was tried
    assert snapshots > 0
