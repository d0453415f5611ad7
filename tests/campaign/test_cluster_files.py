"""What ships for clusters is whole: parses, fits Ray's schemas, keeps tokens on, names what is."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
RAY_FILES = sorted(CLUSTER.glob("ray-*.yaml"))
SCRIPTS = sorted(CLUSTER.glob("slurm/*.sh"))


def load(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", RAY_FILES, ids=lambda path: path.name)
def test_cluster_files_fit_the_schema_of_rays_launcher(path):
    pytest.importorskip("ray")
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(load(path)))


@pytest.mark.parametrize("path", RAY_FILES, ids=lambda path: path.name)
def test_clusters_have_tokens_on_and_their_dashboard_on_loopback(path):
    config = load(path)
    starts = [
        command
        for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"])
        if "ray start" in command
    ]
    assert starts
    assert all(
        "RAY_AUTH_MODE=token ray start" in " ".join(c.split())
        or re.search(r"RAY_AUTH_MODE=token( \S+=\S+)* ray start", c)
        for c in starts
    )
    heads = [command for command in starts if "--head" in command]
    assert len(heads) == 1
    assert "--dashboard-host=127.0.0.1" in heads[0]


def test_the_local_clusters_token_is_for_its_owner_alone(tmp_path):
    (command,) = load(CLUSTER / "ray-local.yaml")["initialization_commands"]
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / "ray"
    fake.write_text('#!/bin/sh\necho secret > "$HOME/.ray/auth_token"\n')
    fake.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{folder}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env=environment, check=True)
        token = tmp_path / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        fake.write_text("#!/bin/sh\nexit 9\n")  # a token that is there stays


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_batch_scripts_parse_and_stop_at_the_first_error(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()


def stand_ins(folder, campaign):
    """Programs of Slurm and Ray that say how they were called; `campaign` is Python's answer."""
    folder.mkdir()
    log = folder / "calls"
    bodies = {
        "scontrol": 'if [ "$1" = show ]; then echo n1; echo n2; else echo "scontrol $*" >> LOG; fi',
        "srun": 'echo "srun $* address=${RAY_ADDRESS:-none}" >> LOG; exec sleep 60',
        "python": campaign,
    }
    for name, body in bodies.items():
        path = folder / name
        path.write_text("#!/bin/bash\n" + body.replace("LOG", str(log)) + "\n")
        path.chmod(0o755)
    return log


PYTHON = """
case "$*" in
  -c*) exec REAL "$@" ;;
  "- "*) cat > /dev/null ;;
  *) echo "python $* mode=$RAY_AUTH_MODE" >> LOG; WHAT ;;
esac
"""


def submit(tmp_path, what, **variables):
    answer = PYTHON.replace("REAL", sys.executable).replace("WHAT", what)
    log = stand_ins(tmp_path / "bin", answer)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_CPUS_ON_NODE": "4",
        "CONFIG": "small",
        "RUN": str(tmp_path / "run"),
        **variables,
    }
    process = subprocess.Popen(["bash", CLUSTER / "slurm" / "campaign.sh"], env=environment)
    return process, log


def test_the_slurm_script_starts_every_node_and_hands_on_the_campaigns_exit_code(tmp_path):
    process, log = submit(tmp_path, "exit 7")
    assert process.wait(60) == 7
    calls = log.read_text().splitlines()
    head, worker = sorted(
        (call for call in calls if call.startswith("srun")), key=len, reverse=True
    )
    assert "--nodelist=n1 ray start --head --block --port=23456" in head
    assert head.endswith("address=none")
    assert "--nodelist=n2 ray start --block --address=n1:23456" in worker
    assert any(
        call == f"python -m campaign run small --out {tmp_path / 'run'} mode=token"
        for call in calls
    )
    assert not (tmp_path / ".bilayer" / "slurm-123456").exists()  # the token went with the job
    assert not any(call.startswith("scontrol requeue") for call in calls)


def test_the_slurm_script_resumes_a_run_and_requeues_itself_when_time_is_up(tmp_path):
    (tmp_path / "run" / "journal").mkdir(parents=True)
    what = (
        'case "$*" in *"campaign stop"*) touch "$RUN/stopped" ;;'
        ' *) until [ -e "$RUN/stopped" ]; do sleep 0.1; done ;; esac'
    )
    process, log = submit(tmp_path, what)
    deadline = time.monotonic() + 60
    while not (log.exists() and "campaign resume" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 0
    calls = log.read_text().splitlines()
    assert f"python -m campaign stop {tmp_path / 'run'} mode=token" in calls
    assert calls[-1] == "scontrol requeue 123456"


def test_kubernetes_files_agree_with_each_other_and_with_the_installed_ray():
    job, volume = load(CLUSTER / "kuberay/campaign.yaml"), load(CLUSTER / "kuberay/state.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert cluster["authOptions"] == {"mode": "token"}
    image = (CLUSTER / "kuberay/Dockerfile").read_text()
    assert cluster["rayVersion"] == version("ray")
    assert f"rayproject/ray:{version('ray')}-py311" in image
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"].endswith(f"bilayer:{version('bilayer')}")
        (mount,) = container["volumeMounts"]
        (given,) = pod["volumes"]
        assert mount["name"] == given["name"]
        assert given["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
        assert mount["mountPath"] in job["spec"]["entrypoint"]
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_dashboard_shows_every_metric_and_no_other():
    pytest.importorskip("ray")
    from campaign.ray_metrics import GAUGES, LABELS

    panels = json.loads((CLUSTER / "grafana/dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = {name for text in asked for name in re.findall(r"ray_(campaign_\w+)", text)}
    assert shown == set(GAUGES)
    for panel in panels:
        for target in panel["targets"]:
            (name,) = re.findall(r"ray_(campaign_\w+)", target["expr"])
            named = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert set(named) <= {"run", LABELS.get(name, "run")}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_readme_names_files_that_are_there():
    text = (CLUSTER / "README.md").read_text()
    for name in re.findall(r"cluster/[\w./-]+\w|(?:slurm|kuberay|grafana)/[\w.-]+\w", text):
        assert (CLUSTER.parent / name).exists() or (CLUSTER / name).exists(), name
