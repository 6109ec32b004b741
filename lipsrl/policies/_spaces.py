"""Sizes and ranges of action spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


def output_features(space: spaces.Space[Any]) -> int:
    """Width of the actor's output: action dimensions, or the number of logits."""
    match space:
        case spaces.Box():
            return int(np.prod(space.shape))
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(np.sum(space.nvec))
        case spaces.MultiBinary():
            return int(np.prod(space.shape))
    raise ValueError(
        f"Action space {space} is not supported. Accepted: Box, Discrete, MultiDiscrete, MultiBinary."
    )


def action_half_range(space: spaces.Space[Any]) -> np.ndarray:
    """``(high - low) / 2`` per action dimension: what a unit of a tanh-squashed action is worth in the environment.

    Raises:
        ValueError: the space is no Box, or unbounded.
    """
    if not isinstance(space, spaces.Box) or not (
        np.isfinite(space.low).all() and np.isfinite(space.high).all()
    ):
        raise ValueError(f"A squashed (tanh) action needs a bounded Box action space, received {space}.")
    half: np.ndarray = (space.high.astype(np.float64) - space.low.astype(np.float64)).reshape(-1) / 2
    return half
