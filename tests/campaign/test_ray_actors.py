"""What Ray's actors do, as plain objects: nothing is acknowledged early, nothing told twice."""

import asyncio
import sys
from functools import wraps

import pytest

from campaign.molecular_dynamics.job import Completion, JobSpec
from campaign.molecular_dynamics.settings import CommandSettings, EnginesSection
from campaign.mpi_launcher import LaunchSettings
from campaign.placement import spread
from campaign.spool import (
    DivergentBatch,
    Fenced,
    Permit,
    batch_crc32,
    patch_path,
    store_batch,
    write_incarnation,
    write_permit,
)
from tests.campaign.md_laboratory import RASA, patch_of, spec_of, write_batch
from tests.campaign.patch_laboratory import SPECIES, STATES, batch_of, changed

pytest.importorskip("ray")
from campaign.pilot import Pilot
from campaign.rank_launcher import RankLauncher
from campaign.ray_bridge import Intake

LAYOUT = (SPECIES, STATES, 0)


def in_loop(test):
    """Run an asynchronous test."""

    @wraps(test)
    def run(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 60))

    return run


async def settle():
    await asyncio.sleep(0.3)


@in_loop
async def test_a_batch_is_acknowledged_only_once_it_is_in_the_journal(tmp_path):
    intake = Intake(str(tmp_path))
    push = asyncio.create_task(intake.push(1, batch_of(0), LAYOUT))
    found = await intake.new_batches(0, 5.0)
    assert patch_path(tmp_path, 0).exists()
    assert [(each["snapshot_index"], each["crc32"]) for each in found] == [
        (0, batch_crc32(batch_of(0)))
    ]
    await settle()
    assert not push.done()
    await intake.accepted(0)
    await push


@in_loop
async def test_what_the_coordinator_expects_acknowledges_what_came_before(tmp_path):
    intake = Intake(str(tmp_path))
    push = asyncio.create_task(intake.push(1, batch_of(0), LAYOUT))
    await intake.new_batches(0, 5.0)
    assert await intake.new_batches(1, 0.1) == []
    await push


@in_loop
async def test_a_batch_that_comes_again_is_acknowledged_and_not_told_again(tmp_path):
    intake = Intake(str(tmp_path))
    store_batch(tmp_path, batch_of(0), SPECIES, STATES)
    assert await intake.new_batches(1, 0.0) == []  # the journal has snapshot 0
    await intake.push(2, batch_of(0), LAYOUT)
    assert await intake.new_batches(1, 0.0) == []


@in_loop
async def test_a_restarted_intake_finds_on_disk_what_was_not_yet_told(tmp_path):
    write_incarnation(tmp_path, 3)
    for index in range(3):
        store_batch(tmp_path, batch_of(index), SPECIES, STATES)
    found = await Intake(str(tmp_path)).new_batches(1, 0.0)
    assert [(each["snapshot_index"], each["incarnation"]) for each in found] == [(1, 3), (2, 3)]


@in_loop
async def test_batches_are_told_in_order_and_without_gaps(tmp_path):
    intake = Intake(str(tmp_path))
    later = asyncio.create_task(intake.push(1, batch_of(1), LAYOUT))
    await settle()
    assert await intake.new_batches(0, 0.1) == []
    first = asyncio.create_task(intake.push(1, batch_of(0), LAYOUT))
    await settle()
    assert [each["snapshot_index"] for each in await intake.new_batches(0, 5.0)] == [0, 1]
    await intake.accepted(1)
    await asyncio.gather(first, later)


@in_loop
async def test_an_older_incarnation_is_refused_and_a_divergent_batch_not_stored(tmp_path):
    write_incarnation(tmp_path, 2)
    intake = Intake(str(tmp_path))
    with pytest.raises(Fenced):
        await intake.push(1, batch_of(0), LAYOUT)
    assert not patch_path(tmp_path, 0).exists()
    store_batch(tmp_path, batch_of(0), SPECIES, STATES)
    with pytest.raises(DivergentBatch):
        await intake.push(2, changed(batch_of(0), time_us=9.0), LAYOUT)


@in_loop
async def test_a_permit_is_given_when_it_comes_and_a_restarted_intake_knows_it(tmp_path):
    intake = Intake(str(tmp_path))
    assert await intake.wait_permit(1, 0, 0.05) is None
    waiting = asyncio.create_task(intake.wait_permit(1, 2, 30.0))
    await settle()
    permit = Permit(snapshot_index=2, parameter_version=1)
    write_permit(tmp_path, permit)
    await intake.permit(2, 1)
    assert Permit(**await waiting) == permit
    again = await Intake(str(tmp_path)).wait_permit(1, 1, 0.0)
    assert Permit(**again) == permit
    write_incarnation(tmp_path, 2)
    with pytest.raises(Fenced):
        await intake.wait_permit(1, 9, 30.0)


def spec(run, number, attempt=1):
    """A job whose patch file does not exist, so that it fails at once as bad input."""
    return JobSpec(
        job=f"{number:016x}",
        attempt=attempt,
        patch_id=number,
        patch_file=run / "none.h5",
        engine="poisson",
        seed=number,
        duration_us=1.0,
        time_limit_s=60.0,
        result_path=run / "md" / f"{number:016x}.h5",
    )


def completions(answer):
    return [(number, Completion.from_json(text)) for number, text in answer["completions"]]


@in_loop
async def test_a_pilot_tells_completions_until_it_hears_that_they_are_known(tmp_path):
    pilot = Pilot(str(tmp_path), 0, 1, EnginesSection(), None)
    try:
        await pilot.start([spec(tmp_path, 1).to_json()])
        assert await pilot.in_hand() == [spec(tmp_path, 1).job]
        first = completions(await pilot.ended(0, 50.0))
        assert [(number, each.job, each.failure) for number, each in first] == [
            (1, spec(tmp_path, 1).job, "bad-input")
        ]
        assert completions(await pilot.ended(0, 0.0)) == first  # asked by a new coordinator
        assert await pilot.in_hand() == [spec(tmp_path, 1).job]
        assert completions(await pilot.ended(1, 0.0)) == []
        assert await pilot.in_hand() == []
        await pilot.start([spec(tmp_path, 2).to_json()])
        assert [number for number, _ in completions(await pilot.ended(1, 50.0))] == [2]
    finally:
        await pilot.close()


@in_loop
async def test_jobs_can_come_with_the_question_what_has_ended(tmp_path):
    pilot = Pilot(str(tmp_path), 0, 1, EnginesSection(), None)
    try:
        asked = asyncio.create_task(pilot.ended(0, 50.0, [spec(tmp_path, 1).to_json()]))
        await settle()
        assert await pilot.in_hand() == [spec(tmp_path, 1).job]
        assert [each.job for _, each in completions(await asked)] == [spec(tmp_path, 1).job]
        again = pilot.ended(1, 50.0, [spec(tmp_path, 2).to_json()])
        assert [each.job for _, each in completions(await again)] == [spec(tmp_path, 2).job]
    finally:
        await pilot.close()


@in_loop
async def test_a_job_that_is_in_a_slot_goes_on_as_the_attempt_last_asked_for(tmp_path):
    pilot = Pilot(str(tmp_path), 0, 1, EnginesSection(), None)
    try:
        await pilot.start([spec(tmp_path, 1).to_json()])
        await pilot.start([spec(tmp_path, 1, attempt=2).to_json()])
        ended = completions(await pilot.ended(0, 50.0))
        assert [(each.job, each.attempt) for _, each in ended] == [(spec(tmp_path, 1).job, 2)]
        await settle()
        assert len(completions(await pilot.ended(0, 0.0))) == 1
    finally:
        await pilot.close()


@in_loop
async def test_a_pilot_ends_a_job_over_its_time_limit_though_nobody_speaks(tmp_path):
    sleeping = CommandSettings(argv=[sys.executable, "-c", "import time; time.sleep(1000)"])
    write_batch(tmp_path / "patches.h5", [patch_of(RASA)])
    job = spec_of(tmp_path, 0, engine="command", time_limit_s=0.5)
    pilot = Pilot(str(tmp_path), 0, 1, EnginesSection(command=sleeping), None)
    try:
        ended = completions(await pilot.ended(0, 100.0, [job.to_json()]))
        assert [(each.job, each.failure) for _, each in ended] == [(job.job, "timeout")]
    finally:
        await pilot.close()


@in_loop
async def test_a_job_for_which_there_is_no_slot_ends_as_lost(tmp_path):
    pilot = Pilot(str(tmp_path), 0, 1, EnginesSection(), None)
    try:
        await pilot.start([spec(tmp_path, 1).to_json(), spec(tmp_path, 2).to_json()])
        first = completions(await pilot.ended(0, 0.0))
        assert [(each.job, each.failure) for _, each in first] == [
            (spec(tmp_path, 2).job, "node-lost")
        ]
    finally:
        await pilot.close()


@in_loop
async def test_a_new_launcher_says_that_the_ranks_of_its_predecessor_are_gone(tmp_path):
    launcher = RankLauncher(LaunchSettings(run=tmp_path, ranks=1))
    assert await launcher.running() == 0
    end = await launcher.ended(4, 30.0)
    assert (end["incarnation"], end["finished"], end["exit_code"]) == (4, False, -1)


@in_loop
async def test_a_launcher_tells_the_end_again_to_whoever_asks_again(tmp_path):
    launcher = RankLauncher(LaunchSettings(run=tmp_path, ranks=1))
    await launcher.launch(1, 3)  # there is no configuration, so it fails
    assert await launcher.ended(1, 0.0) is None
    end = await launcher.ended(1, 50.0)
    assert (end["incarnation"], end["exit_code"]) == (1, 2)
    assert await launcher.ended(1, 0.0) == end


@pytest.mark.parametrize(
    ("amount", "free", "placed"),
    [
        (3, {"a": 4.0, "b": 2.0}, {"a": 3}),
        (5, {"b": 2.0, "a": 4.0}, {"a": 4, "b": 1}),
        (4, {"b": 2.0, "a": 2.0}, {"a": 2, "b": 2}),
        (2, {"a": 1.9, "b": 1.0}, {"a": 1, "b": 1}),
        (0, {"a": 1.0}, {}),
    ],
)
def test_cpus_come_from_the_roomiest_nodes_first(amount, free, placed):
    assert spread(amount, free) == placed


@pytest.mark.parametrize("free", [{}, {"a": 2.0, "b": 0.5}])
def test_cpus_that_are_not_there_are_not_placed(free):
    with pytest.raises(ValueError, match=r"3 CPUs are needed and [02] are free"):
        spread(3, free)
