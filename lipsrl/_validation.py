"""Checks of arguments. Errors say what was expected, what was received and what to do. Standard library and NumPy."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")


def unknown_name(argument: str, received: object, accepted: Iterable[str]) -> ValueError:
    """The error for a name that is not in a registry; suggests the nearest accepted one."""
    names = sorted(accepted)
    near = difflib.get_close_matches(str(received), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{argument}={received!r} is not known.{hint} Accepted: {', '.join(map(repr, names))}.")


def lookup(argument: str, name: object, registry: Mapping[str, T]) -> T:
    """``registry[name]``, or a ``ValueError`` that names the argument and the nearest key."""
    if isinstance(name, str) and name in registry:
        return registry[name]
    raise unknown_name(argument, name, registry)


def is_real(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a real number, of Python's or of NumPy's; ``True`` and ``False`` are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def positive_finite(argument: str, value: Any) -> float:
    """``value`` as a float if it is a real number in (0, ∞); otherwise ``ValueError``."""
    if not is_real(value):
        raise ValueError(
            f"{argument} must be a finite number > 0, received {value!r} of type {type(value).__name__}."
        )
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{argument} must be a finite number > 0, received {value!r}.")
    return number


def non_negative(name: str, value: Any) -> float:
    """``value`` as a float if it is a finite number ≥ 0; otherwise ``ValueError``."""
    if not is_real(value):
        raise ValueError(f"{name} must be a number >= 0, received {value!r} of type {type(value).__name__}.")
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name} must be a finite number >= 0, received {value!r}.")
    return number


def positive_int(argument: str, value: Any) -> int:
    """``value`` as an int if it is an integer > 0; otherwise ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value <= 0:
        raise ValueError(f"{argument} must be an integer > 0, received {value!r}.")
    return int(value)


def check_distinct(environments: Sequence[Any]) -> None:
    """Refuse a factory that hands out one environment again and again: its slots would step one simulator.

    Raises:
        ValueError: says what a factory must do.
    """
    seen: set[int] = set()
    for env in environments:
        inner = id(getattr(env, "unwrapped", env))
        if inner in seen:
            raise ValueError(
                f"the env factory returned the same {type(env).__name__} twice, so several episodes would be played in "
                "one simulator at once. It must make a new one at each call, as lambda: gym.make(...) does; or pass "
                "the environment itself, env=env."
            )
        seen.add(inner)
