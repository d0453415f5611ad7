"""Trees of keys from YAML files and presets: strict parsing, inheritance, overrides (DESIGN 3.8).

A file may name a `preset` and override parts of it: mappings merge key by key, anything else
replaces, and null removes an inherited entry.
"""

import re
from collections.abc import Hashable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader  # several times faster, where libyaml is there
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

from continuum.configuration_errors import ConfigurationError, nearest

Tree = dict[str, Any]


def preset_names(presets: Traversable) -> tuple[str, ...]:
    """Names of the presets in a folder of a package."""
    names = [entry.name for entry in presets.iterdir()]
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


def read_tree(source: str, presets: Traversable) -> Tree:
    """The tree of a file or preset, laid over the preset that it names.

    Raises ConfigurationError.
    """
    return inherited(_read(source, presets), source, presets)


def inherited(tree: Tree, origin: str, presets: Traversable) -> Tree:
    """A tree from `origin` laid over the preset that it names. Raises ConfigurationError."""
    return _with_preset(tree, presets, (origin,))


def parse(text: str, source: str) -> Any:
    """The value of a YAML text. Raises ConfigurationError that names the source."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: not valid YAML: {error}") from None


def assign(tree: Tree, override: str) -> str:
    """Write `key.path=value` into the tree; return the key path. Raises ConfigurationError."""
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
    value = parse(text, f"override {override!r}")
    if value is None:
        node.pop(keys[-1], None)
    else:
        node[keys[-1]] = value
    return ".".join(keys)


class _StrictLoader(SafeLoader):
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


def _read(source: str, presets: Traversable) -> Tree:
    """The tree of a file, or of a preset where there is no such file."""
    path = Path(source)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{source}: not a text file: {error}") from None
    elif source in preset_names(presets):
        text = (presets / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigurationError(
            _unknown(f"{source} is neither a file nor a preset", source, presets)
        )
    tree = parse(text, source)
    if not isinstance(tree, dict):
        raise ConfigurationError(
            f"{source}: a configuration must be a mapping of keys, got {type(tree).__name__}"
        )
    return tree


def _with_preset(tree: Tree, presets: Traversable, visited: Sequence[str]) -> Tree:
    if "preset" not in tree:
        return tree
    name = tree["preset"]
    if name not in preset_names(presets):
        raise ConfigurationError(
            _unknown(f"{visited[-1]}: preset = {name!r} is unknown", str(name), presets)
        )
    if name in visited:
        raise ConfigurationError(f"presets inherit in a circle: {' -> '.join((*visited, name))}")
    own = {key: value for key, value in tree.items() if key != "preset"}
    return _merged(_with_preset(_read(name, presets), presets, (*visited, name)), own)


def _merged(base: Tree, over: Tree) -> Tree:
    """`over` laid on `base` (RFC 7386): mappings merge, null removes, anything else replaces."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result


def _unknown(problem: str, name: str, presets: Traversable) -> str:
    names = preset_names(presets)
    return f"{problem}; presets are {', '.join(names)}{nearest(name, names)}"
