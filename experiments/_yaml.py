"""A command's options from a YAML file: the same names as the flags, checked as strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lipsrl._validation import unknown_name

T = TypeVar("T")


def read_options(path: Path, kind: type[T], **nested: str) -> T:
    """The dataclass ``kind`` with what the file says.

    Args:
        nested: name of a field that is a dataclass itself, whose names stand in the file beside the others.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML, no mapping, an unknown name, a value of another type; says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is not a file: give the YAML file of a sweep.")
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Once)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} must hold names and values, as `agents: [ppo, ppo-sandwich]`; it holds {found!r}."
        )
    hints = typing.get_type_hints(kind)
    inner = {name: hints.pop(name) for name in nested.values()}
    owner = dict.fromkeys(hints) | {
        field.name: outer for outer, one in inner.items() for field in dataclasses.fields(one)
    }
    types_ = hints | {
        name: hint for one in inner.values() for name, hint in typing.get_type_hints(one).items()
    }
    values: dict[str | None, dict[str, Any]] = {outer: {} for outer in (None, *inner)}
    for name, value in found.items():
        if name not in owner or name == "config":
            raise ValueError(f"{path}: {unknown_name('option', name, set(owner) - {'config'})}")
        values[owner[name]][name] = _value(path, name, value, types_[name])
    inside = {outer: one(**values[outer]) for outer, one in inner.items()}
    return kind(**values[None], **inside)


class _Once(yaml.SafeLoader):
    """YAML's own rule, which PyYAML does not keep: a name stands once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} stands there more than once", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _value(path: Path, name: str, value: Any, hint: Any) -> Any:
    converted, fits = _convert(value, hint)
    if not fits:
        raise ValueError(f"{path}: {name} must be {_said(hint)}, received {value!r}.")
    return converted


def _convert(value: Any, hint: Any) -> tuple[Any, bool]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            converted, fits = _convert(value, one)
            if fits:
                return converted, True
        return value, False
    if origin is typing.Literal:
        return value, value in arguments
    if origin is list:
        parts = [_convert(one, arguments[0]) for one in (value if isinstance(value, list) else [value])]
        return [part for part, _ in parts], all(fits for _, fits in parts)
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(arguments):
            return value, False
        parts = [_convert(one, kind) for one, kind in zip(value, arguments, strict=True)]
        return tuple(part for part, _ in parts), all(fits for _, fits in parts)
    if hint is Path:
        return (Path(value), True) if isinstance(value, str) else (value, False)
    if hint is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (float(value), True) if fits else (value, False)
    return value, isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _said(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_said(one) for one in arguments if one is not type(None))
    if origin is typing.Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(repr, arguments))
    if origin is list:
        return f"a list, each {_said(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} values, each {_said(arguments[0])}"
    names = {str: "a text", int: "an integer", float: "a number", bool: "true or false", Path: "a path"}
    return names.get(hint, str(hint))
