"""The state is a fold that obeys the conservation laws and refuses what would break them."""

import copy
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign.audit import laws_of
from campaign.events import (
    BatchEmbedded,
    BatchIngested,
    CampaignOpened,
    ContinuumStarted,
    ControlReceived,
    FeedbackMade,
    JobAbandoned,
    JobFailed,
    JobFinished,
    JobStarted,
    Permitted,
    Pick,
    Selected,
    ShellStarted,
)
from campaign.rules import Rules, boundary_of, picks_at, version_behind
from campaign.state import CampaignState, JobStatus, StateError, apply, initial_state
from tests.campaign.random_campaign import OPENED, RandomCampaign

RULES = st.builds(
    Rules,
    last_snapshot=st.integers(0, 7),
    per_snapshot=st.sampled_from([0.5, 1.0, 1.7, 3.0]),
    first_snapshot=st.integers(0, 2),
    mix=st.sampled_from([{"poisson": 1.0}, {"poisson": 1.0, "brownian": 3.0}]),
    attempts=st.sampled_from([{"crash": 2, "bad-input": 1}, {name: 1 for name in ("timeout",)}]),
    feedback=st.booleans(),
    every_snapshots=st.integers(1, 3),
    lag_snapshots=st.integers(0, 3),
    pacing=st.sampled_from(["lockstep", "free"]),
    credit=st.integers(1, 4),
    continuum_attempts=st.just(3),
)
CHANCE = st.integers(0, 2**32 - 1)


def campaign_of(rules: Rules, chance: int) -> RandomCampaign:
    import random

    generator = random.Random(chance)
    return RandomCampaign(rules, generator.randrange)


def run_to_the_end(campaign: RandomCampaign, deaths: int) -> None:
    left = deaths
    for _ in range(20_000):
        if left and campaign.choose(40) == 0:
            left -= 1
            campaign.restart()
        if not campaign.step():
            return
    raise AssertionError("the campaign hangs")


def picture(state: CampaignState) -> dict[str, object]:
    """All fields as plain values."""

    def plain(value: object) -> object:
        if hasattr(value, "__dataclass_fields__"):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
            return [plain(entry) for entry in value]
        return value

    return plain(state)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rules=RULES, chance=CHANCE, deaths=st.integers(0, 3))
def test_laws_hold_after_every_event_whatever_the_order(rules, chance, deaths):
    campaign = campaign_of(rules, chance)
    checked = initial_state(rules)
    run_to_the_end(campaign, deaths)
    for event in campaign.events:
        apply(checked, event)
        assert checked.ingested >= checked.embedded >= checked.selected >= checked.settled
        for law in laws_of(checked):
            assert law.holds, (str(law), event)
    assert picture(checked) == picture(campaign.state)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rules=RULES, chance=CHANCE, deaths=st.integers(0, 2))
def test_a_campaign_ends_complete_with_every_job_settled(rules, chance, deaths):
    campaign = campaign_of(rules, chance)
    run_to_the_end(campaign, deaths)
    state = campaign.state
    assert state.finished == "complete"
    assert state.ingested == state.settled == rules.last_snapshot + 1
    assert all(job.settled for job in state.order)
    asked = sum(picks_at(rules, snapshot) for snapshot in range(rules.last_snapshot + 1))
    assert len(state.order) <= asked


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rules=RULES, chance=CHANCE, deaths=st.integers(0, 2))
def test_versions_use_every_job_due_once_and_no_other(rules, chance, deaths):
    campaign = campaign_of(rules, chance)
    run_to_the_end(campaign, deaths)
    state = campaign.state
    selected_after = {
        f"{pick.patch_id:016x}": event.snapshot_index
        for event in campaign.events
        if isinstance(event, Selected)
        for pick in event.patches
    }
    used: set[str] = set()
    for made in state.versions:
        cut = made.boundary_snapshot - rules.lag_snapshots
        due = {
            name
            for name, snapshot in selected_after.items()
            if snapshot <= cut and state.jobs[name].status == JobStatus.DONE
        }
        assert set(made.jobs) == due - used
        used |= due
    if rules.feedback:
        count = sum(
            boundary_of(rules, version) <= rules.last_snapshot
            for version in range(1, rules.last_snapshot + 2)
        )
        assert state.version == count


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rules=RULES, chance=CHANCE)
def test_what_happened_once_is_refused_a_second_time(rules, chance):
    campaign = campaign_of(rules, chance)
    run_to_the_end(campaign, 0)
    state = initial_state(rules)
    for event in campaign.events:
        apply(state, event)
        before = picture(state)
        with pytest.raises(StateError):
            apply(state, event)
        assert picture(state) == before


def prepared(*more: object, **rules: object) -> CampaignState:
    """Two snapshots of three patches ingested, the first embedded, one of it picked."""
    state = initial_state(Rules(**{"last_snapshot": 5, **rules}))
    for event in (
        OPENED,
        ShellStarted(shell="s", pid=1, incarnation=1),
        ContinuumStarted(incarnation=1, from_snapshot=-1),
        batch(0),
        batch(1),
        BatchEmbedded(snapshot_index=0, encoder_version="e", crc32=0, quarantined=(2,)),
        Selected(snapshot_index=0, patches=(Pick(1, "q", 1.0),), discarded=0, candidates=1),
        *more,
    ):
        apply(state, event)
    return state


def batch(snapshot: int, **values: object) -> BatchIngested:
    event = BatchIngested(
        snapshot_index=snapshot,
        incarnation=1,
        time_us=1.0,
        count=3,
        controls=0,
        crc32=0,
        parameter_version=0,
    )
    return replace(event, **values)


STARTED = JobStarted(job=f"{1:016x}", attempt=1, slot=0, engine="brownian")
FINISHED = JobFinished(job=STARTED.job, attempt=1, crc32=0, frames=1, simulated_us=1.0, wall_s=1.0)
EMBEDDED = BatchEmbedded(snapshot_index=1, encoder_version="e", crc32=0)


@pytest.mark.parametrize(
    "event",
    [
        CampaignOpened(config_hash="h", code_version="1", encoder_version="e"),
        ShellStarted(shell="s", pid=1, incarnation=1),
        ShellStarted(shell="s", pid=1, incarnation=2, surviving=("0" * 16,)),
        ContinuumStarted(incarnation=2, from_snapshot=0),
        batch(3),
        batch(1),
        batch(2, controls=4),
        batch(2, incarnation=0),
        replace(EMBEDDED, snapshot_index=2),
        replace(EMBEDDED, quarantined=(0, 0)),
        replace(EMBEDDED, quarantined=(0, 1, 2, 3)),
        Selected(snapshot_index=1, patches=(), discarded=0, candidates=4),
        JobStarted(job=f"{2:016x}", attempt=1, slot=0, engine="brownian"),
        replace(STARTED, attempt=2),
        replace(STARTED, engine="poisson"),
        FINISHED,
        JobAbandoned(job=STARTED.job, reason="none"),
        FeedbackMade(version=2, boundary_snapshot=2, jobs=(), crc32=0),
        FeedbackMade(version=1, boundary_snapshot=1, jobs=(), crc32=0),
        Permitted(snapshot_index=1),
        ControlReceived(number=1, command="set", arguments=("mix.poisson", "1")),
        ControlReceived(number=1, command="set", arguments=("mix.brownian", "0")),
        ControlReceived(number=1, command="set", arguments=("mix.brownian",)),
        ControlReceived(number=1, command="explode"),
    ],
    ids=str,
)
def test_an_event_that_breaks_a_law_is_refused_and_changes_nothing(event):
    state = prepared()
    before = picture(copy.deepcopy(state))
    with pytest.raises(ValueError, match=r"cannot follow|would leave"):
        apply(state, event)
    assert picture(state) == before


@pytest.mark.parametrize(
    ("patches", "candidates"),
    [
        ((Pick(1, "q", 1.0),), 3),  # picked before
        ((Pick(1 << 20, "q", 1.0), Pick(1 << 20, "q", 1.0)), 2),  # twice
        ((Pick(2 << 20, "q", 1.0),), 3),  # of a snapshot to come
        ((Pick(1 << 20, "q", 1.0),), 2),  # a candidate is lost
        ((Pick(1 << 20, "q", 1.0),), 4),  # a candidate is double
    ],
)
def test_a_selection_that_loses_or_doubles_a_patch_is_refused(patches, candidates):
    state = prepared(EMBEDDED)
    with pytest.raises(StateError):
        apply(
            state,
            Selected(snapshot_index=1, patches=patches, discarded=0, candidates=candidates),
        )


class Unlisted(dict):
    """A dictionary whose keys nobody may go through."""

    def __iter__(self):
        raise AssertionError("this takes longer the more there are")


def test_a_selection_is_checked_without_going_through_all_jobs_before_it():
    state = prepared()
    apply(state, EMBEDDED)
    state.jobs = Unlisted(state.jobs)
    picks = (Pick(1 << 20, "q", 1.0),)
    apply(state, Selected(snapshot_index=1, patches=picks, discarded=0, candidates=3))
    assert len(state.jobs) == 2


def test_nothing_comes_before_the_opening():
    with pytest.raises(StateError, match="begins with CampaignOpened"):
        apply(initial_state(Rules(last_snapshot=1)), batch(0))


def test_budgets_are_separate_by_failure_class_and_loss_of_a_node_is_free():
    state = prepared(attempts={"crash": 2, "timeout": 1})
    job = state.jobs[STARTED.job]
    for attempt, failure in enumerate(["crash", "node-lost", "node-lost", "bad-output"], start=1):
        apply(state, replace(STARTED, attempt=attempt))
        apply(state, JobFailed(job=job.job, attempt=attempt, failure=failure, message=""))
        assert job.job not in state.exhausted
    apply(state, replace(STARTED, attempt=5))
    apply(state, JobFailed(job=job.job, attempt=5, failure="crash", message="again"))
    assert list(state.exhausted) == [job.job]
    with pytest.raises(StateError, match="budget"):
        apply(state, replace(STARTED, attempt=6))
    apply(state, JobAbandoned(job=job.job, reason="crash: again"))
    assert (state.abandoned, state.queued, state.settled) == (1, 0, 1)


def test_a_new_coordinator_takes_back_what_ran_but_for_survivors():
    other = Selected(
        snapshot_index=1, patches=(Pick(1 << 20, "q", 1.0),), discarded=0, candidates=3
    )
    second = JobStarted(job=f"{1 << 20:016x}", attempt=1, slot=1, engine="brownian")
    state = prepared(EMBEDDED, other, STARTED, second)
    apply(
        state, ShellStarted(shell="s", pid=2, incarnation=2, surviving=(second.job,), continuum=1)
    )
    assert list(state.running) == [second.job]
    assert [job.job for job in state.retries] == [STARTED.job]
    assert state.continuum_runs
    with pytest.raises(StateError, match="queued"):
        apply(state, FINISHED)
    apply(state, replace(STARTED, attempt=2))
    with pytest.raises(StateError, match="attempt 2 runs"):
        apply(state, FINISHED)


def test_shares_of_engines_are_kept_and_can_be_changed():
    rules = Rules(last_snapshot=200, mix={"poisson": 1.0, "brownian": 3.0}, per_snapshot=1.0)
    campaign = campaign_of(replace(rules, last_snapshot=39), 1)
    run_to_the_end(campaign, 0)
    engines = [job.engine for job in campaign.state.order]
    assert engines.count("poisson") == 10
    state = campaign.state
    apply(state, ControlReceived(number=1, command="set", arguments=("mix.poisson", "9")))
    taken = [state.mix.take() for _ in range(12)]
    assert taken.count("poisson") == 9


@given(rate=st.floats(0.01, 9.0), first=st.integers(0, 5), snapshots=st.integers(0, 200))
def test_the_running_total_of_picks_keeps_to_the_rate(rate, first, snapshots):
    rules = Rules(last_snapshot=snapshots, per_snapshot=rate, first_snapshot=first)
    total = sum(picks_at(rules, snapshot) for snapshot in range(snapshots + 1))
    due = max(0, snapshots + 1 - first) * rate
    assert due - 1 < total <= due + 1e-9


@given(
    every=st.integers(1, 6), lag=st.integers(0, 9), first=st.integers(0, 9), cut=st.integers(0, 60)
)
def test_versions_and_the_snapshots_behind_them_are_inverse(every, lag, first, cut):
    rules = Rules(last_snapshot=99, every_snapshots=every, lag_snapshots=lag, first_snapshot=first)
    boundaries = [boundary_of(rules, version) for version in range(1, 80)]
    assert boundaries[0] == min(b for b in range(every, 999, every) if b - lag >= first)
    version = version_behind(rules, cut)
    expected = boundaries.index(cut + lag) + 1 if cut + lag in boundaries else None
    assert version == expected
