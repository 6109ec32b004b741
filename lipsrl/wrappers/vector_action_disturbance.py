"""Gymnasium's vector environments with disturbed actions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._channels import Channels
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._layers import refuse
from lipsrl.wrappers._streams import EpisodeStreams, recorded
from lipsrl.wrappers._strength import Strength
from lipsrl.wrappers._vector import VectorDisturbance, environments_of
from lipsrl.wrappers.action_disturbance import ActionDisturbance


class VectorActionDisturbance(VectorDisturbance, RecordConstructorArgs):
    """Disturb every action on its way to a ``gymnasium.vector`` environment.

    Bit for bit what a ``SyncVectorEnv`` of :class:`~lipsrl.wrappers.ActionDisturbance` gives, in each autoreset
    mode. ``infos["applied_action"]``, ``(n, *shape)``, is what the environments received; where
    ``infos["_applied_action"]`` is False the step was a reset and the action was not used.

    Args:
        env: actions in a Box.
        disturbance, seed, strength: as for :class:`~lipsrl.wrappers.VectorObservationDisturbance`.

    Raises:
        ValueError: as for :class:`~lipsrl.wrappers.ActionDisturbance`.

    Example:
        >>> import gymnasium as gym
        >>> import numpy as np
        >>> from lipsrl.disturbances import Quantization
        >>> envs = VectorActionDisturbance(gym.make_vec("Pendulum-v1", num_envs=2), Quantization(0.5))
        >>> _ = envs.reset(seed=0)
        >>> envs.step(np.array([[0.2], [0.3]], np.float32))[-1]["applied_action"].tolist()
        [[0.0], [0.5]]
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None = None,
        strength: Strength = 1.0,
    ) -> None:
        self.disturbance = fresh_disturbance(disturbance)
        RecordConstructorArgs.__init__(self, **recorded(self.disturbance, seed=seed, strength=strength))
        VectorWrapper.__init__(self, env)
        refuse(VectorActionDisturbance, env)
        for single in environments_of(env):
            refuse(ActionDisturbance, single)
        self._channels = Channels(env.single_action_space, self.disturbance, clip=True)
        self.streams = EpisodeStreams(self.disturbance, env.num_envs, seed, strength, actuator=True)
        self._ended = np.zeros(env.num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, start episodes of their streams."""
        observations, infos, _ = self._reset_env(seed, options)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments with the disturbed actions."""
        used = ~self._ended
        applied, live = np.array(actions), np.flatnonzero(used)
        if len(live):
            applied[live] = self._channels.disturb(applied[live], self.streams, live)
        kept = copy.deepcopy(applied)
        observations, rewards, terminations, truncations, infos = self.env.step(applied)
        done = np.logical_or(terminations, truncations)
        beginning = done if self._autoreset == "SameStep" else self._ended
        for index in np.flatnonzero(beginning).tolist():
            self.streams.begin(index)
        self._mark(done)
        infos = {**infos, "applied_action": kept, "_applied_action": used}
        return observations, rewards, terminations, truncations, infos
