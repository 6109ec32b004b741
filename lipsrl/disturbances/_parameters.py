"""Validation of what a disturbance is built from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl._validation import is_real

FloatArray = NDArray[np.floating[Any]]
PerDimension = float | Sequence[float] | FloatArray  # what a caller may give
Numbers = float | tuple[float, ...]  # what is stored

MAX_DELAY = 10_000  # control steps


def nonnegative(argument: str, value: Any) -> Numbers:
    """``value`` as a float, or as a tuple with one float per observation dimension; each finite and >= 0.

    Args:
        argument: the name that the error gives.
        value: a real number, or a non-empty sequence or 1-D array of them.

    Raises:
        ValueError: anything else (negative, NaN, infinite, empty, not numeric, more than one axis).
    """
    return _numbers(argument, value, "a finite number >= 0", lambda array: array >= 0)


def delay_steps(argument: str, value: Any) -> Numbers:
    """As :func:`nonnegative`, each at most ``MAX_DELAY``: everything back to there is kept in memory."""
    expected = f"a finite number of control steps from 0 to {MAX_DELAY:,}"
    return _numbers(argument, value, expected, lambda array: (array >= 0) & (array <= MAX_DELAY))


def as_probability(argument: str, value: Any) -> Numbers:
    """As :func:`nonnegative`, each from 0 to 1."""
    return _numbers(argument, value, "a probability from 0 to 1", lambda array: (array >= 0) & (array <= 1))


def as_correlation(argument: str, value: Any) -> Numbers:
    """As :func:`nonnegative`, each strictly between -1 and 1."""
    return _numbers(argument, value, "a number strictly between -1 and 1", lambda array: np.abs(array) < 1)


def _numbers(
    argument: str, value: Any, expected: str, accepts: Callable[[FloatArray], NDArray[np.bool_]]
) -> Numbers:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged
        array = np.asarray(None)
    if array.dtype.kind in "iuf" and array.ndim <= 1 and array.size:
        array = array.astype(np.float64)
        if np.isfinite(array).all() and accepts(array).all():
            return tuple(map(float, array)) if array.ndim else float(array)
    raise ValueError(
        f"{argument} must be {expected}, or a sequence of them with one per observation dimension; "
        f"received {value!r}."
    )


def nonnegative_number(argument: str, value: Any) -> float:
    """``value`` as a float if it is one finite number >= 0; otherwise ``ValueError``."""
    if not is_real(value) or not 0 <= float(value) < math.inf:
        raise ValueError(f"{argument} must be one finite number >= 0, received {value!r}.")
    return float(value)


def one_length(parameters: Mapping[str, Any]) -> None:
    """``ValueError`` unless all parameters with one value per dimension have equally many."""
    lengths = {name: len(value) for name, value in parameters.items() if isinstance(value, tuple)}
    if len(set(lengths.values())) > 1:
        listed = " and ".join(f"{name} has {length} values" for name, length in lengths.items())
        raise ValueError(
            f"{listed}: values per observation dimension must be equally many. Give one number for all "
            "dimensions, or one per dimension."
        )


def times(value: Numbers, factor: Numbers) -> Numbers:
    """``value * factor``, entry by entry; a number stands for itself in every dimension.

    Raises:
        ValueError: two sequences of different lengths.
    """
    one_length({"the parameter": value, "its factor": factor})
    with np.errstate(over="ignore"):  # an infinity is refused where the product is used
        product = np.multiply(value, factor)
    return tuple(map(float, product)) if product.ndim else float(product)


def per_stream(value: Numbers, n: int) -> FloatArray:
    """``(n, 1)`` or ``(n, dim)``: the same ``value`` for each of ``n`` streams."""
    return np.tile(np.atleast_1d(np.asarray(value, dtype=np.float64)), (n, 1))
