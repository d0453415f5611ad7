"""A power cut at every step towards the disk: only what was synced survives, names and contents."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from selector import FarthestPointSampler, RecordedSampler


class Disk:
    """A folder's contents as a power cut would leave them, from the syncs and renames seen.

    A file keeps what it held at its last sync; one that was overwritten since is torn, here empty.
    A rename lasts from the next sync of the folder, and may last from the rename on.
    """

    def __init__(self, folder, monkeypatch, at_each_step):
        self.folder = folder
        self.synced = {}  # inode -> contents at the last sync, kept open so that none is reused
        self.names = {}  # name -> inode at the last sync of the folder
        self.held = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self.seen(getattr(os, name), self.sync, at_each_step))
        monkeypatch.setattr(os, "replace", self.seen(os.replace, lambda *_: None, at_each_step))

    @staticmethod
    def seen(step, note, at_each_step):
        def act(*arguments):
            at_each_step()
            step(*arguments)
            note(*arguments)
            at_each_step()

        return act

    def sync(self, descriptor):
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.names = self.visible_names()
            return
        if status.st_ino not in self.synced:
            self.held.append(os.dup(descriptor))
        self.synced[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def visible_names(self):
        return {path.name: path.stat().st_ino for path in self.folder.iterdir()}

    def contents(self, inode):
        synced = self.synced.get(inode, b"")
        now = [path for path in self.folder.iterdir() if path.stat().st_ino == inode]
        return synced if not now or now[0].read_bytes().startswith(synced) else b""

    def write_images(self, folder):
        """The folder after a cut now: the names last synced, and the names in sight."""
        for number, names in enumerate((self.names, self.visible_names())):
            image = folder / str(number)
            image.mkdir(exist_ok=True)
            for path in image.iterdir():
                path.unlink()
            for name, inode in names.items():
                (image / name).write_bytes(self.contents(inode))
            yield image

    def close(self):
        for descriptor in self.held:
            os.close(descriptor)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads files by their descriptors")
def test_a_power_cut_at_any_step_loses_nothing_acknowledged(tmp_path, monkeypatch):
    folder, images = tmp_path / "disk", tmp_path / "images"
    folder.mkdir()
    images.mkdir()
    acknowledged = None  # until the history's creation returned there is nothing to recover

    def check():
        if acknowledged is None:
            return
        with monkeypatch.context() as real:
            for name, step in steps.items():
                real.setattr(os, name, step)
            for image in disk.write_images(images):
                recovered = RecordedSampler.recover(image / "log")
                recovered.close()
                assert recovered.sampler.selected_ids[: len(acknowledged)] == acknowledged

    steps = {name: getattr(os, name) for name in ("fsync", "fdatasync", "replace")}
    disk = Disk(folder, monkeypatch, check)
    random = np.random.default_rng(0)
    recorded = RecordedSampler.create(
        folder / "log", FarthestPointSampler(3, capacity=40, warm_up=2)
    )
    acknowledged = []
    check()
    for call in range(4):
        ids = np.arange(20 * call, 20 * call + 20)
        recorded.add(ids, random.standard_normal((20, 3)).astype(np.float32))
        acknowledged = acknowledged + recorded.select(2)
        check()
        if call % 2:
            recorded.snapshot()
            check()
    recorded.close()
    disk.close()
    assert len(acknowledged) == 8
