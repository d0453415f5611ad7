"""Encoders saved, loaded and at work; and everything that makes one unusable."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ml import load_encoder
from ml.encoder import SCHEMA, Encoder, EncoderError, read_info, save_encoder, trained_network
from ml.metric.networks import NetworkSpec, build_network
from ml.patch_data import PatchSet, Standardisation, load_batch, open_patches

SPEC = NetworkSpec(dimension=6)
TRAINING = {"fingerprint": "abc", "patches": 27, "command": "made up"}


@pytest.fixture(scope="module")
def patches(run_folder) -> PatchSet:
    return open_patches([run_folder])


@pytest.fixture(scope="module")
def saved(patches, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "metric"
    network = build_network(SPEC, seed=1)
    standardisation = Standardisation.of(patches)
    network(torch.from_numpy(standardisation.apply(load_batch(patches, np.arange(27)))))
    save_encoder(folder, network, SPEC, standardisation, TRAINING, {"auc": 0.5})
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "metric"))


@pytest.fixture(scope="module")
def encoder(saved) -> Encoder:
    return load_encoder(saved)


def change(folder: Path, **values: object) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_loaded_encoder_gives_what_its_network_gave(saved, encoder, patches):
    density = load_batch(patches, np.arange(27))
    images = Standardisation.of(patches).apply(density)

    embedding = encoder.encode(density)

    with torch.inference_mode():
        expected = trained_network(saved, read_info(saved))(torch.from_numpy(images)).numpy()
    assert embedding.shape == (27, 6)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_tells_what_it_is(saved, encoder):
    content = json.loads((saved / "encoder.json").read_text())

    assert sorted(path.name for path in saved.iterdir()) == ["encoder.json", "weights.safetensors"]
    assert encoder.dimension == 6
    assert encoder.info.training == TRAINING
    assert encoder.info.metrics == {"auc": 0.5}
    assert content["schema"] == SCHEMA == "bilayer/encoder/1"
    assert content["version"] == encoder.version
    assert len(encoder.version) == 12
    assert sum(path.stat().st_size for path in saved.iterdir()) < 100_000


def test_the_version_follows_weights_and_standardisation(saved, encoder, patches, tmp_path):
    network = trained_network(saved, read_info(saved))
    standardisation = Standardisation.of(patches)
    for name, other in (
        ("same", standardisation),
        ("shifted", Standardisation(mean=standardisation.mean + 1, std=standardisation.std)),
    ):
        save_encoder(tmp_path / name, network, SPEC, other, {}, {})

    assert load_encoder(tmp_path / "same").version == encoder.version
    assert load_encoder(tmp_path / "shifted").version != encoder.version


@pytest.mark.parametrize("count", [1, 2, 5, 64, 65, 130])
def test_an_embedding_does_not_depend_on_the_company(encoder, patches, count):
    density = load_batch(patches, np.arange(130) % 27)
    whole = encoder.encode(density)

    apart = [encoder.encode(density[start : start + count]) for start in range(0, 130, count)]

    np.testing.assert_allclose(np.concatenate(apart), whole, rtol=1e-5, atol=1e-5)


def test_half_precision_readonly_and_reversed_densities_are_encoded(encoder, patches):
    half = patches.density[:9]
    readonly = half.astype(np.float32)
    readonly.flags.writeable = False
    expected = encoder.encode(half.astype(np.float32))

    np.testing.assert_array_equal(encoder.encode(half), expected)
    np.testing.assert_array_equal(encoder.encode(readonly), expected)
    np.testing.assert_array_equal(encoder.encode(readonly[::-1])[::-1], expected)
    assert encoder.encode(half[:0]).shape == (0, 6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_density_that_is_not_finite_is_placed(encoder, patches, value):
    density = load_batch(patches, np.arange(100) % 27)
    density[70, 8, 2, 30] = value

    with pytest.raises(EncoderError, match=r"patch 70 has .* of outer POPC at node \(2, 30\)"):
        encoder.encode(density)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (np.zeros((2, 13, 37, 37), np.float32), r"must be \(N, 14, 37, 37\)"),
        (np.zeros((14, 37, 37), np.float32), r"must be \(N, 14, 37, 37\)"),
        (np.zeros((2, 37, 37, 14), np.float32), r"must be \(N, 14, 37, 37\)"),
        (np.zeros((2, 14, 37, 37)), "float32 or float16, got float64"),
        (np.full((1, 14, 37, 37), 3e38, np.float32), "sum overflows"),
    ],
)
def test_other_arrays_are_refused(encoder, density, message):
    with pytest.raises(EncoderError, match=message):
        encoder.encode(density)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(EncoderError, match="absent is not an encoder"):
        load_encoder(tmp_path / "absent")


@pytest.mark.parametrize("name", ["encoder.json", "weights.safetensors"])
def test_an_encoder_without_one_of_its_files_is_refused(folder, name):
    (folder / name).unlink()

    with pytest.raises(EncoderError, match="is not an encoder"):
        load_encoder(folder)


def test_text_that_is_not_json_is_refused(folder):
    (folder / "encoder.json").write_text('{"schema": "bilayer/enc')

    with pytest.raises(EncoderError, match="is not JSON"):
        load_encoder(folder)


@pytest.mark.parametrize("schema", ["bilayer/encoder/2", None, 1])
def test_another_schema_is_refused(folder, schema):
    change(folder, schema=schema)

    with pytest.raises(EncoderError, match=r"schema of .* must be 'bilayer/encoder/1', got"):
        load_encoder(folder)


def test_channels_in_another_order_are_refused(folder):
    channels = json.loads((folder / "encoder.json").read_text())["channels"]
    change(folder, channels=channels[::-1])

    with pytest.raises(EncoderError, match="channels must be"):
        load_encoder(folder)


def test_tampered_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)

    with pytest.raises(EncoderError, match="not the weights that were saved"):
        load_encoder(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(EncoderError, match="SHA-256"):
        load_encoder(folder)


@pytest.mark.parametrize("part", ["mean", "std"])
def test_a_tampered_standardisation_is_refused(folder, part):
    moments = json.loads((folder / "encoder.json").read_text())["standardisation"]
    moments[part][3] *= 1.01
    change(folder, standardisation=moments)

    with pytest.raises(EncoderError, match="one of them was changed"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": {"kind": "published", "dimension": 7}}, "one of them was changed"),
        ({"network": {"kind": "transformer"}}, "network.kind"),
        ({"weights": "here"}, "weights"),
        ({"standardisation": {"mean": [0.0], "std": [1.0]}}, "must have 14 values"),
        ({"metrics": None}, "metrics"),
    ],
)
def test_other_descriptions_are_refused_by_name(folder, values, message):
    change(folder, **values)

    with pytest.raises(EncoderError, match=message):
        load_encoder(folder)


def test_weights_of_another_network_are_refused(saved, patches, tmp_path):
    network = build_network(NetworkSpec(dimension=4), seed=0)
    save_encoder(tmp_path / "odd", network, SPEC, Standardisation.of(patches), {}, {})

    with pytest.raises(EncoderError, match="does not fit its network"):
        load_encoder(tmp_path / "odd")


def test_weights_that_are_not_finite_are_not_saved_and_the_former_encoder_stays(folder, patches):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    network = build_network(SPEC, seed=0)
    with torch.no_grad():
        network.dense.linears[0].weight[2, 3] = float("nan")

    with pytest.raises(EncoderError, match=r"dense\.linears\.0\.weight .* must be finite"):
        save_encoder(folder, network, SPEC, Standardisation.of(patches), {}, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["metric"]


def test_an_encoder_that_cannot_be_written_whole_leaves_nothing(folder, patches):
    before = (folder / "encoder.json").read_bytes()
    network = build_network(SPEC, seed=0)

    with pytest.raises(EncoderError, match=r"metrics of .* must be JSON"):
        save_encoder(folder, network, SPEC, Standardisation.of(patches), {}, {"auc": float("nan")})
    assert (folder / "encoder.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["metric"]


def test_a_newer_encoder_takes_the_place_of_a_former_one(folder, patches):
    former = load_encoder(folder).version
    network = build_network(SPEC, seed=8)

    save_encoder(folder, network, SPEC, Standardisation.of(patches), {}, {})

    assert load_encoder(folder).version != former
    assert [path.name for path in folder.parent.iterdir()] == ["metric"]


@pytest.mark.parametrize("device", ["tpu", "meta"])
def test_another_device_is_refused(saved, device):
    with pytest.raises(EncoderError, match="device must be"):
        load_encoder(saved, device=device)
