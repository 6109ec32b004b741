"""SB3's vectorised environments with disturbed observations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._channels import Channels, Values, rows
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._strength import Strength
from lipsrl.wrappers._vec import VecDisturbance, refuse_second, vec_layers
from lipsrl.wrappers.observation_disturbance import ObservationDisturbance


class VecObservationDisturbance(VecDisturbance):
    """Disturb every observation of ``venv`` in raw sensor units, one independent stream per environment.

    Bit for bit what a ``DummyVecEnv`` of :class:`~lipsrl.wrappers.ObservationDisturbance` gives, in one array
    operation per step. Normalisation goes outside: ``VecNormalize(VecObservationDisturbance(venv, …))``.

    Where an episode ends, ``infos[i]["terminal_observation"]`` is disturbed as the last observation of the
    old episode; the returned row is the first one of the new episode. True values are in the info too:
    ``infos[i]["clean_observation"]`` of the returned row, ``infos[i]["clean_terminal_observation"]`` of the
    terminal one, and after ``reset`` ``reset_infos[i]["clean_observation"]``.

    Floating-point observations: the space becomes the whole real line in every dimension, because noise leaves
    any bounds; the dtype stays. Integer observations (images): disturbed in float64, rounded to the nearest
    integer and clipped to the space, which stays.

    SB3's ``EvalCallback`` asks for the same wrappers around both environments when one is a ``VecNormalize``:
    wrap the clean one with ``strength=0``, the identity.

    Args:
        venv: observations in a Box of any shape, or a Dict; neither normalised nor disturbed already.
        disturbance: a :class:`~lipsrl.disturbances.Disturbance`, or its ``to_dict()``. The wrapper takes
            fresh streams: the one given is never advanced.
        seed: seed of the disturbance alone, >= 0; environment ``i`` has ``seed + i``. A reset after
            ``venv.seed(s)`` restarts the disturbance: from ``seed`` if it was given, otherwise from the seed
            of each environment (``s + i``). An unseeded reset starts episodes and goes on with the draws.
        strength, keys: as for :class:`~lipsrl.wrappers.ObservationDisturbance`.

    Raises:
        ValueError: another observation space, a disturbance of another length, a bad seed or strength, a
            ``VecNormalize`` or another disturbance of observations anywhere below.

    Example:
        >>> import gymnasium as gym
        >>> from lipsrl.disturbances import GaussianNoise
        >>> from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
        >>> venv = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2)
        >>> venv = VecNormalize(VecObservationDisturbance(venv, GaussianNoise(0.1), seed=0))
        >>> venv.reset().shape
        (2, 3)
    """

    def __init__(
        self,
        venv: VecEnv,
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None = None,
        strength: Strength = 1.0,
        keys: Sequence[str] | None = None,
    ) -> None:
        _refuse_normalised(venv)
        refuse_second(venv, VecObservationDisturbance, ObservationDisturbance)
        self._channels = Channels(venv.observation_space, fresh_disturbance(disturbance), keys)
        super().__init__(venv, disturbance, seed, strength, observation_space=self._channels.space)

    def reset(self) -> Values:
        """Reset all environments, start an episode of every stream; returns ``(n_envs, dim)``, disturbed."""
        clean = copy.deepcopy(self._reset_venv())
        self.reset_infos = [
            {**info, "clean_observation": rows(clean, index)}
            for index, info in enumerate(self.unwrapped.reset_infos)
        ]
        return self._channels.disturb(clean, self.streams)

    def step_wait(self) -> VecEnvStepReturn:
        """``(observations, rewards, dones, infos)``, observations disturbed."""
        observations, rewards, dones, infos = self.venv.step_wait()
        clean = copy.deepcopy(observations)
        for index in np.flatnonzero(dones).tolist():
            self._end_episode(index, infos[index], rows(clean, index))
        for index, info in enumerate(infos):
            info["clean_observation"] = rows(clean, index)
        return self._channels.disturb(clean, self.streams), rewards, dones, infos

    def _end_episode(self, index: int, info: dict[str, Any], first: Values) -> None:
        if "terminal_observation" in info:
            terminal = _like(info["terminal_observation"], first)
            info["clean_terminal_observation"] = terminal
            info["terminal_observation"] = self._channels.disturb_one(terminal, self.streams, index)
        self.streams.begin(index)
        self.reset_infos[index] = {**self.unwrapped.reset_infos[index], "clean_observation": first}


def _like(terminal: Values, first: Values) -> Values:
    # SB3 leaves the terminal observation in the environment's dtype, all others are in the space's
    if isinstance(first, dict):
        return {key: np.array(terminal[key], dtype=value.dtype) for key, value in first.items()}
    return np.array(terminal, dtype=first.dtype)


def _refuse_normalised(venv: VecEnv) -> None:
    if any(isinstance(layer, VecNormalize) for layer in vec_layers(venv)):
        raise ValueError(
            "VecObservationDisturbance acts in raw sensor units, but there is a VecNormalize below it. "
            "Put the disturbance inside: VecNormalize(VecObservationDisturbance(venv, disturbance))."
        )
    if any(venv.env_is_wrapped(NormalizeObservation)):
        raise ValueError(
            "VecObservationDisturbance acts in raw sensor units, but the environments are wrapped in "
            "NormalizeObservation. Put the disturbance inside, or normalise outside."
        )
