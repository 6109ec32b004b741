"""Names of disturbances: from a dictionary, from the command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from lipsrl._validation import lookup
from lipsrl.disturbances._base import Disturbance

D = TypeVar("D", bound=type[Disturbance])

#: name -> class of every disturbance
DISTURBANCES: dict[str, type[Disturbance]] = {}

_NEXT = re.compile(r"\+(?=\s*[A-Za-z])")  # a name follows: the plus of 1e+3 is none


def register(cls: D) -> D:
    """Class decorator: make a disturbance known under its ``name``.

    Raises:
        ValueError: another class has that name.
    """
    known = DISTURBANCES.get(cls.name, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):  # a reload is welcome
        raise ValueError(f"name={cls.name!r} already belongs to {known.__module__}.{known.__qualname__}.")
    DISTURBANCES[cls.name] = cls
    return cls


def disturbance_from_dict(data: Mapping[str, Any]) -> Disturbance:
    """The disturbance that ``to_dict`` described, fresh.

    Raises:
        ValueError: not a mapping with a known ``"name"``, parameters that the family does not take, or an attack.

    Example:
        >>> disturbance_from_dict({"name": "gaussian", "std": 0.2})
        GaussianNoise(std=0.2)
    """
    received: object = data
    if not isinstance(received, Mapping) or "name" not in received:
        raise ValueError(
            f"a disturbance is described by a mapping with a 'name' ({_names(DISTURBANCES)}), received {data!r}."
        )
    if "model" in data and data["name"] not in DISTURBANCES:
        raise ValueError(
            f"{data['name']!r} is an attack on a model, and its description does not hold the model. Make the attack "
            "and hand it over itself."
        )
    cls = lookup("name", data["name"], DISTURBANCES)
    return _build(cls, {key: value for key, value in data.items() if key != "name"})


def parse_disturbance(text: str) -> Disturbance:
    """A disturbance from the command line: ``NAME[:VALUE[:VALUE...]][+NAME...]``.

    Values follow the order of the constructor's arguments, or name them (``std=0.2``). A value is a number,
    or several separated by commas: one per observation dimension; or a word where the argument is one. What
    is left out keeps its default. ``+`` composes, the first one nearest to the true observation.

    Raises:
        ValueError: unknown name (the nearest is suggested), unknown argument, or a value that is no number.

    Example:
        >>> parse_disturbance("gaussian:0.2")
        GaussianNoise(std=0.2)
        >>> parse_disturbance("gaussian:std=0.1,0.1,0.5")
        GaussianNoise(std=(0.1, 0.1, 0.5))
        >>> parse_disturbance("ar1:0.1:0.9")
        AutoregressiveNoise(std=0.1, correlation=0.9)
        >>> parse_disturbance("quantization:0.01+dropout:0.1:per=frame")
        Compose([Quantization(step=0.01), Dropout(probability=0.1, fill='hold', per='frame')])
    """
    if not isinstance(text, str):
        raise ValueError(
            f"a disturbance is written NAME[:VALUE...], received {text!r}. Known: {_names(written())}."
        )
    parts = [_parse_one(part) for part in composed(text)]
    return parts[0] if len(parts) == 1 else DISTURBANCES["compose"].from_parameters({"disturbances": parts})


def composed(text: str) -> list[str]:
    """The parts of ``NAME[:VALUE...][+NAME...]``."""
    return [part.strip() for part in _NEXT.split(text)]


def written() -> dict[str, type[Disturbance]]:
    """Those of :data:`DISTURBANCES` that have a text: what is made of other disturbances has none."""
    return {
        name: cls
        for name, cls in DISTURBANCES.items()
        if "disturbances" not in inspect.signature(cls).parameters
    }


def _parse_one(text: str) -> Disturbance:
    name, *values = text.split(":")
    if name in DISTURBANCES and name not in written():
        raise ValueError(
            f"{name!r} has no text of its own. In text 'gaussian:0.1+delay:2' composes; of several words one is drawn "
            "for each episode (lipsrl distill)."
        )
    cls = lookup("disturbance", name, written())
    signature = inspect.signature(cls).parameters
    accepted = list(signature)
    if len(values) > len(accepted):
        raise ValueError(f"{text!r} has {len(values)} values, {name!r} takes {accepted}.")
    parameters: dict[str, Any] = {}
    for position, value in enumerate(values):
        key, found, given = value.partition("=")
        if not found:
            key, given = accepted[position], value
        if key in parameters:
            raise ValueError(f"{text!r} gives {key!r} twice.")
        is_word = key in signature and isinstance(signature[key].default, str)
        parameters[key] = given if is_word else _numbers(text, given)
    return _build(cls, parameters)


def _build(cls: type[Disturbance], parameters: dict[str, Any]) -> Disturbance:
    signature = inspect.signature(cls)
    try:
        signature.bind(**parameters)
    except TypeError as error:
        raise ValueError(
            f"{cls.name!r} takes {list(signature.parameters)}, received {parameters!r}: {error}."
        ) from None
    return cls.from_parameters(parameters)


def _numbers(text: str, value: str) -> float | list[float]:
    try:
        numbers = [int(part) if part.strip().isdigit() else float(part) for part in value.split(",")]
    except ValueError:
        raise ValueError(
            f"{text!r}: expected a number or numbers separated by commas, received {value!r}."
        ) from None
    return numbers if len(numbers) > 1 else numbers[0]


def _names(known: Mapping[str, object]) -> str:
    return ", ".join(map(repr, sorted(known)))
