"""Configurations: YAML and presets -> a checked pydantic model, or one clear sentence a mistake.

A configuration may name a `preset` and override parts of it: mappings merge key by key, anything
else replaces; null stands for none of it.
"""

import copy
import re
from collections.abc import Hashable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ml.configuration_errors import ConfigurationError, explain, nearest

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def preset_names(presets: Traversable) -> tuple[str, ...]:
    """Names of the presets in a folder of the package."""
    names = [entry.name for entry in presets.iterdir()]
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


def read_tree(source: str | Path, presets: Traversable) -> Tree:
    """The values of a file or preset, laid over the preset it names. Raises ConfigurationError."""
    name = str(source)
    return _with_preset(_read(name, presets), presets, (name,))


def overridden(tree: Tree, overrides: Sequence[str]) -> Tree:
    """The tree with each `key.path=value` written into it. Raises ConfigurationError."""
    changed = copy.deepcopy(tree)
    for override in overrides:
        _assign(changed, override)
    return changed


def checked(kind: type[Model], tree: Tree, source: str | Path, overrides: Sequence[str]) -> Model:
    """The tree as a `kind`; raises ConfigurationError with every mistake, one a line."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        keys = [override.partition("=")[0].strip() for override in overrides]
        raise ConfigurationError(explain(error, kind, str(source), keys)) from None


def resolved_yaml(configuration: BaseModel) -> str:
    """Every value as YAML; reading it back gives an equal configuration."""
    values = configuration.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)


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


def _read(source: str, presets: Traversable) -> Tree:
    """The tree of a file, or of a preset where there is no such file."""
    path, names = Path(source), preset_names(presets)
    try:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
        elif source in names:
            text = (presets / f"{source}.yaml").read_text(encoding="utf-8")
        else:
            raise ConfigurationError(
                f"{source} is neither a file nor a preset; presets are {', '.join(names)}"
                f"{nearest(source, names)}"
            )
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{source}: cannot be read as text: {error}") from None
    tree = _parse(text, source)
    if not isinstance(tree, dict):
        raise ConfigurationError(
            f"{source}: a configuration must be a mapping of keys, got {type(tree).__name__}"
        )
    return tree


def _with_preset(tree: Tree, presets: Traversable, visited: tuple[str, ...]) -> Tree:
    """The tree laid over the preset it names, if it names one."""
    if "preset" not in tree:
        return tree
    name, names = tree["preset"], preset_names(presets)
    if name not in names:
        raise ConfigurationError(
            f"{visited[-1]}: preset = {name!r} is unknown; presets are {', '.join(names)}"
            f"{nearest(str(name), names)}"
        )
    if name in visited:
        raise ConfigurationError(f"presets inherit in a circle: {' -> '.join((*visited, name))}")
    own = {key: value for key, value in tree.items() if key != "preset"}
    return _merged(_with_preset(_read(name, presets), presets, (*visited, name)), own)


def _merged(base: Tree, over: Tree) -> Tree:
    """`over` laid on `base`: mappings merge, anything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _assign(tree: Tree, override: str) -> None:
    """Write `key.path=value` into the tree."""
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
    node[keys[-1]] = _parse(text, f"override {override!r}")
