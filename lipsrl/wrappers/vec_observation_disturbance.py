"""SB3's vectorised environments seen through disturbed sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._checks import disturbed_space, fresh_disturbance, own_seed, restart_seed
from lipsrl.wrappers.observation_disturbance import ObservationDisturbance

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


class VecObservationDisturbance(VecEnvWrapper):
    """Disturb every observation of ``venv`` in raw sensor units, one independent stream per environment.

    Bit for bit what a ``DummyVecEnv`` of :class:`~lipsrl.wrappers.ObservationDisturbance` gives, in one array
    operation per step. Normalisation goes outside: ``VecNormalize(VecObservationDisturbance(venv, …))``.

    Where an episode ends, ``infos[i]["terminal_observation"]`` is disturbed as the last observation of the
    old episode; the returned row is the first one of the new episode. True values are in the info too:
    ``infos[i]["clean_observation"]`` of the returned row, ``infos[i]["clean_terminal_observation"]`` of the
    terminal one, and after ``reset`` ``reset_infos[i]["clean_observation"]``.

    The observation space becomes the whole real line in every dimension, because noise leaves any bounds. The
    dtype stays.

    SB3's ``EvalCallback`` asks for the same wrappers around both environments when one is a ``VecNormalize``:
    wrap the clean one with ``disturbance.scaled(0.0)``, the identity.

    Args:
        venv: observations in a one-dimensional floating-point Box, neither normalised nor disturbed already.
        disturbance: a :class:`~lipsrl.disturbances.Disturbance`, or its ``to_dict()``. The wrapper takes
            fresh streams: the one given is never advanced.
        seed: seed of the disturbance alone, >= 0; environment ``i`` has ``seed + i``. A reset after
            ``venv.seed(s)`` restarts the disturbance: from ``seed`` if it was given, otherwise from the seed
            of each environment (``s + i``). An unseeded reset starts episodes and goes on with the draws.

    Raises:
        ValueError: another observation space, a disturbance of another length, a bad seed, a
            ``VecNormalize`` or another disturbance anywhere below.

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
        self, venv: VecEnv, disturbance: Disturbance | Mapping[str, Any], seed: int | None = None
    ) -> None:
        self.disturbance = fresh_disturbance(disturbance)
        seed = own_seed(seed)
        _refuse_below(venv)
        super().__init__(venv, observation_space=disturbed_space(venv.observation_space, self.disturbance))
        self._streams = self.disturbance.batch(self.num_envs)
        self._own_seeds: list[int | None] = [
            None if seed is None else seed + index for index in range(self.num_envs)
        ]
        self._restart(self._own_seeds)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed environments and disturbance for the next ``reset``; returns the seed of each environment."""
        self._seeds = list(self.venv.seed(seed))
        return self._seeds

    def reset(self) -> FloatArray:
        """Reset all environments, start an episode of every stream; returns ``(n_envs, dim)``, disturbed."""
        # seed() may have been called below this wrapper: make_vec_env(..., seed=0) does
        below = self.unwrapped._seeds
        seeds = [own if inner is None else inner for own, inner in zip(self._seeds, below, strict=True)]
        clean = np.array(self.venv.reset())
        self._reset_seeds()
        self._restart(list(map(restart_seed, self._own_seeds, seeds)))
        self.reset_infos = [
            {**info, "clean_observation": row}
            for info, row in zip(self.unwrapped.reset_infos, clean, strict=True)
        ]
        return self._streams(clean)

    def step_wait(self) -> VecEnvStepReturn:
        """``(observations, rewards, dones, infos)``, observations disturbed."""
        observations, rewards, dones, infos = self.venv.step_wait()
        clean = np.array(observations)
        for index in np.flatnonzero(dones):
            self._end_episode(int(index), infos[index], clean[index])
        for info, row in zip(infos, clean, strict=True):
            info["clean_observation"] = row
        return self._streams(clean), rewards, dones, infos

    def _end_episode(self, index: int, info: dict[str, Any], first: FloatArray) -> None:
        if "terminal_observation" in info:
            # SB3 leaves the terminal observation in the environment's dtype, all others are in the space's
            terminal = np.array(info["terminal_observation"], dtype=first.dtype)
            info["clean_terminal_observation"] = terminal
            info["terminal_observation"] = self._streams(terminal[np.newaxis], indices=[index])[0]
        self._streams.reset(index)
        self.reset_infos[index] = {**self.unwrapped.reset_infos[index], "clean_observation": first}

    def _restart(self, seeds: Sequence[int | None]) -> None:
        for index, seed in enumerate(seeds):
            self._streams.reset(index, seed)


def _refuse_below(venv: VecEnv) -> None:
    layer = venv
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize):
            raise ValueError(
                "VecObservationDisturbance acts in raw sensor units, but there is a VecNormalize below it. "
                "Put the disturbance inside: VecNormalize(VecObservationDisturbance(venv, disturbance))."
            )
        if isinstance(layer, VecObservationDisturbance):
            raise ValueError(
                f"The environments are disturbed already, by {layer.disturbance!r}. Use one wrapper with one "
                "disturbance that says it all."
            )
        layer = layer.venv
    for wrapper in (NormalizeObservation, ObservationDisturbance):
        if any(layer.env_is_wrapped(wrapper)):
            raise ValueError(
                f"VecObservationDisturbance acts on raw, undisturbed observations, but the environments are "
                f"wrapped in {wrapper.__name__}. Use one disturbance, inside any normalisation."
            )
