"""A filter of the actions between agent and actuator is a part of the agent: what it applies is what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lipsrl._episodes import layers
from lipsrl.evaluation._environments import Env
from lipsrl.wrappers import ActionDifference, ActionSmoothing

Filter = ActionDifference | ActionSmoothing


def filter_of(env: Env) -> Filter | None:
    """The ActionSmoothing or ActionDifference whose actions the actuator receives; None where there is none.

    The innermost of several, of those outside of all wrappers that change the actions' units (RescaleAction). So what
    is measured is in the agent's units, or behind an ActionDifference, whose agent speaks of changes, in those of the
    actions that it changes.
    """
    found: Filter | None = None
    for layer in layers(env):
        if isinstance(layer, Filter):
            found = layer
        elif isinstance(layer, gym.Wrapper) and layer.action_space != layer.env.action_space:
            break
    return found


def applied(filters: Sequence[Filter | None], actions: NDArray[Any]) -> NDArray[Any]:
    """What the filters made of the newest actions ``(slots, *shape)``; a slot's own where it has none."""
    found = np.array(actions)
    for slot, each in enumerate(filters):
        if each is not None:
            found[slot] = each.applied
    return found
