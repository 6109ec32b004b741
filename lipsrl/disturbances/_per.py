"""Whether a fault strikes each sensor by itself or all of them together."""

from __future__ import annotations

from typing import Literal, TypeVar, get_args

from lipsrl._validation import lookup
from lipsrl.disturbances._parameters import Numbers

Per = Literal["frame", "sensor"]
W = TypeVar("W", bound=str)


def word(argument: str, value: W, accepted: tuple[W, ...]) -> W:
    """``value`` if it is one of the ``accepted`` words; otherwise a ``ValueError`` that suggests the nearest."""
    return lookup(argument, value, {each: each for each in accepted})


def check_per(per: Per, argument: str, value: Numbers) -> Per:
    """``per``, if it is a known word and ``value`` fits it; otherwise ``ValueError``."""
    if word("per", per, get_args(Per)) == "frame" and isinstance(value, tuple):
        raise ValueError(
            f"per='frame' strikes all sensors together and takes one {argument}, received {value!r}. Give one "
            "number, or per='sensor'."
        )
    return per
