"""Configurations of campaigns: a clear sentence for every mistake, and nothing lost on the way."""

import pytest
import yaml

from campaign.configuration import (
    ConfigurationError,
    configuration_hash,
    preset_names,
    read_campaign,
    resolved_yaml,
    rules_of,
)


def refusal(*overrides, source="small"):
    with pytest.raises(ConfigurationError) as caught:
        read_campaign(source, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", preset_names())
def test_presets_resolve_to_themselves(name, tmp_path):
    setup = read_campaign(name)
    path = tmp_path / "config.resolved.yaml"
    path.write_text(resolved_yaml(setup.config))
    again = read_campaign(path)
    assert again.config == setup.config
    assert again.membrane == setup.membrane
    assert configuration_hash(again) == configuration_hash(setup)
    assert rules_of(again) == rules_of(setup)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("seed=-1", ["override of small: seed must be >= 0, got -1"]),
        ("seed=1.5", ["seed must be a whole number"]),
        ("seed=x", ["seed must be a whole number, got 'x'"]),
        ("sed=3", ["unknown key sed = 3", "did you mean 'seed'?"]),
        ("lag_snapshots=3", ["did you mean 'feedback.lag_snapshots'?"]),
        ("selection.per_snapsho=1", ["keys of selection are", "did you mean 'per_snapshot'?"]),
        ("selection.per_snapshot=0", ["selection.per_snapshot must be > 0.0, got 0"]),
        ("selection.per_snapshot=.nan", ["must be a finite number"]),
        ("selection.first_snapshot=99", ["must be <= 8, the last snapshot, got 99"]),
        ("selection.queues=mumi", ["selection.queues", "mummi-ras"]),
        ("selection.kinds.rest=other", ["kinds.none must be one of the queues patches"]),
        ("molecular_dynamics.mix={poison: 1.0}", ["did you mean 'poisson'?"]),
        ("molecular_dynamics.mix={poisson: 0.0}", ["a share above 0"]),
        ("molecular_dynamics.mix={command: 1.0}", ["engines.command.argv"]),
        ("molecular_dynamics.attempts.crsh=2", ["did you mean 'crash'?"]),
        ("molecular_dynamics.attempts.crash=0", ["must be >= 1, got 0"]),
        ("molecular_dynamics.slots=0", ["slots must be >= 1, got 0"]),
        ("feedback.pacing=fre", ["did you mean 'free'?"]),
        ("continuum.ranks=99", ["continuum.ranks", "99 ranks"]),
        ("continuum.model.membrane.cells=97", ["continuum.model: membrane.cells"]),
        ("continuum.model.preset=laptp", ["continuum.model", "did you mean 'laptop'?"]),
        ("continuum.model.membrane.sid_nm=3", ["did you mean 'side_nm'?"]),
        ("encoder={path: x, train: {}}", ["encoder.path or encoder.train, not both"]),
        ("seed", ["an override must read key.path=value"]),
        ("seed.x=1", ["reaches below seed, which is a single value"]),
        ("seed=[", ["not valid YAML"]),
    ],
)
def test_a_mistake_is_named_with_file_key_value_and_what_is_allowed(override, parts):
    message = refusal(override)
    assert all(part in message for part in parts), message


def test_every_mistake_is_named_at_once():
    assert len(refusal("seed=-1", "feedback.every_snapshots=0").splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- 1", "must be a mapping of keys, got list"),
        ("seed: 1\nseed: 2", "'seed' is given twice"),
        ("seed: 1", "continuum is required"),
        ("preset: smal", "did you mean 'small'?"),
        (": :", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, part):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    message = refusal(source=str(path))
    assert part in message
    assert str(path) in message


def test_what_is_neither_file_nor_preset_is_refused():
    assert "did you mean 'small'?" in refusal(source="smal")


def test_a_file_overrides_its_preset_key_by_key(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("preset: small\nmolecular_dynamics: {slots: 7}\ndescription: null\n")
    config = read_campaign(path).config
    base = read_campaign("small").config
    assert config.molecular_dynamics == base.molecular_dynamics.model_copy(update={"slots": 7})
    assert config.description == ""


def test_paths_are_taken_from_the_file_that_names_them(tmp_path):
    (tmp_path / "model.yaml").write_text("preset: laptop\npotentials: {strength: 0.7}\n")
    (tmp_path / "queues.yaml").write_text("queues: {one: {share: 1.0}}\n")
    path = tmp_path / "c.yaml"
    path.write_text(
        "continuum: {model: model.yaml, snapshots: 2}\n"
        "encoder: {path: metric}\n"
        "selection: {queues: queues.yaml}\n"
    )
    setup = read_campaign(path)
    assert setup.membrane.potentials.strength == 0.7
    assert list(setup.config.selection.queues.queues) == ["one"]
    assert setup.config.encoder.path == str(tmp_path / "metric")


def test_the_membrane_has_the_campaigns_seed_and_lasts_as_long_as_asked():
    setup = read_campaign("small", ("seed=77", "continuum.snapshots=30"))
    assert setup.model.seed == 77
    assert setup.last_snapshot == 30
    assert setup.membrane.duration_us == pytest.approx(30 * 0.05)
    assert read_campaign("small", ("continuum.snapshots=null",)).last_snapshot == 8


@pytest.mark.parametrize(
    "override",
    [
        "continuum.ranks=2",
        "continuum.snapshots=20",
        "molecular_dynamics.slots=9",
        "embedding.workers=3",
        "bridge.transport=spool",
        "description=other",
    ],
)
def test_what_does_not_change_the_course_does_not_change_the_hash(override):
    assert configuration_hash(read_campaign("small", (override,))) == configuration_hash(
        read_campaign("small")
    )


@pytest.mark.parametrize(
    "override",
    [
        "seed=2",
        "continuum.model.potentials.strength=0.5",
        "selection.per_snapshot=3",
        "molecular_dynamics.duration_us=11",
        "molecular_dynamics.hidden_truth.strength=1.3",
        "feedback.lag_snapshots=2",
        "embedding.batch=64",
    ],
)
def test_what_changes_the_course_changes_the_hash(override):
    assert configuration_hash(read_campaign("small", (override,))) != configuration_hash(
        read_campaign("small")
    )


def test_resolved_values_are_plain_yaml():
    tree = yaml.safe_load(resolved_yaml(read_campaign("small").config))
    assert tree["molecular_dynamics"]["mix"] == {"poisson": 1.0}
    assert tree["continuum"]["model"]["membrane"]["side_nm"] == 80.0
