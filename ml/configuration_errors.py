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
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "literal_error": "must be {expected}",
    "too_short": "must hold at least {min_length} entry",
    "too_long": "must hold at most {max_length} entries",
    "value_error": "is refused: {error}",
}


class ConfigurationError(ValueError):
    """An unusable configuration; the message names file, key, value and what is allowed."""


def nearest(word: str, allowed: Sequence[str]) -> str:
    """ "; did you mean 'x'?" where some allowed word is close, otherwise nothing."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def explain(
    error: ValidationError, kind: type[BaseModel], source: str, overridden: Sequence[str]
) -> str:
    """All mistakes of a validation, one a line; values given by an override are named as such."""
    lines = []
    for mistake in error.errors(include_url=False):
        keys = tuple(_steps(kind, mistake["loc"]))
        path = ".".join(keys)
        origin = source
        if any(path == given or path.startswith(f"{given}.") for given in overridden):
            origin = f"override of {source}"
        context = mistake.get("ctx", {})
        sentence = _sentence(kind, mistake["type"], keys, mistake["input"], context)
        lines.append(f"{origin}: {sentence}")
    return "\n".join(dict.fromkeys(lines))


def _steps(kind: type[BaseModel], location: Sequence[int | str]) -> Iterator[str]:
    """Keys of a location, without the names that pydantic gives to the branches of a union."""
    for depth, part in enumerate(location):
        section = _section_at(kind, [str(step) for step in location[:depth]])
        last = depth == len(location) - 1
        if isinstance(part, int) or section is not None or (last and depth == 0):
            yield str(part)


def _sentence(
    kind: type[BaseModel], mistake: str, keys: tuple[str, ...], value: object, context: Any
) -> str:
    path = ".".join(keys) or "the configuration"
    if mistake == "extra_forbidden":
        allowed = list(_keys_of(kind, _section_at(kind, keys[:-1])))
        near = nearest(keys[-1], allowed) or _elsewhere(kind, keys[-1])
        where = f"keys of {'.'.join(keys[:-1])}" if keys[:-1] else "top-level keys"
        return f"unknown key {path} = {_shown(value)}; {where} are {', '.join(allowed)}{near}"
    if mistake == "missing":
        return f"{path} is required, got nothing"
    requirement = _REQUIREMENTS.get(mistake, mistake.replace("_", " ")).format(**context)
    if mistake == "value_error":
        return f"{path} {requirement}"
    return f"{path} {requirement}, got {_shown(value)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _section_at(kind: type[BaseModel], keys: Sequence[str]) -> type[BaseModel] | None:
    """The section a key path leads to; None where it leads to none."""
    annotation: object = kind
    for key in keys:
        annotation = _plain(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(key)
            annotation = field.annotation if field else None
        else:
            arguments = typing.get_args(annotation)
            annotation = arguments[0] if arguments and key.isdigit() else None
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _plain(annotation: object) -> object:
    """The annotation without Annotated and without None."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation


def _keys_of(kind: type[BaseModel], section: type[BaseModel] | None) -> Iterator[str]:
    if section is kind:
        yield "preset"
    if section is not None:
        yield from section.model_fields


def _elsewhere(kind: type[BaseModel], key: str) -> str:
    """Where a key that is misplaced, not misspelt, belongs."""
    for name in kind.model_fields:
        section = _section_at(kind, (name,))
        if section is not None and key in section.model_fields:
            return f"; did you mean '{name}.{key}'?"
    return ""
