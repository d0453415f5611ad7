import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ml.encoder import load_encoder, save_encoder
from ml.metric.commands import evaluate
from ml.metric.criteria import Embedding, judge
from ml.metric.evaluation_report import (
    EvaluationOptions,
    evaluate_metric,
    judged_patches,
    trained_factor,
    whole_snapshots,
)
from ml.metric.figures import draw_criteria, draw_neighbourhoods, drawn, in_plane
from ml.metric.network_spec import NetworkSpec
from ml.metric.networks import build_network
from ml.patch_data import Standardisation, open_patches, split_by_history
from tests.ml.small_run import write_run

FIGURES = {f"figure_{number}.png" for number in ("3", "5", "6", "7a", "11")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "run", snapshots=12, proteins=24)


@pytest.fixture(scope="module")
def encoder(run, tmp_path_factory):
    patches = open_patches([run])
    spec = NetworkSpec(kind="invariant")
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    training = {"loss": {"scale": 0.2}, "data_fingerprint": patches.fingerprint}
    standardisation = Standardisation.of(patches)
    save_encoder(folder, build_network(spec, seed=1), spec, standardisation, training, {})
    return folder


@pytest.fixture(scope="module")
def evaluated(run, encoder, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("evaluation") / "out"
    arguments = ["metric", str(encoder), str(run), "--out", str(out), "--split", "all"]
    return out, CliRunner().invoke(evaluate, arguments)


def test_the_command_writes_the_criteria_and_every_figure(evaluated, encoder):
    out, result = evaluated

    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == FIGURES | {"evaluation.json"}
    for name in FIGURES:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    content = json.loads((out / "evaluation.json").read_text())
    criteria = content["criteria"]
    assert content["encoder"]["version"] == load_encoder(encoder).version
    assert criteria["patches"] == 12 * 30
    assert criteria["pairs"] == 360 * 359 // 2
    assert criteria["factor"] == 0.2
    assert criteria["mare_star"] == pytest.approx(criteria["mare"] / 0.2)
    assert criteria["overlap_percent"] == 0
    assert content["checks"]["dz_dmu"]["pairs"] == criteria["pairs"]
    assert content["checks"]["left_out"] == {}
    assert len(content["checks"]["similar_patches"]["patch_id"]) == 4
    last = result.output.strip().splitlines()[-1]
    assert f"AUC {criteria['auc']:.3f}" in last
    assert str(out) in last


def test_an_encoder_is_judged_by_the_histories_it_did_not_learn_from(run):
    patches = open_patches([run])
    options = EvaluationOptions()
    data = {"validation_share": 0.3, "split_seed": 5}
    _, validation = split_by_history(patches, 0.3, 5)

    own, split = judged_patches(
        patches, {"data_fingerprint": patches.fingerprint, "data": data}, options
    )
    other, everything = judged_patches(patches, {"data_fingerprint": "else"}, options)
    few, _ = judged_patches(patches, {}, replace(options, patches=50))

    assert split == "validation"
    np.testing.assert_array_equal(np.sort(own), validation)
    assert everything == "all"
    np.testing.assert_array_equal(np.sort(other), np.arange(len(patches)))
    assert len(np.unique(few)) == 50


def test_whole_snapshots_are_whole_and_spread_out(run):
    patches = open_patches([run])

    index = whole_snapshots(patches, 100)

    found, sizes = np.unique(patches.snapshot_index[index], return_counts=True)
    assert sizes.tolist() == [30, 30, 30]
    assert found.tolist() == [0, 6, 11]
    assert len(whole_snapshots(patches, 3)) == 30
    assert len(whole_snapshots(patches, 10**6)) == len(patches)


def test_checks_that_the_data_cannot_support_are_left_out_with_the_reason(
    run, encoder, tmp_path_factory
):
    out = tmp_path_factory.mktemp("evaluation")
    patches = replace(open_patches([run]), side_nm=np.array([np.nan]))

    content = evaluate_metric(load_encoder(encoder), patches, out, EvaluationOptions(patches=60))

    assert "side of each membrane" in content["checks"]["left_out"]["dz_dx"]
    assert "dz_dx" not in content["checks"]
    assert not (out / "figure_7a.png").exists()
    assert (out / "figure_5.png").exists()
    assert trained_factor(load_encoder(encoder)) == 0.2


def test_a_metric_of_one_dimension_and_one_that_moves_nothing_can_be_drawn(tmp_path):
    random = np.random.default_rng(0)
    z, types = random.normal(size=(60, 1)).astype(np.float32), np.arange(60) % 3
    still = Embedding(vectors=z, transform_distances=np.zeros((60, 5)))
    tiny = Embedding(vectors=z, transform_distances=np.abs(random.normal(size=(60, 5))) * 1e-7)
    profiles = random.normal(size=(60, 8, 38))
    plane = in_plane(z)

    for name, embedding in (("still", still), ("tiny", tiny)):
        criteria = judge(embedding, types, profiles, factor=0.1)
        draw_criteria(tmp_path / f"{name}.png", criteria, plane, types)
        draw_neighbourhoods(tmp_path / f"{name}_neighbours.png", criteria)

    assert len(list(tmp_path.iterdir())) == 4
    np.testing.assert_array_equal(in_plane(z), plane)


def test_a_figure_that_fails_leaves_no_file(tmp_path):
    def fail() -> None:
        with drawn(tmp_path / "figure.png", 1, 1, size=(2, 2)):
            raise RuntimeError("half drawn")

    with pytest.raises(RuntimeError, match="half drawn"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_bad_input_ends_with_one_sentence_and_code_2(run, encoder, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    source = sorted((run / "patches").iterdir())[0]
    (damaged / source.name).write_bytes(source.read_bytes()[:-1000])
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    (swapped / source.name).write_bytes(source.read_bytes())
    with h5py.File(swapped / source.name, "r+") as file:
        names = file.attrs["species"]
        file.attrs["species"] = names[::-1]

    def end(*arguments: object) -> str:
        shown = [str(argument) for argument in arguments]
        result = CliRunner().invoke(evaluate, ["metric", *shown, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert len(result.output.strip().splitlines()) == 1
        return result.output

    assert "is not an encoder" in end(tmp_path / "none", run)
    assert "not a whole patch file" in end(encoder, damaged)
    assert "must hold the channels" in end(encoder, swapped)
    assert "must be a run folder" in end(encoder, tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
