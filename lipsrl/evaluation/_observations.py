"""Many observations of one space side by side: an array, or a dict of arrays where the space is a Dict."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Observations: TypeAlias = Any  # NDArray, or dict[str, NDArray]

_PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def is_vector(space: spaces.Space[Any]) -> bool:
    """Whether observations are vectors, a Box of shape (dim,)."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def is_supported(space: spaces.Space[Any]) -> bool:
    """Whether observations of this space can be batched here."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return all(isinstance(part, _PLAIN) for part in parts)


def is_supported_action(space: spaces.Space[Any]) -> bool:
    """Whether actions of this space can be batched here."""
    return isinstance(space, _PLAIN)


def numbers_in(space: spaces.Space[Any]) -> int:
    """How many numbers one observation holds."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(int(np.prod(part.shape or ())) for part in parts)


def allocate(space: spaces.Space[Any], n: int) -> Observations:
    """Zeros ``(n, *shape)``, by key for a Dict."""
    if isinstance(space, spaces.Dict):
        return {key: allocate(part, n) for key, part in space.spaces.items()}
    return np.zeros((n, *(space.shape or ())), dtype=space.dtype)


def put(observations: Observations, row: int, observation: Any) -> None:
    """Write one observation into a row."""
    if isinstance(observations, dict):
        for key, values in observations.items():
            values[row] = observation[key]
    else:
        observations[row] = observation


def clear(observations: Observations, rows: NDArray[np.intp]) -> None:
    """Write zeros into rows."""
    for values in observations.values() if isinstance(observations, dict) else [observations]:
        values[rows] = 0


def take(observations: Observations, rows: Any) -> Observations:
    """A selection of rows; a copy where ``rows`` is an index array."""
    if isinstance(observations, dict):
        return {key: values[rows] for key, values in observations.items()}
    return observations[rows]


def copied(observations: Observations) -> Observations:
    """A copy."""
    if isinstance(observations, dict):
        return {key: values.copy() for key, values in observations.items()}
    return observations.copy()


def count(observations: Observations) -> int:
    """Number of rows."""
    return len(next(iter(observations.values())) if isinstance(observations, dict) else observations)


def padded(observations: Observations, multiple: int) -> Observations:
    """With rows of zeros up to a multiple."""
    if isinstance(observations, dict):
        return {key: padded(values, multiple) for key, values in observations.items()}
    n = len(observations)
    missing = -n % multiple
    if not missing:
        return observations
    wider = np.zeros((n + missing, *observations.shape[1:]), dtype=observations.dtype)
    wider[:n] = observations
    return wider


def finite_rows(observations: Observations) -> NDArray[np.bool_]:
    """``(n,)``: rows without nan or infinity."""
    if isinstance(observations, dict):
        parts = [finite_rows(values) for values in observations.values()]
    else:
        finite = np.isfinite(observations)
        if finite.all():
            return np.ones(len(observations), dtype=np.bool_)
        parts = [finite.reshape(len(observations), -1).all(axis=1)]
    rows: NDArray[np.bool_] = np.all(parts, axis=0)
    return rows
