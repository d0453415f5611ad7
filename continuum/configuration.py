"""Configurations: YAML and presets -> checked values -> a `parameters.Model` (DESIGN 3.8).

A configuration may name a `preset` and override parts of it: mappings merge key by key, anything
else replaces, and null removes an inherited entry.
"""

import hashlib
import json
import re
from collections.abc import Hashable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from continuum.configuration_errors import ConfigurationError, explain, nearest
from continuum.configuration_schema import Configuration
from continuum.model_building import build_model, with_stationary_populations
from continuum.parameters import Model

__all__ = [
    "Configuration",
    "ConfigurationError",
    "build_model",
    "configuration_hash",
    "load_model",
    "preset_names",
    "read_configuration",
    "resolved_yaml",
]

Tree = dict[str, Any]

# What may change between a checkpoint and the run that continues it.
_NOT_IN_HASH = ("description", "duration_us")
_OUTPUT_NOT_IN_HASH = ("field_every", "checkpoint_every", "compression")


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package."""
    names = [entry.name for entry in (resources.files("continuum") / "presets").iterdir()]
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


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


def _read_and_build(config: str | Path, overrides: Sequence[str]) -> tuple[Configuration, Model]:
    source = str(config)
    tree = _with_preset(_read(source), (source,))
    _resolve_table(tree, Path(source).parent)
    overridden = [_assign(tree, override) for override in overrides]
    _resolve_table(tree, Path())
    try:
        configuration = Configuration.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(explain(error, source, overridden)) from None
    try:
        configuration = with_stationary_populations(configuration)
        return configuration, build_model(configuration)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{source}: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: not valid YAML: {error}") from None


def _read(source: str) -> Tree:
    """The tree of a file, or of a preset where there is no such file."""
    path = Path(source)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{source}: not a text file: {error}") from None
    elif source in preset_names():
        preset = resources.files("continuum") / "presets" / f"{source}.yaml"
        text = preset.read_text(encoding="utf-8")
    else:
        presets = preset_names()
        raise ConfigurationError(
            f"{source} is neither a file nor a preset; presets are {', '.join(presets)}"
            f"{nearest(source, presets)}"
        )
    tree = _parse(text, source)
    if not isinstance(tree, dict):
        raise ConfigurationError(
            f"{source}: a configuration must be a mapping of keys, got {type(tree).__name__}"
        )
    return tree


def _with_preset(tree: Tree, visited: tuple[str, ...]) -> Tree:
    """The tree laid over the preset it names, if it names one."""
    if "preset" not in tree:
        return tree
    name = tree["preset"]
    presets = preset_names()
    if name not in presets:
        raise ConfigurationError(
            f"{visited[-1]}: preset = {name!r} is unknown; presets are {', '.join(presets)}"
            f"{nearest(str(name), presets)}"
        )
    if name in visited:
        raise ConfigurationError(f"presets inherit in a circle: {' -> '.join((*visited, name))}")
    own = {key: value for key, value in tree.items() if key != "preset"}
    return _merged(_with_preset(_read(name), (*visited, name)), own)


def _merged(base: Tree, over: Tree) -> Tree:
    """`over` laid on `base` (RFC 7386): mappings merge, null removes, anything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _assign(tree: Tree, override: str) -> str:
    """Write `key.path=value` into the tree; return the key path."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigurationError(f"an override must read key.path=value, got {override!r}")
    node = tree
    for depth, key in enumerate(keys[:-1]):
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            above = ".".join(keys[: depth + 1])
            raise ConfigurationError(
                f"the override {override!r} reaches below {above}, which is a single value"
            )
    value = _parse(text, f"override {override!r}")
    if value is None:
        node.pop(keys[-1], None)
    else:
        node[keys[-1]] = value
    return ".".join(keys)


def _resolve_table(tree: Tree, folder: Path) -> None:
    """Make the path of a potential table absolute, counting from `folder`."""
    potentials = tree.get("potentials")
    if isinstance(potentials, dict) and isinstance(potentials.get("table"), str):
        potentials["table"] = str((folder / potentials["table"]).resolve())
