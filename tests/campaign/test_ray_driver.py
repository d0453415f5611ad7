"""The coordinator's actor: it ends with its campaign, and a new life is no new campaign."""

import asyncio
import os
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from campaign import ray_driver
from campaign.control import FolderControls
from campaign.ray_driver import CampaignActor
from campaign.run_folder import read_setup, read_state
from campaign.running import carry_on as carry_on_under
from tests.campaign.laboratory import LinearEncoder, carry_on, setup_of, start


class Ray:
    """What the actor asks of Ray."""

    def __init__(self):
        self.killed = threading.Event()

    def kill(self, handle):
        assert handle == "own handle"
        self.killed.set()

    def get_runtime_context(self):
        return SimpleNamespace(current_actor="own handle")


@pytest.fixture
def cluster(monkeypatch):
    ray = Ray()
    monkeypatch.setattr(ray_driver, "ray", ray)
    monkeypatch.setattr(ray_driver, "CampaignMetrics", lambda run: SimpleNamespace(watch=None))
    return ray


def campaign_that(monkeypatch, ends):
    """A campaign that ends once `ends()` does."""

    def carry_on(run, open_shell, *, watch, repair, after):
        ends()
        return SimpleNamespace(finished="complete")

    monkeypatch.setattr(ray_driver, "carry_on", carry_on)


def test_a_driver_hears_the_end_and_its_absence_then_ends_the_actor(cluster, monkeypatch, tmp_path):
    campaign_that(monkeypatch, lambda: None)
    actor = CampaignActor(str(tmp_path), False, lease_s=0.3, after=0)

    async def asked_for_a_second():
        for _ in range(10):
            assert await actor.outcome(0.1) == "complete"
            await asyncio.sleep(0.1)
        assert not cluster.killed.is_set()

    asyncio.run(asked_for_a_second())
    assert cluster.killed.wait(10)
    assert FolderControls(tmp_path).poll(0) == []


def test_without_a_driver_a_campaign_is_stopped_and_then_leaves_the_cluster(
    cluster, monkeypatch, tmp_path
):
    stopped = threading.Event()
    campaign_that(monkeypatch, stopped.wait)
    CampaignActor(str(tmp_path), False, lease_s=0.2, after=0)
    deadline = time.monotonic() + 10
    (tmp_path / "control").mkdir(exist_ok=True)
    while not (commands := FolderControls(tmp_path).poll(0)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [command.command for command in commands] == ["stop"]
    assert not cluster.killed.wait(0.5)
    stopped.set()
    assert cluster.killed.wait(10)


def test_questions_without_an_answer_leave_nothing_behind(cluster, monkeypatch, tmp_path):
    ends = threading.Event()
    campaign_that(monkeypatch, ends.wait)
    actor = CampaignActor(str(tmp_path), False, lease_s=0.5, after=0)

    async def asked_often():
        for _ in range(50):
            assert await actor.outcome(0.001) is None
        assert len(actor._ended._done_callbacks) <= 1
        ends.set()
        assert await actor.outcome(10.0) == "complete"

    asyncio.run(asked_often())
    assert cluster.killed.wait(10)  # not later, when the real Ray would hear it


def test_a_coordinator_that_is_born_again_does_not_take_up_a_campaign_that_ended(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    run = tmp_path / "run"
    start(run, setup_of("continuum.snapshots=1"))
    carry_on(run, read_setup(run))
    (run / "encoders" / LinearEncoder.version).mkdir(parents=True)
    before = (run / "journal" / "00000000.seg").read_bytes()
    opened = []

    @contextmanager
    def shell(run, setup):
        opened.append("opened")
        yield None
        opened.append("closed")

    state = carry_on_under(run, shell, after=0)
    assert state.finished == "complete"
    assert opened == ["opened", "closed"]  # what its former life left running is ended
    assert (run / "journal" / "00000000.seg").read_bytes() == before

    number = read_state(run)[1].shell.incarnation
    with pytest.raises(AttributeError):  # whoever asks again after the end goes on
        carry_on_under(run, shell, after=number)
