"""Ray Train and Tune on a real cluster of this machine, with a token."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from ml.encoder import load_encoder
from ml.metric.configuration import read_metric_config
from ml.training import TrainingSettings, ray_cluster, read_records, train_here
from ml.training.errors import ClusterError
from tests.ml.pair_task import PairTask, make_pair_task

# Ray warns about itself.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

REPOSITORY = Path(__file__).parents[2]
SETTINGS = TrainingSettings(
    seed=3, epochs=4, workers=2, batch_size=20, threads=1, switch_epochs=(2, 3, 4), use_gpu=False
)


@pytest.fixture(scope="module")
def head():
    """The address of a Ray head; the token that it asks for is in the environment."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its sockets need a short path
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    address = f"127.0.0.1:{_free_port()}"
    command = [
        sys.executable, "-c", "from ray.scripts.scripts import main; main()",
        "start", "--head", "--block", f"--port={address.rpartition(':')[2]}", "--num-cpus=3",
        f"--temp-dir={folder / 'ray'}", "--include-dashboard=false", "--disable-usage-stats",
        "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0",
        f"--ray-client-server-port={_free_port()}",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as environment, open(folder / "log", "w") as log:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        environment.setenv("RAY_memory_monitor_refresh_ms", "0")
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.delenv("RAY_ADDRESS", raising=False)
        process = psutil.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await(address, process, folder / "log")
            yield address
        finally:  # asked to end, a head takes half a minute
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await(address: str, process: psutil.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while "Ray runtime started" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def test_a_killed_worker_is_replaced_and_two_end_as_one_undisturbed(head, tmp_path):
    from ml.training.ray_train import train_on_ray

    marker, heard = tmp_path / "killed", []
    arguments = {
        "settings": SETTINGS.model_dump(mode="json"), "kill_at": 2, "marker": str(marker),
    }  # fmt: skip
    trained = train_on_ray(
        make_pair_task, arguments, SETTINGS, tmp_path / "ray", address=head, on_epoch=heard.append
    )
    assert marker.exists()
    alone = train_here(PairTask(SETTINGS), tmp_path / "alone")
    assert [record.epoch for record in heard] == [0, 1, 2, 3]
    assert read_records(tmp_path / "ray" / "metrics.jsonl") == trained.records
    for ours, theirs in zip(trained.records, alone.records, strict=True):
        assert ours.training["total"] == pytest.approx(theirs.training["total"], rel=1e-9)
        assert ours.validation["total"] == pytest.approx(theirs.validation["total"], rel=1e-9)


def test_a_search_judges_its_trials_and_goes_on_from_where_it_was(head, tmp_path, run_folder):
    from ml.metric.model_search import search_metric

    given = read_metric_config(
        "ours",
        [
            f"data.sources=[{run_folder}]", "data.validation_share=0.5", "training.epochs=2",
            "training.batch_size=8", "training.threads=1", "search.trials=2",
            "search.concurrent=2", "search.grace_epochs=1", "search.patches=10",
            "loss.transforms=1",
        ],
    )  # fmt: skip
    found = search_metric(given, tmp_path, address=head)
    assert found.chosen.epochs == 2
    assert sorted(model.name for model in found.models) == ["00000", "00001"]
    first = next(model for model in found.models if model.name == "00000")
    assert (first.dimension, first.choices["architectures"]) == (9, "published")
    for name in found.front:
        assert load_encoder(tmp_path / "front" / name).dimension > 0
    assert (tmp_path / "figure4.png").is_file()
    assert search_metric(given, tmp_path, address=head) == found


def test_a_process_without_the_token_is_told_so(head, tmp_path, run_folder):
    command = ["train", "metric", "ours", "--data", run_folder, "--out", tmp_path, "--ray"]
    result = subprocess.run(
        [sys.executable, "-m", "ml", *map(str, command), "--address", head],
        env={**os.environ, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "RAY_AUTH_MODE is token, but there is no token" in result.stderr
    assert f"copy it to {tmp_path / 'none'}" in result.stderr
    assert not (tmp_path / "encoder").exists()


def test_without_an_address_no_cluster_that_is_there_is_joined(monkeypatch):
    given = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster.ray, "init", lambda **options: given.update(options))
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: None)

    with ray_cluster.connected(None, 2):
        assert given["address"] == "local"


def test_a_node_that_does_not_come_up_is_one_error(monkeypatch):
    def late(**options):
        raise Exception("The current node timed out during startup. This could be the raylet.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster.ray, "init", late)

    refused = pytest.raises(ClusterError, match="does not start: The current node timed out")
    with refused, ray_cluster.connected(None, 2):
        pass
