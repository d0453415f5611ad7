"""Every documented way to start a campaign works, and what is missing is said at once."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

from campaign.process_identity import kill, marked_processes
from campaign.ray_cluster import Cluster
from campaign.ray_local_provider import MARK, copy_here, mark_of, without_the_end
from campaign.run_folder import read_state
from ml.training.errors import ClusterError
from tests.campaign.ray_laboratory import PATIENCE_S, ROOT, campaign, environment

RAY = str(Path(sys.executable).parent / "ray")
CLUSTER = ROOT / "cluster" / "ray-local.yaml"

ports = pytest.mark.skipif(not Path(RAY).exists(), reason="ray is not beside Python")


def free_ports(count):
    """Not in use now, and not among those that Ray gives to workers."""
    found, port = [], 20_000 + os.getpid() % 10_000
    while len(found) < count:
        port += 7
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(str(port))
    return found


def refused(*words, env=None, code=1):
    status, _, error = campaign(*words, env=env)
    assert status == code, error
    return " ".join(error.split())


def arguments(run):
    return ("run", "small", "--out", run, "--snapshots", 0)


def test_without_ray_the_way_to_go_on_is_named(tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")\n")
    env = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    error = refused(*arguments(tmp_path / "run"), env=env)
    assert "Error: Ray cannot be used (No module named 'ray')" in error
    assert f"campaign resume {tmp_path / 'run'} --local" in error


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 (Connection refused)"),
        ("nowhere", "--address must be host:port or auto, got 'nowhere'"),
        ("ray://127.0.0.1:10001", "Ray Client is too slow for patches"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(tmp_path, address, reason):
    assert reason in refused(*arguments(tmp_path / "run"), "--address", address)


def test_token_mode_without_a_token_is_refused_at_once(tmp_path):
    env = environment(HOME=str(tmp_path), RAY_AUTH_MODE="token")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        error = refused(*arguments(tmp_path / "run"), "--address", address, env=env)
    assert "RAY_AUTH_MODE is token, but there is no token" in error


def test_a_cluster_without_the_node_behind_this_process_is_gone(monkeypatch):
    import ray

    nodes = [{"NodeID": "ours", "Alive": True}, {"NodeID": "another", "Alive": True}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with socket.create_server(("127.0.0.1", 0)) as head:
        cluster = Cluster(f"127.0.0.1:{head.getsockname()[1]}", node="ours")
        cluster.check()
        nodes[0]["Alive"] = False
        with pytest.raises(ClusterError, match="died; 1 others are alive"):
            cluster.check()


def test_one_process_can_use_clusters_of_different_tokens_in_turn(tmp_path, monkeypatch):
    from ray._raylet import AuthenticationTokenLoader

    from ml.training.ray_connection import refresh_authentication

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for token in ("1" * 64, "2" * 64):
        path = tmp_path / token
        path.write_text(token)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        refresh_authentication()
        assert AuthenticationTokenLoader.instance().get_raw_token() == token
    monkeypatch.undo()
    refresh_authentication()


@pytest.mark.parametrize(
    ("command", "wanted", "stops"),
    [
        ("python ~/a.py x", "python ~/a.py x", False),
        ("ray stop", "", True),
        ("a; ray stop; ray teardown c --yes; sudo shutdown -h now", "a", True),
        ("echo ray stop", "echo ray stop", False),
    ],
)
def test_rays_way_of_ending_a_host_is_left_out(command, wanted, stops):
    assert without_the_end(command) == (wanted, stops)


def test_files_go_where_rsync_would_put_them(tmp_path):
    (tmp_path / "a").write_text("1")
    copy_here(str(tmp_path / "a"), str(tmp_path / "b" / "c"))
    assert (tmp_path / "b" / "c").read_text() == "1"
    copy_here(str(tmp_path / "b"), str(tmp_path / "d"))
    assert (tmp_path / "d" / "c").read_text() == "1"
    copy_here(str(tmp_path / "a"), str(tmp_path / "a"))
    assert (tmp_path / "a").read_text() == "1"


@pytest.fixture(scope="module")
def local_cluster(tmp_path_factory):
    """The cluster of ray-local.yaml, in a home of its own; its environment and dashboard."""
    home = tmp_path_factory.mktemp("home")
    port, dashboard, agent, client = free_ports(4)
    env = environment(
        HOME=str(home),
        RAY_LOCAL_PORT=port,
        RAY_LOCAL_DASHBOARD_PORT=dashboard,
        RAY_LOCAL_AGENT_PORT=agent,
        RAY_LOCAL_CLIENT_PORT=client,
        RAY_LOCAL_OBJECT_STORE_BYTES="200000000",
        RAY_LOCAL_CPUS="4",
        PATH=f"{Path(RAY).parent}{os.pathsep}{os.environ['PATH']}",
    )
    config = home / "cluster.yaml"
    name = f"bilayer-test-{os.getpid()}"
    config.write_text(re.sub(r"cluster_name: .*", f"cluster_name: {name}", CLUSTER.read_text()))
    try:
        ray("up", "-y", config, env=env)
        yield env, config, port, dashboard
        ray("down", "-y", config, env=env)
        assert marked_processes(MARK, mark_of(name)) == []
    finally:
        kill(marked_processes(MARK, mark_of(name)))
        for folder in Path("/tmp").glob("ray-config-*"):
            if folder.is_file() and name in folder.read_text():
                folder.unlink()


def ray(*words, env):
    done = subprocess.run(
        [RAY, *map(str, words)],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@ports
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cluster_refuses_a_wrong_token_at_once(local_cluster, tmp_path):
    env, _, port, _ = local_cluster
    wrong = {**env, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    words = (*arguments(tmp_path / "run"), "--address", f"127.0.0.1:{port}")
    assert "refuses the token (RAY_AUTH_MODE is token)" in refused(*words, env=wrong)
    without = {**env, "HOME": str(tmp_path)}
    assert "refuses the token (RAY_AUTH_MODE is not set)" in refused(
        "resume", tmp_path / "run", "--address", f"127.0.0.1:{port}", env=without
    )


@ports
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_campaign_that_is_too_large_for_the_cluster_is_refused_at_once(local_cluster, tmp_path):
    env, _, port, _ = local_cluster
    words = (*arguments(tmp_path / "run"), "--address", f"127.0.0.1:{port}")
    error = refused(*words, "--set", "molecular_dynamics.slots=40", env=env, code=2)
    assert "41 CPU are needed and 4 are there (1 ranks, 40 MD slots)" in error


@ports
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ray_submit_runs_a_campaign(local_cluster, tmp_path):
    env, config, _, _ = local_cluster
    script = ROOT / "cluster" / "submit_campaign.py"
    run = tmp_path / "run"
    said = ray("submit", config, script, "--", *arguments(run)[1:], env=env)
    assert f"{run}: complete:" in said
    state = read_state(run)[1]
    assert (state.finished, state.done) == ("complete", 2)
    assert state.shell.shell == "ray"


@ports
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "packages",
    [
        (),
        # a copy of the code is compiled anew, which takes minutes
        pytest.param(("campaign", "continuum", "ml", "selector"), marks=pytest.mark.exhaustive),
    ],
    ids=["with the code of the cluster", "with its own copy of the code"],
)
def test_ray_job_submit_runs_a_campaign(local_cluster, tmp_path, packages):
    env, _, _, dashboard = local_cluster
    folder, run = tmp_path / "folder", tmp_path / "run"
    folder.mkdir()
    (folder / "short.yaml").write_text("preset: small\ncontinuum: {snapshots: 0}\n")
    for package in packages:
        shutil.copytree(ROOT / package, folder / package)
    words = ["job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--working-dir", folder]
    entrypoint = ["python", "-m", "campaign", "run", "short.yaml", "--out", run]
    said = ray(*words, "--", *entrypoint, env={**env, "RAY_AUTH_MODE": "token"})
    assert "succeeded" in said
    assert read_state(run)[1].finished == "complete"
