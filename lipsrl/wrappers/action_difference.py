"""Actions that are changes of the actuator's command."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from lipsrl._validation import positive_finite
from lipsrl.wrappers._actuator import RemembersAction


class ActionDifference(RemembersAction, RecordConstructorArgs):
    """A first-difference action space: the environment receives ``clip(a_{t-1} + rate · half range · u_t)``.

    The agent's u is in [-1, 1]. The action then moves at most ``rate · half range`` per step, whatever the policy does:
    a bound in time, not in the observation. The agent sees the applied action by default, without which the task is not
    Markov.

    Args:
        env: actions in a bounded Box.
        rate: largest change per step, as a share of half of the action's range.
        observe_action: append the applied action to the observation; a vector of integers then becomes one of floats
            (float32, or float64 where float32 does not hold them).

    Raises:
        ValueError: another action space, or a rate that is not > 0.

    Example:
        >>> import gymnasium as gym
        >>> import numpy as np
        >>> env = ActionDifference(gym.make("Pendulum-v1"), rate=0.25)
        >>> env.action_space, env.observation_space.shape
        (Box(-1.0, 1.0, (1,), float32), (4,))
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.array([1.0]))[-1]["applied_action"].tolist() for _ in range(3)]
        [[0.5], [1.0], [1.5]]
    """

    def __init__(self, env: gym.Env[Any, Any], rate: float = 0.2, observe_action: bool = True) -> None:
        RecordConstructorArgs.__init__(self, rate=rate, observe_action=observe_action)
        RemembersAction.__init__(self, env, observe_action)
        self.rate = positive_finite("rate", rate)
        self.action_space = spaces.Box(-1.0, 1.0, self.box.shape, np.float32)
        self._step = self.rate * (self.box.high.astype(np.float64) - self.box.low) / 2

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step with the changed action."""
        change = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        return self.apply(self.applied + self._step * change)
