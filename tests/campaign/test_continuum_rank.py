"""A continuum under a campaign: the same patches as alone, and boundaries passed only by permit."""

import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

from campaign.continuum_rank import (
    BoundarySignal,
    PatientWorld,
    RankPlan,
    WrongVersion,
    adopted_versions,
    carry_out,
    continuum_rank,
)
from campaign.heartbeat import read_heartbeat
from campaign.mpi_launcher import last_checkpoint
from campaign.run_folder import prepare_ranks
from campaign.spool import (
    Fenced,
    Permit,
    SpoolIntake,
    batch_crc32,
    read_permit,
    write_incarnation,
    write_permit,
)
from continuum.configuration import build_model, configuration_hash, read_configuration
from continuum.halo import SingleProcess
from continuum.parameter_versions import ParameterVersion, write_parameter_version
from continuum.parameters import RadialPotentials
from continuum.run import RunPlan, run

LAST = 3
SMALL = read_configuration(
    "laptop",
    (
        "membrane.side_nm=60.0",
        "membrane.cells=72",
        "duration_us=0.06",
        "output.snapshot_interval_us=0.02",
        "output.checkpoint_every=2",
        "output.control_patches=2",
        "output.control_distance_nm=5.0",
        "proteins.count=3",
        "numerics.protein_substep_us=0.0025",
    ),
)


def plan(folder, incarnation=1, **values):
    given = {"last_snapshot": LAST, "transport": "spool", "pacing": "lockstep", **values}
    return RankPlan(run=folder, incarnation=incarnation, **given)


def weaker_version(number):
    """Potentials a run of SMALL may take up."""
    model = build_model(SMALL)
    table = model.potentials.u * 0.5
    return ParameterVersion(
        version=number,
        potentials=RadialPotentials(
            u=table, dr_nm=model.potentials.dr_nm, cutoff_nm=model.potentials.cutoff_nm
        ),
        state_names=tuple(state.name for state in model.proteins.states),
        lipid_labels=model.lipids.labels,
        provenance="test",
    )


def permit(folder, snapshot_index, version=0):
    write_permit(folder, Permit(snapshot_index=snapshot_index, parameter_version=version))


def checksums(folder):
    return [batch.crc32 for batch in SpoolIntake(folder).poll()]


@pytest.fixture(scope="module")
def alone():
    """Checksums of the patches of the same membrane without a campaign."""
    sums = []
    model = build_model(SMALL)

    def course(folder):
        whole = RunPlan(
            model=model,
            configuration_hash=configuration_hash(SMALL),
            folder=folder,
            sink=lambda batch: sums.append(batch_crc32(batch)),
            last_snapshot=LAST,
        )
        run(whole, SingleProcess(), lambda membrane, index: None)
        return sums

    return course


@pytest.fixture
def folder(tmp_path):
    prepare_ranks(tmp_path, SMALL)
    return tmp_path


def test_patches_are_those_of_the_membrane_alone_also_after_a_crash(folder, alone):
    expected = alone(folder / "alone")
    permit(folder, 1)
    ends = []

    def first_incarnation():
        try:
            carry_out(plan(folder), SingleProcess())
        except Fenced as error:
            ends.append(error)

    started = threading.Thread(target=first_incarnation)
    started.start()
    intake, arrived = SpoolIntake(folder), []
    deadline = time.monotonic() + 120
    while len(arrived) < 3 and time.monotonic() < deadline:
        arrived += intake.poll()
        time.sleep(0.02)
    time.sleep(0.2)
    assert [batch.snapshot_index for batch in arrived] == [0, 1, 2]  # it waits at boundary 2
    assert last_checkpoint(folder) == 0
    assert read_heartbeat(folder).phase == "waiting"
    write_incarnation(folder, 2)
    started.join()
    assert len(ends) == 1
    permit(folder, LAST)
    membrane = carry_out(plan(folder, 2), SingleProcess())
    assert membrane.time_us == pytest.approx(0.06)
    assert checksums(folder) == expected
    assert last_checkpoint(folder) == LAST
    assert adopted_versions(folder / "parameters") == dict.fromkeys(range(LAST + 1), 0)


def test_a_version_is_taken_up_at_the_boundary_it_was_permitted_for(folder):
    permit(folder, 1)
    carry_out(plan(folder, last_snapshot=1), SingleProcess())
    write_parameter_version(folder / "parameters", weaker_version(1))
    permit(folder, 2, version=1)
    carry_out(plan(folder, 2, last_snapshot=2), SingleProcess())
    assert adopted_versions(folder / "parameters") == {0: 0, 1: 0, 2: 1}


def test_a_version_that_comes_before_its_boundary_is_refused(folder):
    write_parameter_version(folder / "parameters", weaker_version(1))
    permit(folder, LAST)
    with pytest.raises(WrongVersion, match=r"boundary 0 .* version 0, but the newest .* is 1"):
        carry_out(plan(folder), SingleProcess())
    carry_out(plan(folder, pacing="free", last_snapshot=0), SingleProcess())
    assert adopted_versions(folder / "parameters") == {0: 1}


def test_a_boundary_passed_before_the_crash_may_be_passed_again_after_a_younger_version(folder):
    permit(folder, 1)
    carry_out(plan(folder, last_snapshot=1), SingleProcess())
    (folder / "checkpoints" / "0000000001.h5").unlink()  # the crash came before it
    write_parameter_version(folder / "parameters", weaker_version(1))
    assert read_permit(folder).parameter_version == 0
    carry_out(plan(folder, 2, last_snapshot=1), SingleProcess())
    assert adopted_versions(folder / "parameters") == {0: 0, 1: 0}


@pytest.mark.parametrize("options", [[], ["--last-snapshot", "-1"]])
def test_bad_options_end_with_code_2(folder, options):
    assert CliRunner().invoke(continuum_rank, [str(folder), *options]).exit_code == 2


def test_a_folder_without_a_campaign_is_named(tmp_path):
    result = CliRunner().invoke(continuum_rank, [str(tmp_path), "--last-snapshot", "1"])
    assert result.exit_code == 2
    assert "continuum.resolved.yaml does not exist" in result.output


class OtherRank(SingleProcess):
    """Rank 1 of two on one host, whose rank 0 says what it is asked for."""

    rank, size = 1, 2

    def gather_to_root(self, value):
        return None

    def broadcast(self, value):
        import socket

        return socket.gethostname()


def test_ranks_beside_rank_0_sleep_until_it_has_passed_the_boundary(tmp_path):
    (tmp_path / "control").mkdir()
    signal = BoundarySignal(tmp_path, 2)
    BoundarySignal(tmp_path, 1).announce(9)  # of an older incarnation
    world = PatientWorld(OtherRank(), signal)
    world.next_boundary = 4
    world.broadcast(None)  # not at a boundary: it does not wait
    world.sum_to_root(np.zeros(1))
    timer = threading.Timer(0.4, signal.announce, (4,))
    timer.start()
    began, used = time.monotonic(), time.thread_time()
    world.broadcast(None)
    assert time.monotonic() - began >= 0.39
    assert time.thread_time() - used < 0.1
    timer.join()
    world.gather_to_root(None)  # passed already


def test_a_signal_of_an_earlier_boundary_lets_nobody_pass(tmp_path):
    (tmp_path / "control").mkdir()
    signal = BoundarySignal(tmp_path, 1)
    assert not signal.passed(0)
    signal.announce(3)
    assert [signal.passed(index) for index in (2, 3, 4)] == [True, True, False]
