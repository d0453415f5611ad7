import json

import pytest
from click.testing import CliRunner

from campaign.configuration import read_campaign
from campaign.replay import cluster_model, replay, replay_campaign
from campaign.virtual_clock import VirtualClock
from campaign.virtual_shell import ClusterModel, SyntheticEmbeddings

SMALL = ClusterModel(slots=40, patches=60, controls=6, job_h=0.5, snapshot_s=90.0)


def published(snapshots, per_snapshot=4.0):
    return read_campaign(
        "published", (f"continuum.snapshots={snapshots}", f"selection.per_snapshot={per_snapshot}")
    )


def test_a_clock_jumps_to_what_is_due_and_keeps_the_order_of_equals():
    clock, seen = VirtualClock(), []
    clock.call_after(2.0, lambda: seen.append(("b", clock.now_s)))
    clock.call_after(1.0, lambda: seen.append(("a", clock.now_s)))
    clock.call_after(2.0, lambda: seen.append(("c", clock.now_s)))
    clock.call_after(1.0, lambda: clock.call_after(0.5, lambda: seen.append(("n", clock.now_s))))
    while clock.advance():
        pass
    assert seen == [("a", 1.0), ("n", 1.5), ("b", 2.0), ("c", 2.0)]
    with pytest.raises(ValueError, match="delay must be >= 0 s, got -1"):
        clock.call_after(-1.0, lambda: None)


def test_a_replay_ends_with_every_job_done_and_is_a_function_of_its_model():
    once, story = replay_campaign(published(60), SMALL)
    again, _ = replay_campaign(published(60), SMALL)
    assert once.reason == "complete"
    waiting = 2  # snapshots before a queue has its hundred candidates
    assert once.selected == once.jobs_done + once.jobs_abandoned == 4 * (61 - waiting)
    assert once.patches == 61 * 60
    assert (once.virtual_days, once.events) == (again.virtual_days, again.events)
    assert max(running for _, running in story.running) <= SMALL.slots


def test_slots_stay_full_while_selections_outrun_them():
    outcome, _ = replay_campaign(published(150), SMALL)
    assert outcome.days_to_fill is not None
    assert outcome.occupancy_once_full > 0.98


def test_failing_nodes_cost_attempts_but_lose_no_job():
    model = SMALL.model_copy(update={"failures_per_h": 0.5})
    outcome, story = replay_campaign(published(40), model)
    assert len(story.failed) > 10
    assert outcome.jobs_done == outcome.selected


def test_embeddings_are_the_same_whenever_they_are_asked_for():
    embeddings = SyntheticEmbeddings(SMALL, 100)
    first, _, again = embeddings(7), embeddings(8), embeddings(7)
    assert (first.vector == again.vector).all()
    assert first.vector.shape == (60, 9)
    assert embeddings(99).vector[:, 4].mean() > embeddings(0).vector[:, 4].mean() + 0.5


def test_the_command_prints_json_and_refuses_unknown_keys():
    arguments = ["published", "--snapshots", "5", "--cluster", "slots=4", "--json"]
    result = CliRunner().invoke(replay, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["model"]["slots"] == 4
    refused = CliRunner().invoke(replay, ["published", "--cluster", "slot=4"])
    assert refused.exit_code == 2
    assert "known keys are slots" in refused.output
    assert cluster_model(("job_h=2.5",)).job_h == 2.5
