"""What both wrappers accept: a disturbance, a seed for it, an observation space."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from lipsrl.disturbances import Disturbance, disturbance_from_dict


def fresh_disturbance(disturbance: Disturbance | Mapping[str, Any]) -> Disturbance:
    """A copy with a stream of its own, so that two wrappers never share one; a ``to_dict()`` is accepted too.

    Raises:
        ValueError: neither a disturbance nor the description of one.
    """
    if isinstance(disturbance, Mapping):
        return disturbance_from_dict(disturbance)
    received: object = disturbance
    if not isinstance(received, Disturbance):
        raise ValueError(
            "disturbance must be a lipsrl.disturbances.Disturbance such as GaussianNoise(0.1), "
            f"received {received!r} of type {type(received).__name__}."
        )
    return disturbance.scaled(1.0)


def own_seed(seed: int | None) -> int | None:
    """``seed`` if it is None or an integer >= 0; otherwise ``ValueError``."""
    received: object = seed
    if received is None:
        return None
    if isinstance(received, bool) or not isinstance(received, numbers.Integral) or received < 0:
        raise ValueError(f"seed must be None or an integer >= 0, received {received!r}.")
    return int(received)


def restart_seed(own: int | None, reset: int | None) -> int | None:
    """The seed from which a reset restarts a stream; None: it goes on with its draws.

    An unseeded reset never restarts; a seeded one does from the stream's ``own`` seed, if it has one.
    """
    return reset if own is None or reset is None else own


def disturbed_space(space: spaces.Space[Any], disturbance: Disturbance) -> spaces.Box:
    """The space of disturbed observations: as ``space``, with every bound at infinity.

    Raises:
        ValueError: ``space`` is not a one-dimensional floating-point Box, or its length does not fit.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype.kind != "f":
        raise ValueError(
            "A disturbance is in sensor units: it needs observations in a one-dimensional floating-point "
            f"Box, not {space}. Flatten them first (gymnasium.wrappers.FlattenObservation) and convert "
            "integers to floating point; images have no sensor units."
        )
    disturbance.check_dimension(space.shape[0])
    return spaces.Box(-np.inf, np.inf, shape=space.shape, dtype=space.dtype.type)
