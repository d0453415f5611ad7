import fcntl
import json
import re

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from ml.__main__ import main
from ml.encoder import load_encoder
from ml.patch_data import open_patches
from ml.training import read_records

SMALL = ("--set", "training.batch_size=8", "--set", "training.threads=1")


def _call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_training_leaves_an_encoder_its_records_and_its_figure(tmp_path, run_folder):
    out = tmp_path / "metric"
    command = ("train", "metric", "label-radial", "--out", out, "--data", run_folder, *SMALL)
    result = _call(*command, "--set", "training.epochs=2", "--seed", 7)

    assert re.search(r"epoch 2/2: loss .* waited for data .*%", result.stderr)
    assert f"wrote {out / 'encoder'}: 2 epochs" in result.stderr
    records = read_records(out / "metrics.jsonl")
    assert [record.epoch for record in records] == [0, 1]
    assert set(records[0].training) == {"total", "label", "radial"}
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((out / "config.resolved.yaml").read_text())["training"]["seed"] == 7

    patches = open_patches([run_folder])
    encoder = load_encoder(out / "encoder")
    assert encoder.encode(patches.density[:4]).shape == (4, 9)
    training = encoder.info.training
    assert training["data_fingerprint"] == patches.fingerprint
    assert training["patches"]["training"] + training["patches"]["validation"] == len(patches)
    assert training["epochs"] == 2
    # What `ml evaluate` falls back on, so that it judges by the patches that were held out.
    assert set(training["data"]) == {"first_us", "every", "validation_share", "split_seed"}
    assert str(tmp_path) not in json.dumps(encoder.info.model_dump())
    best = min(records, key=lambda record: record.validation["total"])
    assert encoder.info.metrics["validation"] == best.validation

    version = encoder.version
    again = _call(*command, "--set", "training.epochs=2", "--seed", 7)
    assert "epoch 1/2" not in again.stderr
    assert load_encoder(out / "encoder").version == version


def test_the_same_seed_gives_the_same_encoder_and_another_seed_another(tmp_path, run_folder):
    versions = []
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        _call(
            "train", "metric", "invariant", "--out", tmp_path / name, "--data", run_folder,
            *SMALL, "--set", "training.epochs=1", "--seed", seed,
        )  # fmt: skip
        versions.append(load_encoder(tmp_path / name / "encoder").version)
    assert versions[0] == versions[1] != versions[2]


def test_the_encoder_embeds_as_the_trained_network_does(tmp_path, run_folder):
    from ml.metric.configuration import read_metric_config
    from ml.metric.networks import build_network
    from ml.metric.task import MetricTask, patches_of
    from ml.training.single import trained_in

    out = tmp_path / "metric"
    _call(
        "train", "metric", "radial", "--out", out, "--data", run_folder, *SMALL,
        "--set", "training.epochs=2",
    )  # fmt: skip
    config = read_metric_config(out / "config.resolved.yaml")
    task = MetricTask(config, patches_of(config))
    network = build_network(read_metric_config("radial").network)
    network.load_state_dict(trained_in(out / "checkpoints").weights)
    images = task.images(task.load("training", np.arange(5), 0)["density"])
    density = task.patches.density[task.training_index[:5]]
    np.testing.assert_allclose(
        load_encoder(out / "encoder").encode(density),
        network.eval()(images).detach(),
        rtol=0,
        atol=1e-4,
    )


def _train(out, *arguments, code):
    return _call("train", "metric", "ours", "--out", out, *arguments, code=code).stderr


def test_mistakes_of_the_user_end_with_code_2_and_leave_no_encoder(tmp_path, run_folder):
    out = tmp_path / "metric"
    data = ("--data", run_folder)
    assert "did you mean 'epochs'" in _train(out, *data, "--set", "training.epoch=3", code=2)
    assert "data.sources must name" in _train(out, code=2)
    assert "nowhere" in _train(out, "--data", tmp_path / "nowhere", code=2)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot be made" in _train(blocked / "out", *data, code=2)
    assert not (out / "encoder").exists()


def test_a_folder_of_another_run_is_refused(tmp_path, run_folder):
    out = tmp_path / "metric"
    short = ("--data", run_folder, *SMALL, "--set", "training.epochs=1")
    short = (*short, "--set", "loss.transforms=1")
    _train(out, *short, code=0)
    version = load_encoder(out / "encoder").version
    assert "another configuration" in _train(out, *short, "--seed", 5, code=2)
    assert load_encoder(out / "encoder").version == version


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path, run_folder):
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process is training in" in _train(tmp_path, "--data", run_folder, code=2)


def test_a_batch_beyond_the_memory_is_refused_with_code_1(tmp_path, run_folder):
    huge = ("--data", run_folder, "--set", "training.batch_size=100000000")
    assert re.search(r"too little memory: .* needs about .* GB", _train(tmp_path, *huge, code=1))


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:10001", "Ray Client is too slow"),
        ("somewhere", "must be host:port or auto"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_named_with_code_1(
    tmp_path, run_folder, address, complaint
):
    stderr = _train(tmp_path, "--data", run_folder, "--address", address, code=1)
    assert complaint in stderr
    assert not (tmp_path / "encoder").exists()


def test_a_search_without_transforms_must_not_ask_for_invariance(tmp_path, run_folder):
    stderr = _call(
        "search", "metric", "invariant", "--out", tmp_path, "--data", run_folder, code=2
    ).stderr
    assert "search.ranges.invariance_weight must be [0.0]" in stderr
