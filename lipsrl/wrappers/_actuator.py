"""What remembers the action that the environment received, and lets the agent see it."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

#: Key of the applied action in a Dict observation, and in ``info``.
APPLIED = "applied_action"


class RemembersAction(gym.Wrapper[Any, Any, Any, Any]):
    """Base of wrappers whose action depends on the one before.

    Args:
        env: actions in a bounded Box.
        observe_action: append the action that was applied last to the observation (a vector grows by it, a Dict gets
            the entry ``"applied_action"``): without it the agent does not see all of the state. A vector of integers
            becomes float32, or float64 where float32 does not hold them (32 and 64 bits), so that the action keeps its
            fraction.

    Raises:
        ValueError: another action space; ``observe_action`` with observations that are neither a vector nor a Dict.
    """

    def __init__(self, env: gym.Env[Any, Any], observe_action: bool) -> None:
        super().__init__(env)
        box = env.action_space
        if not isinstance(box, spaces.Box) or not (
            np.isfinite(box.low).all() and np.isfinite(box.high).all()
        ):
            raise ValueError(f"{type(self).__name__} needs actions in a bounded Box, received {box}.")
        self.box: spaces.Box = box
        self.observe_action = observe_action
        if observe_action:
            self.observation_space = self._wider(env.observation_space)
        self.applied = self.rest()

    def rest(self) -> np.ndarray:
        """The action before the first of an episode: zero, as near as the Box allows."""
        return np.clip(np.zeros(self.box.shape, np.float64), self.box.low, self.box.high)

    def _wider(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        if isinstance(space, spaces.Dict):
            if APPLIED in space.spaces:
                raise ValueError(f"the observation has an entry {APPLIED!r} already.")
            return spaces.Dict({**space.spaces, APPLIED: self.box})
        if isinstance(space, spaces.Box) and len(space.shape) == 1:
            low = np.concatenate([space.low, self.box.low.reshape(-1)])
            high = np.concatenate([space.high, self.box.high.reshape(-1)])
            kept = space.dtype.kind == "f"
            dtype: Any = space.dtype if kept else np.result_type(space.dtype, np.float32)
            return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
        raise ValueError(
            f"observe_action=True needs a vector or a Dict as observation, received {space}. Use observe_action=False."
        )

    def _seen(self, observation: Any) -> Any:
        if not self.observe_action:
            return observation
        if isinstance(observation, dict):
            return {**observation, APPLIED: self.applied.astype(self.box.dtype)}
        dtype: Any = self.observation_space.dtype
        return np.concatenate([observation, self.applied.reshape(-1)]).astype(dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the environment; the applied action is at rest."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.applied = self.rest()
        return self._seen(observation), info

    def apply(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment with ``action``, clipped to its Box; ``info["applied_action"]`` is what it received."""
        self.applied = np.clip(np.asarray(action, np.float64), self.box.low, self.box.high)
        sent = self.applied.astype(self.box.dtype)
        observation, reward, terminated, truncated, info = self.env.step(sent)
        return self._seen(observation), reward, terminated, truncated, {**info, APPLIED: sent}
