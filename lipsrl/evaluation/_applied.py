"""A filter of the actions between agent and actuator is a part of the agent: what it applies is what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl._episodes import layers
from lipsrl.evaluation._environments import Env
from lipsrl.wrappers import ActionDifference, ActionSmoothing

Filter = ActionDifference | ActionSmoothing


def filter_of(env: Env) -> Filter | None:
    """The ActionSmoothing or ActionDifference whose actions the actuator receives; None where there is none.

    The innermost of several. Those inside of a wrapper that changes the actions' units (RescaleAction) do not count:
    all that is measured is in the agent's.
    """
    filters = [layer for layer in layers(env) if isinstance(layer, Filter)]
    return filters[-1] if filters and filters[0].action_space == env.action_space else None


def applied(filters: Sequence[Filter | None], actions: NDArray[Any]) -> NDArray[Any]:
    """What the filters made of the newest actions ``(slots, *shape)``; a slot's own where it has none."""
    found = np.array(actions)
    for slot, each in enumerate(filters):
        if each is not None:
            found[slot] = each.applied
    return found
