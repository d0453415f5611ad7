"""What is planned follows from the state, again and again, and no faster than the rules allow."""

from dataclasses import replace

import pytest

from campaign.events import (
    BatchEmbedded,
    CampaignFinished,
    ContinuumEnded,
    ControlReceived,
    FeedbackMade,
    JobFailed,
    JobFinished,
    JobStarted,
    Permitted,
    Pick,
    Selected,
    SlotCordoned,
)
from campaign.plan import (
    AbandonJob,
    Embed,
    Finish,
    LaunchContinuum,
    MakeFeedback,
    Permit,
    Resources,
    Select,
    StartJob,
    StopContinuum,
    job_seed,
    plan,
)
from campaign.state import apply
from tests.campaign.test_state import FINISHED, STARTED, batch, prepared

IDLE = Resources(free_slots=2, usable_slots=2)


def of_kind(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def test_a_plan_is_a_function_of_the_state():
    state = prepared()
    assert plan(state, IDLE) == plan(state, IDLE)


def test_batches_are_embedded_in_order_and_only_so_many_at_once():
    state = prepared(embed_ahead=3)
    for snapshot in range(2, 6):
        apply(state, batch(snapshot))
    asked = of_kind(plan(state, IDLE), Embed)
    assert [action.snapshot_index for action in asked] == [1, 2, 3]
    asked = of_kind(plan(state, replace(IDLE, embedding=2)), Embed)
    assert [action.snapshot_index for action in asked] == [3]


def test_selection_waits_for_embeddings():
    state = prepared()
    assert of_kind(plan(state, IDLE), Select) == []
    apply(state, BatchEmbedded(snapshot_index=1, encoder_version="e", crc32=0))
    assert of_kind(plan(state, IDLE), Select) == [Select(snapshot_index=1)]


def test_no_more_jobs_start_than_slots_are_free():
    picks = tuple(Pick((1 << 20) + slot, "q", 1.0) for slot in range(3))
    state = prepared(
        BatchEmbedded(snapshot_index=1, encoder_version="e", crc32=0),
        Selected(snapshot_index=1, patches=picks, discarded=0, candidates=1),
    )
    started = of_kind(plan(state, IDLE), StartJob)
    assert [action.job for action in started] == [f"{1:016x}", f"{1 << 20:016x}"]
    assert of_kind(plan(state, replace(IDLE, free_slots=0)), StartJob) == []
    assert len(of_kind(plan(state, replace(IDLE, free_slots=9)), StartJob)) == 4


def test_a_failed_job_comes_before_new_ones_with_its_seed():
    state = prepared()
    first = of_kind(plan(state, IDLE), StartJob)[0]
    apply(state, STARTED)
    apply(state, JobFailed(job=STARTED.job, attempt=1, failure="crash", message=""))
    again = of_kind(plan(state, IDLE), StartJob)[0]
    assert again == replace(first, attempt=2)


def test_seeds_depend_on_campaign_and_patch_alone():
    seeds = {job_seed(seed, patch) for seed in range(20) for patch in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert job_seed(3, 7) == job_seed(3, 7)


def test_a_used_up_budget_is_given_up_not_tried_again():
    state = prepared(STARTED, attempts={"crash": 1})
    apply(state, JobFailed(job=STARTED.job, attempt=1, failure="crash", message="boom"))
    actions = plan(state, IDLE)
    assert of_kind(actions, AbandonJob) == [AbandonJob(job=STARTED.job, reason="crash: boom")]
    assert of_kind(actions, StartJob) == []


def permits(state):
    return [action.snapshot_index for action in of_kind(plan(state, IDLE), Permit)]


def test_the_membrane_is_at_most_its_credit_ahead_of_the_selection():
    assert permits(prepared(feedback=False, credit=3)) == [0, 1, 2, 3]
    assert permits(prepared(feedback=False, credit=1)) == [0, 1]
    assert permits(prepared(feedback=False, credit=99)) == [0, 1, 2, 3, 4, 5]


def test_in_lockstep_no_boundary_is_passed_before_its_version():
    assert permits(prepared(every_snapshots=2, credit=99)) == [0, 1]
    assert permits(prepared(every_snapshots=2, credit=99, pacing="free")) == [0, 1, 2, 3, 4, 5]


def test_a_long_queue_of_jobs_holds_the_membrane():
    assert permits(prepared(feedback=False, max_queued=0)) == []
    assert permits(prepared(STARTED, feedback=False, max_queued=0)) != []


def versions(state, **resources):
    actions = plan(state, replace(IDLE, **resources))
    return [action.version for action in of_kind(actions, MakeFeedback)]


def test_a_version_waits_for_its_jobs_and_for_the_membrane_at_its_boundary():
    rules = {"every_snapshots": 2, "lag_snapshots": 2}
    state = prepared(STARTED, **rules)
    assert versions(state) == []
    apply(state, FINISHED)
    assert versions(state) == []  # settled, but the membrane is not there yet
    apply(state, batch(2))
    assert versions(state) == [1]
    assert versions(state, feedback_busy=True) == []
    made = of_kind(plan(state, IDLE), MakeFeedback)[0]
    assert (made.boundary_snapshot, made.jobs, made.earlier) == (2, (STARTED.job,), ())
    apply(state, FeedbackMade(version=1, boundary_snapshot=2, jobs=made.jobs, crc32=0))
    assert permits(state)[-1] == 3
    assert versions(prepared(STARTED, FINISHED, pacing="free", **rules)) == [1]


def test_ranks_are_launched_again_until_they_bring_nothing_new():
    state = prepared(continuum_attempts=2)
    assert of_kind(plan(state, IDLE), LaunchContinuum) == []
    for expected in (2, 3):
        ended = ContinuumEnded(incarnation=expected - 1, exit_code=1, finished=False, message="x")
        apply(state, ended)
        launched = of_kind(plan(state, IDLE), LaunchContinuum)
        if expected == 3:
            break
        assert launched == [LaunchContinuum(incarnation=expected, last_snapshot=5)]
        state.continuum, state.continuum_runs = expected, True
    assert launched == []
    (ending,) = of_kind(plan(state, IDLE), Finish)
    assert ending.reason.startswith("failed: the continuum ended 2 times")


def test_ranks_that_ended_short_of_a_later_end_are_started_again():
    state = prepared(last_snapshot=1)
    apply(state, ContinuumEnded(incarnation=1, exit_code=0, finished=True))
    assert of_kind(plan(state, IDLE), LaunchContinuum) == []
    apply(state, ControlReceived(number=1, command="set", arguments=("snapshots", "3")))
    launched = of_kind(plan(state, IDLE), LaunchContinuum)
    assert launched == [LaunchContinuum(incarnation=2, last_snapshot=3)]


def test_ranks_that_died_at_the_last_boundary_are_started_again():
    state = prepared(last_snapshot=1)
    apply(state, ContinuumEnded(incarnation=1, exit_code=-9, finished=False))
    launched = of_kind(plan(state, IDLE), LaunchContinuum)
    assert launched == [LaunchContinuum(incarnation=2, last_snapshot=1)]


def test_a_new_snapshot_restores_the_ranks_budget_and_bad_input_ends_it_at_once():
    state = prepared(continuum_attempts=2)
    apply(state, ContinuumEnded(incarnation=1, exit_code=1, finished=False))
    apply(state, batch(2))
    assert state.continuum_failures == 0
    state.continuum_runs = True
    apply(state, ContinuumEnded(incarnation=1, exit_code=2, finished=False, message="no such key"))
    (ending,) = of_kind(plan(state, IDLE), Finish)
    assert "no such key" in ending.reason


def test_without_a_usable_slot_the_campaign_fails_instead_of_waiting():
    state = prepared(SlotCordoned(slot=0, reason="black hole"))
    (ending,) = of_kind(plan(state, replace(IDLE, free_slots=0, usable_slots=0)), Finish)
    assert ending.reason == "failed: no MD slot is usable (black hole)"


def test_draining_starts_nothing_and_ends_when_what_ran_has_ended():
    state = prepared(STARTED, ControlReceived(number=1, command="drain"))
    apply(state, batch(2))
    assert plan(state, IDLE) == [StopContinuum(incarnation=1)]
    apply(state, ContinuumEnded(incarnation=1, exit_code=-9, finished=False))
    assert state.continuum_failures == 0
    assert plan(state, IDLE) == []
    apply(state, FINISHED)
    assert plan(state, IDLE) == [Finish(reason="drained")]


def test_stopping_ends_at_once_and_nothing_follows_an_end():
    state = prepared(STARTED, ControlReceived(number=1, command="stop"))
    assert plan(state, IDLE) == [Finish(reason="stopped")]
    apply(state, CampaignFinished(reason="stopped"))
    assert plan(state, IDLE) == []


@pytest.mark.parametrize("feedback", [True, False])
def test_a_campaign_is_complete_with_its_last_job_and_version(feedback):
    state = prepared(feedback=feedback, every_snapshots=1, last_snapshot=1)
    apply(state, BatchEmbedded(snapshot_index=1, encoder_version="e", crc32=0))
    apply(state, Selected(snapshot_index=1, patches=(), discarded=0, candidates=4))
    apply(state, ContinuumEnded(incarnation=1, exit_code=0, finished=True))
    apply(state, JobStarted(job=STARTED.job, attempt=1, slot=0, engine="brownian"))
    assert of_kind(plan(state, IDLE), Finish) == []
    apply(state, JobFinished(**{name: getattr(FINISHED, name) for name in FINISHED.__slots__}))
    if feedback:
        assert of_kind(plan(state, IDLE), Finish) == []
        jobs = (STARTED.job,)
        apply(state, FeedbackMade(version=1, boundary_snapshot=1, jobs=jobs, crc32=0))
    apply(state, Permitted(snapshot_index=0))
    assert of_kind(plan(state, IDLE), Finish) == [Finish(reason="complete")]
