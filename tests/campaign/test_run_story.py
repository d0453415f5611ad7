import pytest

from campaign.events import (
    BatchIngested,
    CampaignOpened,
    JobFinished,
    JobStarted,
    Pick,
    Selected,
    ShellStarted,
)
from campaign.journal import Record
from campaign.run_story import tell

T0 = 1_700_000_000.0


def story_of(*timed):
    opened = CampaignOpened(config_hash="c", code_version="v", encoder_version="e")
    events = [(0.0, opened), *timed]
    return tell([Record(i, T0 + t, event) for i, (t, event) in enumerate(events)])


def started(job):
    return JobStarted(job=job, attempt=1, slot=0, engine="poisson")


def finished(job):
    return JobFinished(job=job, attempt=1, crc32=0, frames=1, simulated_us=1.0, wall_s=1.0)


def batch(index):
    return BatchIngested(
        snapshot_index=index,
        incarnation=1,
        time_us=0.5 * index,
        count=7,
        controls=1,
        crc32=0,
        parameter_version=0,
    )


def selected(index, *patches):
    picks = tuple(Pick(patch, "all", 1.0) for patch in patches)
    return Selected(snapshot_index=index, patches=picks, discarded=0, candidates=0)


def test_occupancy_is_the_integral_of_running_jobs():
    story = story_of(
        (1.0, batch(0)),
        (1.5, selected(0, 1, 2)),
        (2.0, started("a")),
        (3.0, started("b")),
        (5.0, finished("a")),
        (6.0, batch(1)),
        (6.0, selected(1, 3)),
        (8.0, finished("b")),
    )
    to_last_selection, to_the_end = story.occupancy(2)
    assert to_last_selection == pytest.approx((1 + 2 * 2 + 1 * 1) / (2 * 4))
    assert to_the_end == pytest.approx((1 + 2 * 2 + 3 * 1) / (2 * 6))


def test_jobs_that_a_crash_took_do_not_run_on():
    story = story_of(
        (0.0, ShellStarted(shell="local", pid=1, incarnation=1)),
        (1.0, batch(0)),
        (1.0, selected(0, 1, 2)),
        (1.0, started("a")),
        (1.0, started("b")),
        (3.0, ShellStarted(shell="local", pid=2, incarnation=2, surviving=("b",))),
        (5.0, finished("b")),
        (5.0, batch(1)),
        (5.0, selected(1, 3)),
    )
    assert story.running == [(1.0, 1), (1.0, 2), (3.0, 1), (5.0, 0)]
    assert story.occupancy(2)[0] == pytest.approx((2 * 2 + 1 * 2) / (2 * 4))


def test_patches_and_selections_add_up_with_their_simulated_time():
    story = story_of((1.0, batch(0)), (2.0, batch(1)), (2.5, selected(0, 1)), (3.0, selected(1, 9)))
    assert [entry[1:] for entry in story.ingested] == [(0.0, 7), (0.5, 14)]
    assert [entry[1:] for entry in story.selected] == [(0.0, 1), (0.5, 2)]


def test_a_campaign_without_jobs_has_no_occupancy():
    assert story_of((1.0, batch(0))).occupancy(4) == (0.0, 0.0)
    assert tell([]).occupancy(1) == (0.0, 0.0)
