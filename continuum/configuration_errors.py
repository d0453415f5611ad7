"""One clear sentence for every mistake in a configuration (DESIGN 3.8)."""

import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

_LONGEST_VALUE = 60
_REQUIREMENTS = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "too_short": "must hold at least {min_length} entry",
}
_NAME_RULE = "letters, digits, _ or +, starting with a letter (two of them and a - for a pair)"


class ConfigurationError(ValueError):
    """An unusable configuration; the message names file, key, value and what is allowed."""


def refused(path: str, value: object, requirement: str, hint: str = "") -> ConfigurationError:
    """The error for one key: what was required, what was given, and perhaps what was meant."""
    return ConfigurationError(f"{path} {requirement}, got {shown(value)}{hint}")


def nearest(word: str, allowed: Sequence[str]) -> str:
    """ "; did you mean 'x'?" where some allowed word is close, otherwise nothing."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def explain(
    error: ValidationError, root: type[BaseModel], source: str, overridden: Sequence[str]
) -> str:
    """All mistakes in a `root`, one a line; values given by an override are named as such."""
    lines = []
    for mistake in error.errors(include_url=False):
        keys = tuple(str(part) for part in mistake["loc"] if part != "[key]")
        path = ".".join(keys)
        origin = source
        if any(path == given or path.startswith(f"{given}.") for given in overridden):
            origin = f"override of {source}"
        context = mistake.get("ctx", {})
        sentence = _sentence(root, mistake["type"], keys, mistake["input"], context)
        lines.append(f"{origin}: {sentence}")
    return "\n".join(lines)


def _sentence(
    root: type[BaseModel], kind: str, keys: tuple[str, ...], value: object, context: dict[str, Any]
) -> str:
    path = ".".join(keys)
    if kind == "extra_forbidden":
        allowed = list(_keys_of(root, _section_at(root, keys[:-1])))
        near = nearest(keys[-1], allowed) or _elsewhere(root, keys[-1])
        where = f"keys of {'.'.join(keys[:-1])}" if keys[:-1] else "top-level keys"
        return f"unknown key {path} = {shown(value)}; {where} are {', '.join(allowed)}{near}"
    if kind == "missing":
        return f"{path} is required, got nothing"
    if kind == "value_error":
        return f"{path}: {context['error']}"
    if kind == "string_pattern_mismatch":
        return f"{path}: a name must be of {_NAME_RULE}, got {shown(value)}"
    requirement = _REQUIREMENTS.get(kind, kind.replace("_", " ")).format(**context)
    near = ""
    if kind == "literal_error":
        near = nearest(str(value), _options(str(context["expected"])))
    return str(refused(path, value, requirement, near))


def _options(expected: str) -> list[str]:
    return [option.strip(" '") for option in expected.replace(" or ", ",").split(",")]


def _section_at(root: type[BaseModel], keys: Sequence[str]) -> type[BaseModel] | None:
    """The section a key path leads to; None where it leads to none."""
    annotation: object = root
    for key in keys:
        section = _as_section(annotation)
        if section is not None:
            field = section.model_fields.get(key)
            annotation = field.annotation if field else None
        else:
            arguments = typing.get_args(_without_none(annotation))
            annotation = arguments[-1] if arguments else None
    return _as_section(annotation)


def _as_section(annotation: object) -> type[BaseModel] | None:
    annotation = _without_none(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _without_none(annotation: object) -> object:
    if typing.get_origin(annotation) is typing.Annotated:
        return _without_none(typing.get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation


def _keys_of(root: type[BaseModel], section: type[BaseModel] | None) -> Iterator[str]:
    if section is root:
        yield "preset"
    if section is not None:
        yield from section.model_fields


def _elsewhere(root: type[BaseModel], key: str) -> str:
    """Where a key that is misplaced, not misspelt, belongs."""
    for name in root.model_fields:
        section = _section_at(root, (name,))
        if section is not None and key in section.model_fields:
            return f"; did you mean '{name}.{key}'?"
    return ""
