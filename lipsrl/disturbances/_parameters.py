"""Validation of what a disturbance is built from."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np


def nonnegative(argument: str, value: Any) -> float | tuple[float, ...]:
    """``value`` as a float, or as a tuple with one float per observation dimension; each finite and >= 0.

    Args:
        argument: the name that the error gives.
        value: a real number, or a non-empty sequence or 1-D array of them.

    Raises:
        ValueError: anything else (negative, NaN, infinite, empty, not numeric, more than one axis).
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged
        array = np.asarray(None)
    if array.dtype.kind in "iuf" and array.ndim <= 1 and array.size:
        array = array.astype(np.float64)
        if np.isfinite(array).all() and (array >= 0).all():
            return tuple(map(float, array)) if array.ndim else float(array)
    raise ValueError(
        f"{argument} must be a finite number >= 0, or a sequence of them with one per observation dimension; "
        f"received {value!r}."
    )


def nonnegative_number(argument: str, value: Any) -> float:
    """``value`` as a float if it is one finite number >= 0; otherwise ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
        raise ValueError(f"{argument} must be one finite number >= 0, received {value!r}.")
    return float(value)


def times(value: float | tuple[float, ...], strength: float) -> float | tuple[float, ...]:
    """``value * strength``, entry by entry."""
    return tuple(v * strength for v in value) if isinstance(value, tuple) else value * strength
