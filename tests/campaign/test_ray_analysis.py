"""An analysis as tasks on a Ray cluster writes what it writes without one."""

import json

import pytest

pytest.importorskip("ray")

from campaign.analysis.workers import Workers
from campaign.ray_cluster import own_cluster
from tests.campaign.analysis_laboratory import write_run
from tests.campaign.ray_laboratory import campaign, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_space_on_a_cluster_is_space_here(tmp_path):
    import os

    run = write_run(tmp_path / "run", range(6))
    words = ("analyse", "space", run, "--first-us", 0)
    code, _, error = campaign(*words, "--workers", 1, "--out", tmp_path / "here")
    assert code == 0, error
    with own_cluster(tmp_path / "cluster", {"CPU": 2}, dashboard=False) as cluster:
        token = {name: os.environ[name] for name in os.environ if name.startswith("RAY_AUTH")}
        code, _, error = campaign(
            *(*words, "--out", tmp_path / "there", "--address", cluster.address),
            env=environment(**token),
        )
        assert code == 0, error
    here, there = (
        json.loads((tmp_path / name / "space.json").read_text()) for name in ("here", "there")
    )
    assert here == there


def test_no_cluster_at_an_address_is_one_error_with_exit_code_1(tmp_path):
    run = write_run(tmp_path / "run", range(3))
    words = ("analyse", "space", run, "--first-us", 0, "--address", "127.0.0.1:1")
    code, _, error = campaign(*words)
    assert code == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in error


def test_results_come_in_the_order_of_the_tasks():
    tasks = [(3,), (1,), (2,)]
    assert list(Workers(processes=1).each(float, tasks, "counting")) == [3.0, 1.0, 2.0]
