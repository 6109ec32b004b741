"""How strong a disturbance is in an episode: a number, a range to draw from, or a schedule of either."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipsrl.disturbances._parameters import nonnegative_number

Level = float | tuple[float, float]
Strength = Level | Callable[[float], Level]


def check_strength(strength: Strength) -> Strength:
    """``strength`` with its numbers as floats; a schedule is asked for its first value.

    Raises:
        ValueError: neither a finite number >= 0, nor (low, high) with 0 <= low <= high, nor a callable that
            gives one of them for a progress from 0 to 1.
    """
    if callable(strength):
        level(strength, 0.0)
        return strength
    return level(strength, 0.0)


def level(strength: Strength, progress: float) -> Level:
    """The number or the range that holds at ``progress`` of training; ``ValueError`` as above."""
    value: object = strength(progress) if callable(strength) else strength
    found = _read(value)
    if found is None:
        origin = f" from {strength!r} at progress {progress:g}" if callable(strength) else ""
        raise ValueError(
            "strength must be a finite number >= 0, a range (low, high) with 0 <= low <= high to draw from in every "
            f"episode, or a callable of the progress of training that gives one of them; received {value!r}{origin}."
        )
    return found


def constant_level(argument: str, value: object) -> Level:
    """``value`` as :func:`level`, where there is no progress that a schedule could follow.

    Args:
        argument: the name that the error gives.
    """
    found = _read(value)
    if found is None:
        raise ValueError(
            f"{argument} must be a finite number >= 0, or a range (low, high) with 0 <= low <= high to draw from in "
            f"every episode; received {value!r}."
        )
    return found


def _read(value: object) -> Level | None:
    bounds = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    try:
        low, high = (nonnegative_number("strength", bound) for bound in bounds)
    except ValueError:
        return None
    if low > high:
        return None
    return (low, high) if bounds is value else low


def draw(strength: Strength, progress: float, generator: np.random.Generator) -> float:
    """The strength of one episode; uniform over a range."""
    value = level(strength, progress)
    if isinstance(value, float):
        return value
    low, high = value
    return low + (high - low) * float(generator.random())
