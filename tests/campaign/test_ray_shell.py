"""A campaign on Ray selects what it selects without, whatever is killed on the way."""

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("ray")

from campaign.events import ShellStarted
from campaign.run_folder import read_state
from tests.campaign.ray_laboratory import (
    actor,
    begin,
    campaign,
    cluster_processes,
    ingested,
    picks,
    wait_until,
)

SNAPSHOTS = 14  # two or three pass from one kill to the next
ACTORS = ("Embedder", "Pilot", "Intake", "RankLauncher", "CampaignActor")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The picks of the same campaign without Ray."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    code, _, error = campaign("run", "small", "--out", run, "--snapshots", SNAPSHOTS, "--local")
    assert code == 0, error
    return picks(run)


@pytest.fixture
def clean(tmp_path):
    """Ends what a failed test leaves."""
    yield tmp_path
    for run in tmp_path.iterdir():
        for process in cluster_processes(run) if run.is_dir() else []:
            process.kill()


def kill_in_turn(run: Path, names: tuple[str, ...], driver: subprocess.Popen) -> None:
    """One after the other, each after the campaign has come on by a snapshot."""
    for name in names:
        before = ingested(run)
        coming = f"a snapshot before {name} dies"
        wait_until(lambda before=before: ingested(run) > before, coming, driver)
        found = wait_until(lambda name=name: actor(run, name), f"{name} runs", driver)
        found.kill()


def test_whatever_is_killed_the_picks_are_those_of_an_undisturbed_campaign(clean, undisturbed):
    run, log = clean / "run", clean / "log"
    driver = begin("run", "small", "--out", run, "--snapshots", SNAPSHOTS, log=log)
    kill_in_turn(run, ACTORS, driver)
    before = ingested(run)
    wait_until(lambda: ingested(run) > before, "the new coordinator takes a snapshot in", driver)
    actor(run, "raylet").kill()
    assert driver.wait(120) == 1
    assert "Error: the local Ray cluster died" in log.read_text()
    assert cluster_processes(run) == []

    before, taken_over = ingested(run), shells(run)
    assert taken_over >= 2  # the coordinator was killed once
    driver = begin("resume", run, log=log)
    wait_until(lambda: shells(run) > taken_over, "a coordinator takes over", driver)
    mark = json.loads((run / "control" / "cluster.json").read_text())["mark"]
    driver.kill()
    driver.wait()
    wait_until(lambda: not cluster_processes(run), f"cluster {mark} ends with its driver")

    code, out, error = campaign("resume", run, "--local")
    assert code == 0, error
    assert ": complete:" in out
    code, out, _ = campaign("audit", run)
    assert code == 0, out
    assert picks(run) == undisturbed
    assert len(undisturbed) == 2 * (SNAPSHOTS + 1)


def shells(run: Path) -> int:
    """How often a coordinator has taken the run up."""
    shell: ShellStarted | None = read_state(run)[1].shell
    return shell.incarnation if shell else 0
