"""SB3's vectorised environments with disturbed actions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._channels import Channels
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._strength import Strength
from lipsrl.wrappers._vec import VecDisturbance, refuse_second
from lipsrl.wrappers.action_disturbance import ActionDisturbance


class VecActionDisturbance(VecDisturbance):
    """Disturb every action on its way to ``venv``, one independent stream per environment.

    Bit for bit what a ``DummyVecEnv`` of :class:`~lipsrl.wrappers.ActionDisturbance` gives: what is changed is
    clipped to the action space, and ``infos[i]["applied_action"]`` is what environment ``i`` received.

    Args:
        venv: actions in a Box. Inside or outside of a ``VecNormalize``, which leaves actions alone.
        disturbance, seed, strength: as for :class:`~lipsrl.wrappers.VecObservationDisturbance`.

    Raises:
        ValueError: another action space, a disturbance of another length, a bad seed or strength, another
            disturbance of actions anywhere below.

    Example:
        >>> import gymnasium as gym
        >>> import numpy as np
        >>> from lipsrl.disturbances import Delay
        >>> from stable_baselines3.common.vec_env import DummyVecEnv
        >>> venv = VecActionDisturbance(DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2), Delay(1))
        >>> _ = venv.reset()
        >>> for torque in (0.5, 1.0):
        ...     infos = venv.step(np.full((2, 1), torque, np.float32))[-1]
        >>> [info["applied_action"].tolist() for info in infos]
        [[0.5], [0.5]]
    """

    def __init__(
        self,
        venv: VecEnv,
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None = None,
        strength: Strength = 1.0,
    ) -> None:
        refuse_second(venv, VecActionDisturbance, ActionDisturbance)
        self._channels = Channels(venv.action_space, fresh_disturbance(disturbance), clip=True)
        self._applied: Any = None
        super().__init__(venv, disturbance, seed, strength, actuator=True)

    def reset(self) -> VecEnvObs:
        """Reset all environments, start an episode of every stream."""
        observations: VecEnvObs = self._reset_venv()
        self.reset_infos = self.unwrapped.reset_infos
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Send the disturbed actions."""
        applied = self._channels.disturb(actions, self.streams)
        self._applied = copy.deepcopy(applied)
        self.venv.step_async(applied)

    def step_wait(self) -> VecEnvStepReturn:
        """``(observations, rewards, dones, infos)``."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info, applied in zip(infos, self._applied, strict=True):
            info["applied_action"] = applied
        for index in np.flatnonzero(dones).tolist():
            self.streams.begin(index)
        return observations, rewards, dones, infos
