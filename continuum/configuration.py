"""Configurations: YAML and presets -> checked values -> a `parameters.Model` (DESIGN 3.8)."""

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml
from pydantic import ValidationError

from continuum import configuration_tree
from continuum.configuration_errors import ConfigurationError, explain
from continuum.configuration_schema import Configuration
from continuum.configuration_tree import Tree, assign
from continuum.model_building import build_model, with_stationary_populations
from continuum.parameters import Model

__all__ = [
    "Configuration",
    "ConfigurationError",
    "build_model",
    "configuration_hash",
    "configuration_of",
    "load_model",
    "preset_names",
    "read_configuration",
    "resolved_yaml",
]

# What may change between a checkpoint and the run that continues it.
_NOT_IN_HASH = ("description", "duration_us")
_OUTPUT_NOT_IN_HASH = ("field_every", "checkpoint_every", "compression")


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package."""
    return configuration_tree.preset_names(_presets())


def load_model(config: str | Path, overrides: Sequence[str] = ()) -> Model:
    """The model of a file or preset, each override a `key.path=value`.

    Raises ConfigurationError, which names file, key, value and what is allowed.
    """
    return _read_and_build(config, overrides)[1]


def read_configuration(config: str | Path, overrides: Sequence[str] = ()) -> Configuration:
    """The configuration of a file or preset, every default filled in, checked as `load_model` does.

    Raises ConfigurationError.
    """
    return _read_and_build(config, overrides)[0]


def resolved_yaml(configuration: Configuration) -> str:
    """Every value as YAML; reading it back gives an equal configuration."""
    values = configuration.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)


def configuration_hash(configuration: Configuration) -> str:
    """SHA-256 (hex) over all that decides the trajectory and the patches.

    Duration, description and how often or how tightly files are written may differ between two
    configurations of one hash, so that a run can be continued for longer.
    """
    values = configuration.model_dump(mode="json", exclude=set(_NOT_IN_HASH))
    for key in _OUTPUT_NOT_IN_HASH:
        del values["output"][key]
    table = configuration.potentials.table
    if table is not None:
        values["potentials"]["table"] = hashlib.sha256(Path(table).read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def configuration_of(tree: Tree, origin: str) -> Configuration:
    """The configuration that a tree of keys from `origin` holds; it may name a preset.

    No model is built, so values may still contradict each other. Raises ConfigurationError.
    """
    return _validated(configuration_tree.inherited(tree, origin, _presets()), origin, ())


def _read_and_build(config: str | Path, overrides: Sequence[str]) -> tuple[Configuration, Model]:
    source = str(config)
    tree = configuration_tree.read_tree(source, _presets())
    _resolve_table(tree, Path(source).parent)
    overridden = [assign(tree, override) for override in overrides]
    _resolve_table(tree, Path())
    configuration = _validated(tree, source, overridden)
    try:
        configuration = with_stationary_populations(configuration)
        return configuration, build_model(configuration)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{source}: {error}") from error


def _validated(tree: Tree, source: str, overridden: Sequence[str]) -> Configuration:
    try:
        return Configuration.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(explain(error, Configuration, source, overridden)) from None


def _presets() -> Traversable:
    return resources.files("continuum") / "presets"


def _resolve_table(tree: Tree, folder: Path) -> None:
    """Make the path of a potential table absolute, counting from `folder`."""
    potentials = tree.get("potentials")
    if isinstance(potentials, dict) and isinstance(potentials.get("table"), str):
        potentials["table"] = str((folder / potentials["table"]).resolve())
