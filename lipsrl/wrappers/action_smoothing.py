"""An exponential moving average between agent and actuator."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from lipsrl.wrappers._actuator import RemembersAction


class ActionSmoothing(RemembersAction, RecordConstructorArgs):
    """The environment receives ``weight · a_t + (1 - weight) · (what it received before)``.

    A low-pass filter: it smooths whatever the policy does, and delays it. The first action of an episode is averaged
    with rest (zero).

    Args:
        env: actions in a bounded Box.
        weight: of the newest action, in (0, 1]; 1 changes nothing.
        observe_action: let the agent see what was applied last; see :class:`~lipsrl.wrappers.ActionDifference`.

    Raises:
        ValueError: another action space, or a weight outside of (0, 1].

    Example:
        >>> import gymnasium as gym
        >>> import numpy as np
        >>> env = ActionSmoothing(gym.make("Pendulum-v1"), weight=0.5)
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.array([2.0]))[-1]["applied_action"].tolist() for _ in range(3)]
        [[1.0], [1.5], [1.75]]
    """

    def __init__(self, env: gym.Env[Any, Any], weight: float = 0.5, observe_action: bool = False) -> None:
        if isinstance(weight, bool) or not 0.0 < weight <= 1.0:
            raise ValueError(
                f"weight must be in (0, 1], the share of the newest action; received {weight!r}."
            )
        RecordConstructorArgs.__init__(self, weight=weight, observe_action=observe_action)
        RemembersAction.__init__(self, env, observe_action)
        self.weight = float(weight)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step with the average."""
        return self.apply(self.weight * np.asarray(action, np.float64) + (1.0 - self.weight) * self.applied)
