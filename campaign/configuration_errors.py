"""One clear sentence for every mistake in a campaign's configuration (DESIGN 3.8)."""

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from continuum.configuration_errors import ConfigurationError, nearest, shown

__all__ = ["ConfigurationError", "explain", "nearest", "shown"]

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
    "literal_error": "must be {expected}",
    "too_short": "must hold at least {min_length} entry",
}


def explain(
    error: ValidationError, root: type[BaseModel], source: str, overridden: Sequence[str]
) -> str:
    """All mistakes of a validation, one a line; values given by an override are named as such."""
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
        section = _section_at(root, keys[:-1])
        allowed = [] if section is None else list(section.model_fields)
        near = nearest(keys[-1], allowed) or _elsewhere(root, keys[-1])
        where = f"keys of {'.'.join(keys[:-1])}" if keys[:-1] else "top-level keys"
        return f"unknown key {path} = {shown(value)}; {where} are {', '.join(allowed)}{near}"
    if kind == "missing":
        return f"{path} is required, got nothing"
    if kind == "value_error":
        return f"{path}: {context['error']}"
    requirement = _REQUIREMENTS.get(kind, kind.replace("_", " ")).format(**context)
    near = ""
    if kind == "literal_error":
        near = nearest(str(value), str(context["expected"]).replace("'", "").split(" or "))
        near = near or nearest(str(value), _options(str(context["expected"])))
    return f"{path} {requirement}, got {shown(value)}{near}"


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


def _elsewhere(root: type[BaseModel], key: str) -> str:
    """Where a key that is misplaced, not misspelt, belongs."""
    for name in root.model_fields:
        section = _section_at(root, (name,))
        if section is not None and key in section.model_fields:
            return f"; did you mean '{name}.{key}'?"
    return ""
