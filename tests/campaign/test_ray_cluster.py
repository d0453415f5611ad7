"""A cluster of our own costs little, and is as the environment wants it."""

import os

import psutil
import pytest

pytest.importorskip("ray")

from campaign.ray_cluster import own_cluster
from ml.training.errors import ClusterError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
METRICS, STATISTICS = "RAY_enable_metrics_collection", "RAY_event_stats"


def test_a_cluster_that_nobody_watches_has_no_services_for_watching(tmp_path, monkeypatch):
    monkeypatch.setenv(METRICS, "1")
    monkeypatch.delenv(STATISTICS, raising=False)
    with own_cluster(tmp_path / "run", {"CPU": 1}, dashboard=False):
        running = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
        chosen = {name: os.environ[name] for name in (METRICS, STATISTICS)}
    assert any("gcs_server" in command for command in running)
    assert any("raylet/raylet" in command for command in running)
    for service in ("log_monitor.py", "monitor.py", "dashboard.py", "ray::IDLE"):
        assert not any(service in command for command in running), service
    assert chosen == {METRICS: "1", STATISTICS: "0"}  # what the user says, and what we choose
    assert os.environ[METRICS] == "1"
    assert STATISTICS not in os.environ


def test_a_node_that_does_not_come_up_is_one_error_and_leaves_nothing(tmp_path, monkeypatch):
    import ray

    def late(**options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", late)
    refused = pytest.raises(ClusterError, match="does not start: The current node timed out")
    with refused, own_cluster(tmp_path, {"CPU": 1}, dashboard=False):
        pass
    assert list((tmp_path / "control").iterdir()) == []
