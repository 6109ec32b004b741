"""A Gymnasium environment with disturbed actions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._channels import Channels
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._layers import refuse, tell_below
from lipsrl.wrappers._streams import EpisodeStreams, recorded
from lipsrl.wrappers._strength import Strength


class ActionDisturbance(
    gym.Wrapper[Any, Any, Any, Any],
    RecordConstructorArgs,
):
    """Disturb every action on its way to ``env``: noise, delay, quantisation, or any other disturbance.

    What is changed is clipped to the action space, as an actuator saturates; an action that the disturbance
    leaves as it is passes untouched. What the environment received is in ``info["applied_action"]``. A delay
    repeats the first action of the episode until its queue is full. The environment's own randomness is not
    touched, and neither are the draws of an ``ObservationDisturbance`` with the same seed.

    Args:
        env: actions in a Box. In physical units where a ``RescaleAction`` is outside of this wrapper.
        disturbance, seed, strength: as for :class:`~lipsrl.wrappers.ObservationDisturbance`.

    Raises:
        ValueError: another action space, a disturbance of another length, a bad seed or strength, an
            ``ActionDisturbance`` below.

    Example:
        >>> import gymnasium as gym
        >>> import numpy as np
        >>> from lipsrl.disturbances import Compose, Delay, Quantization
        >>> env = ActionDisturbance(gym.make("Pendulum-v1"), Compose([Delay(1), Quantization(0.5)]))
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.array([torque]))[-1]["applied_action"].tolist() for torque in (0.3, -1.9, 1.0)]
        [[0.5], [0.5], [-2.0]]
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None = None,
        strength: Strength = 1.0,
    ) -> None:
        fresh = fresh_disturbance(disturbance)
        RecordConstructorArgs.__init__(self, **recorded(fresh, seed=seed, strength=strength))
        gym.Wrapper.__init__(self, env)
        refuse(ActionDisturbance, env)
        self._channels = Channels(env.action_space, fresh, clip=True)
        self.disturbance = fresh
        self.streams = EpisodeStreams(fresh, 1, seed, strength, actuator=True)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, start an episode of disturbance."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.streams.begin(0, seed)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment with the disturbed action."""
        applied = self._channels.disturb_one(action, self.streams)
        kept = copy.deepcopy(applied)  # an environment may write into the action that it is given
        observation, reward, terminated, truncated, info = self.env.step(applied)
        return observation, reward, terminated, truncated, {**info, "applied_action": kept}

    def set_disturbance_progress(self, progress: float) -> None:
        """Tell a schedule of the strength how far training is, 0 … 1; further disturbances inside hear it too."""
        self.streams.progress = progress
        tell_below(self, progress)
