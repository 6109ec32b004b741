"""What all wrappers accept: a disturbance, a seed for it, a strength."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

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
