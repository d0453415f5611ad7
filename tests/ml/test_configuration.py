from pathlib import Path

import pytest
import yaml

from ml.metric.configuration import (
    ConfigurationError,
    MetricConfig,
    architecture,
    metric_identity,
    preset_names,
    read_metric_config,
    resolved_yaml,
)
from ml.metric.networks import build_network
from ml.training import EarlyStopping


def _write(folder: Path, content: object, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_presets_are_the_trained_rows_of_table_1_and_the_invariant_network():
    rows = {}
    for name in preset_names():
        config = read_metric_config(name)
        weights = config.loss.weights
        rows[name] = (
            config.network.kind,
            config.network.dimension,
            (weights.invariance > 0, weights.radial > 0, weights.label > 0),
        )
    assert rows == {
        "invariance": ("published", 1, (True, False, False)),
        "radial": ("published", 9, (False, True, False)),
        "label": ("published", 9, (False, False, True)),
        "label-radial": ("published", 9, (False, True, True)),
        "ours": ("published", 9, (True, True, True)),
        "invariant": ("invariant", 9, (False, True, True)),
    }


def test_the_defaults_are_the_final_model_and_the_training_of_the_paper():
    loss = read_metric_config("ours").loss
    assert (loss.weights.label, loss.weights.invariance, loss.weights.radial) == (1, 2, 2)
    assert (loss.margins.label, loss.margins.invariance, loss.scale) == (8, 1, 0.1)
    assert loss.transforms == 5
    training = read_metric_config("ours").training
    assert training.learning_rates == (1e-3, 5e-4, 1e-4, 1e-5)
    assert training.switch_epochs == (10, 20, 30)
    assert MetricConfig().loss == loss


def test_the_search_ranges_are_those_of_the_paper():
    ranges = MetricConfig().search.ranges
    for weight in (ranges.label_weight, ranges.invariance_weight, ranges.radial_weight):
        assert weight == (0.5, 1.0, 2.0)
    assert ranges.label_margin == (5, 8, 10, 12)
    assert ranges.invariance_margin == (0.1, 1)
    assert ranges.dimension == tuple(range(5, 13))
    assert MetricConfig().search.trials == 109


@pytest.mark.parametrize("convolutions", [3, 4, 5])
@pytest.mark.parametrize("dense", [3, 4])
def test_searched_networks_have_the_layers_of_their_names(convolutions, dense):
    spec = architecture(f"conv{convolutions}-dense{dense}", 7)
    assert len(spec.convolutions) == convolutions
    assert len(spec.hidden) + 1 == dense
    assert spec.dimension == 7
    build_network(spec)


@pytest.mark.parametrize("name", preset_names())
def test_a_resolved_configuration_reads_back_equal(tmp_path, name):
    config = read_metric_config(name, ["data.sources=[/runs/a]", "training.early_stopping=null"])
    assert read_metric_config(_write(tmp_path, resolved_yaml(config))) == config


def test_a_file_changes_parts_of_its_preset_and_overrides_change_both(tmp_path):
    given = {"preset": "invariance", "loss": {"margins": {"invariance": 0.1}}}
    config = read_metric_config(_write(tmp_path, given), ["training.epochs=7"])
    assert config.loss.margins.invariance == 0.1
    assert config.loss.margins.label == 8
    assert config.loss.weights.label == 0
    assert config.network.dimension == 1
    assert config.training.epochs == 7


def test_null_switches_early_stopping_off(tmp_path):
    assert read_metric_config("ours").training.early_stopping == EarlyStopping()
    given = {"preset": "ours", "training": {"early_stopping": None}}
    assert read_metric_config(_write(tmp_path, given)).training.early_stopping is None


def test_paths_count_from_the_file_that_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    given = {"preset": "ours", "data": {"sources": ["runs/a", "/b"], "cache": "cache"}}
    config = read_metric_config(_write(tmp_path, given))
    assert config.data.sources == (tmp_path / "runs/a", Path("/b"))
    assert config.data.cache == tmp_path / "cache"
    overridden = read_metric_config(_write(tmp_path, given), ["data.sources=[runs/c]"])
    assert overridden.data.sources == (Path("/runs/c"),)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("training.epoch=3", "unknown key training.epoch = 3; keys of training are .*'epochs'?"),
        ("epochs=3", "did you mean 'training.epochs'?"),
        ("training.epochs=0", "training.epochs must be >= 1, got 0"),
        ("training.epochs=2.5", "training.epochs must be a whole number, got 2.5"),
        ("loss.scale=.nan", "loss.scale must be a finite number, got nan"),
        ("loss.margins.label=-1", "loss.margins.label must be > 0.0, got -1"),
        ("data.validation_share=1", "data.validation_share must be < 1.0, got 1"),
        ("network.kind=foo", "network.kind must be 'published', 'convolutional' or 'invariant'"),
        ("training.learning_rates=[1.0e-3]", "one value more than switch_epochs, got 1 and 3"),
        ("training.switch_epochs=[3, 2, 1]", r"must increase, got \[3, 2, 1\]"),
        ("loss.transforms=0", "invariance > 0 needs loss.transforms >= 1, got 0, or data.views"),
        ("loss.weights=3", "loss.weights must be a mapping"),
        ("search.ranges.architectures=[]", "must hold at least 1 entry"),
        ("training", "must read key.path=value, got 'training'"),
        ("training.seed.x=1", "reaches below training.seed, which is a single value"),
        ("training={", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(override, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        read_metric_config("ours", ["training.seed=0", override])


def test_mistakes_in_files_are_named_with_the_file(tmp_path):
    with pytest.raises(ConfigurationError, match=r"neither a file nor a preset.*'invariant'"):
        read_metric_config("invarant")
    twice = _write(tmp_path, "preset: ours\nloss: {scale: 1}\nloss: {scale: 2}\n")
    with pytest.raises(ConfigurationError, match=r"config.yaml.*given twice"):
        read_metric_config(twice)
    unknown = _write(tmp_path, {"preset": "us"})
    with pytest.raises(ConfigurationError, match="preset = 'us' is unknown"):
        read_metric_config(unknown)
    with pytest.raises(ConfigurationError, match="must be a mapping of keys, got list"):
        read_metric_config(_write(tmp_path, [1, 2]))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read as text"):
        read_metric_config(binary)


def test_a_mistake_of_a_file_is_not_blamed_on_an_override(tmp_path):
    path = _write(tmp_path, {"preset": "ours", "training": {"epochs": 0}})
    with pytest.raises(ConfigurationError) as raised:
        read_metric_config(path, ["training.seed=-1"])
    of_file, of_override = sorted(str(raised.value).splitlines())
    assert of_file == f"{path}: training.epochs must be >= 1, got 0"
    assert of_override == f"override of {path}: training.seed must be >= 0, got -1"


@pytest.mark.parametrize(
    "override",
    ["training.workers=4", "training.epochs=7", "training.threads=1", "data.cache=/c"],
)
def test_what_does_not_change_the_outcome_does_not_change_the_identity(override):
    plain = metric_identity(read_metric_config("ours"), "data")
    assert metric_identity(read_metric_config("ours", [override]), "data") == plain


@pytest.mark.parametrize(
    "override",
    [
        "training.seed=1",
        "training.batch_size=32",
        "loss.margins.label=7",
        "network.dimension=8",
        "data.split_seed=1",
    ],
)
def test_what_changes_the_outcome_changes_the_identity(override):
    plain = metric_identity(read_metric_config("ours"), "data")
    assert metric_identity(read_metric_config("ours", [override]), "data") != plain
    assert metric_identity(read_metric_config("ours"), "other data") != plain
