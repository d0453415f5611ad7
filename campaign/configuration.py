"""Configurations of campaigns: YAML and presets -> checked values -> rules (DESIGN 3.8).

A configuration may name a `preset` of campaign and override parts of it. Its `continuum.model` is a
configuration of continuum, which is read and checked by continuum itself.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml
from pydantic import ValidationError

import continuum.configuration
from campaign.configuration_schema import CampaignConfig
from campaign.rules import Rules
from continuum import configuration_tree
from continuum.configuration import configuration_of
from continuum.configuration_errors import ConfigurationError, explain, shown
from continuum.configuration_schema import Configuration
from continuum.configuration_tree import Tree, assign, parse
from continuum.model_building import build_model, with_stationary_populations
from continuum.parameters import Model
from continuum.run import snapshots_in
from continuum.validation import check_model
from selector import read_queues_settings

__all__ = [
    "CampaignConfig",
    "CampaignSetup",
    "ConfigurationError",
    "configuration_hash",
    "preset_names",
    "read_campaign",
    "resolved_yaml",
    "rules_of",
]

# What may change without another course of the campaign: how fast, how safely, how far.
_NOT_IN_HASH: dict[str, tuple[str, ...]] = {
    "continuum": ("ranks", "snapshots", "attempts", "source", "model"),
    "embedding": ("workers", "ahead", "use_gpu"),
    "selection": ("save_every",),
    "molecular_dynamics": ("slots", "time_limit_s", "attempts", "max_queued"),
    "encoder": ("path", "train"),  # its version stands for it
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSetup:
    """A checked configuration with the membrane's model."""

    config: CampaignConfig
    membrane: Configuration
    model: Model

    @property
    def last_snapshot(self) -> int:
        """Where the campaign ends."""
        asked = self.config.continuum.snapshots
        return snapshots_in(self.model) if asked is None else asked


def preset_names() -> tuple[str, ...]:
    """Names of the campaigns that ship with the package."""
    return configuration_tree.preset_names(_presets())


def read_campaign(source: str | Path, overrides: Sequence[str] = ()) -> CampaignSetup:
    """The configuration of a file or preset, each override a `key.path=value`.

    Raises ConfigurationError, which names file, key, value and what is allowed.
    """
    name = str(source)
    tree = configuration_tree.read_tree(name, _presets())
    _settle_references(tree, name, Path(name).parent)
    overridden = [assign(tree, override) for override in overrides]
    _settle_references(tree, f"override of {name}", Path())
    try:
        config = CampaignConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(explain(error, CampaignConfig, name, overridden)) from None
    membrane, model = _membrane(config, name)
    values = membrane.model_dump(mode="json", exclude_none=True)
    section = config.continuum.model_copy(update={"model": values})
    setup = CampaignSetup(
        config=config.model_copy(update={"continuum": section}), membrane=membrane, model=model
    )
    _check(setup, name)
    return setup


def resolved_yaml(config: CampaignConfig) -> str:
    """Every value as YAML; reading it back gives an equal configuration."""
    values = config.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)


def configuration_hash(setup: CampaignSetup) -> str:
    """SHA-256 (hex) over all that decides the course of the campaign, the encoder apart."""
    values = setup.config.model_dump(mode="json", exclude={"description", "bridge"})
    for section, keys in _NOT_IN_HASH.items():
        for key in keys:
            del values[section][key]
    values["membrane"] = continuum.configuration.configuration_hash(setup.membrane)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def rules_of(setup: CampaignSetup) -> Rules:
    """What the coordinator decides by."""
    config = setup.config
    jobs, selection, feedback = config.molecular_dynamics, config.selection, config.feedback
    return Rules(
        seed=config.seed,
        last_snapshot=setup.last_snapshot,
        launch_continuum=config.continuum.source == "launched",
        continuum_attempts=config.continuum.attempts,
        embed_ahead=config.embedding.ahead,
        per_snapshot=selection.per_snapshot,
        first_snapshot=selection.first_snapshot,
        mix={str(name): share for name, share in jobs.mix.items()},
        duration_us=jobs.duration_us,
        time_limit_s=jobs.time_limit_s,
        attempts={str(name): limit for name, limit in jobs.attempts.items()},
        max_queued=jobs.max_queued,
        feedback=feedback.enabled,
        every_snapshots=feedback.every_snapshots,
        lag_snapshots=feedback.lag_snapshots,
        pacing=feedback.pacing,
        credit=config.bridge.credit,
    )


def _settle_references(tree: Tree, source: str, folder: Path) -> None:
    """Replace names of files and presets by what they hold or where they are."""
    membrane, selection = tree.get("continuum"), tree.get("selection")
    if isinstance(membrane, dict) and isinstance(membrane.get("model"), str):
        membrane["model"] = _model_tree(membrane["model"], source, folder)
    if isinstance(selection, dict) and isinstance(selection.get("queues"), str):
        name = selection["queues"]
        path = folder / name
        try:
            settings = read_queues_settings(str(path) if path.is_file() else name)
        except ValueError as error:
            raise ConfigurationError(f"{source}: selection.queues: {error}") from None
        selection["queues"] = settings.model_dump()
    encoder = tree.get("encoder")
    if isinstance(encoder, dict) and isinstance(encoder.get("path"), str):
        encoder["path"] = str((folder / encoder["path"]).resolve())
    training = encoder.get("train") if isinstance(encoder, dict) else None
    data = training.get("data") if isinstance(training, dict) else None
    if isinstance(data, dict) and isinstance(data.get("sources"), (str, list)):
        given = data["sources"]
        sources = [given] if isinstance(given, str) else given
        data["sources"] = [str((folder / str(path)).resolve()) for path in sources]


def _model_tree(name: str, source: str, folder: Path) -> Tree:
    path = folder / name
    if not path.is_file():
        return {"preset": name}
    tree = parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(tree, dict):
        raise ConfigurationError(
            f"{source}: continuum.model = {name!r} must be a mapping of keys, got {shown(tree)}"
        )
    table = tree.get("potentials")
    if isinstance(table, dict) and isinstance(table.get("table"), str):
        table["table"] = str((path.parent / table["table"]).resolve())
    return tree


def _membrane(config: CampaignConfig, source: str) -> tuple[Configuration, Model]:
    """The membrane as continuum reads it, with the campaign's seed and length."""
    origin = f"{source}: continuum.model"
    membrane = configuration_of({**config.continuum.model, "seed": config.seed}, origin)
    try:
        membrane = with_stationary_populations(membrane)
        model = build_model(membrane)
        asked = config.continuum.snapshots
        if asked is not None and asked > snapshots_in(model):
            duration_us = asked * model.output.snapshot_interval_us
            membrane = membrane.model_copy(update={"duration_us": duration_us})
            model = build_model(membrane)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{origin}: {error}") from error
    return membrane, model


def _check(setup: CampaignSetup, source: str) -> None:
    """What one value demands of another. Raises ConfigurationError."""
    config = setup.config
    try:
        check_model(setup.model, config.continuum.ranks)
    except ValueError as error:
        raise ConfigurationError(f"{source}: continuum.ranks: {error}") from None
    first, last = config.selection.first_snapshot, setup.last_snapshot
    if first > last:
        raise ConfigurationError(
            f"{source}: selection.first_snapshot must be <= {last}, the last snapshot, got {first}"
        )


def _presets() -> Traversable:
    return resources.files("campaign") / "presets"
