"""Gymnasium's vector environments with disturbed observations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import NormalizeObservation
from gymnasium.wrappers.vector import NormalizeObservation as VectorNormalizeObservation

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._channels import Channels, Values, put, rows
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._layers import refuse
from lipsrl.wrappers._streams import EpisodeStreams, recorded
from lipsrl.wrappers._strength import Strength
from lipsrl.wrappers._vector import VectorDisturbance, environments_of
from lipsrl.wrappers.observation_disturbance import ObservationDisturbance


class VectorObservationDisturbance(VectorDisturbance, RecordConstructorArgs):
    """Disturb every observation of a ``gymnasium.vector`` environment in raw sensor units.

    Bit for bit what a ``SyncVectorEnv`` of :class:`~lipsrl.wrappers.ObservationDisturbance` gives, in one array
    operation per step, in each autoreset mode. What the environments emitted is in
    ``infos["clean_observation"]``, ``(n, *shape)``; in mode SameStep the last observations of ended episodes,
    ``infos["final_obs"]``, are disturbed too, and the true ones are in ``infos["clean_final_obs"]``. Spaces and
    dtypes as in :class:`~lipsrl.wrappers.ObservationDisturbance`.

    Args:
        env: neither normalised nor disturbed already (environments in other processes are not looked into).
        disturbance, strength, keys: as for :class:`~lipsrl.wrappers.ObservationDisturbance`.
        seed: seed of the disturbance alone; environment ``i`` has ``seed + i``. Without it a seeded reset
            restarts the disturbance from the seeds of the environments.

    Raises:
        ValueError: as for :class:`~lipsrl.wrappers.ObservationDisturbance`.

    Example:
        >>> import gymnasium as gym
        >>> from lipsrl.disturbances import GaussianNoise
        >>> envs = VectorObservationDisturbance(gym.make_vec("Pendulum-v1", num_envs=2), GaussianNoise(0.1))
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape, bool((observations == infos["clean_observation"]).any())
        ((2, 3), False)
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None = None,
        strength: Strength = 1.0,
        keys: Sequence[str] | None = None,
    ) -> None:
        self.disturbance = fresh_disturbance(disturbance)
        RecordConstructorArgs.__init__(
            self, **recorded(self.disturbance, seed=seed, strength=strength, keys=keys)
        )
        VectorWrapper.__init__(self, env)
        refuse(VectorObservationDisturbance, env, VectorNormalizeObservation)
        for single in environments_of(env):
            refuse(ObservationDisturbance, single, NormalizeObservation)
        self._channels = Channels(env.single_observation_space, self.disturbance, keys)
        self.single_observation_space = self._channels.space
        self.observation_space = batch_space(self._channels.space, env.num_envs)
        self.streams = EpisodeStreams(self.disturbance, env.num_envs, seed, strength)
        self._ended = np.zeros(env.num_envs, dtype=np.bool_)
        self._shown: Values = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Values, dict[str, Any]]:
        """Reset the environments; returns (disturbed observations, infos).

        With ``options["reset_mask"]`` the environments that go on are shown what they were shown last; those that were
        never reset, what they hold.
        """
        observations, infos, reset = self._reset_env(seed, options)
        clean = copy.deepcopy(observations)
        if len(reset) == self.num_envs:
            shown = self._channels.disturb(clean, self.streams)
        else:
            shown = copy.deepcopy(clean if self._shown is None else self._shown)
            put(shown, reset, self._channels.disturb(rows(clean, reset), self.streams, reset))
        return self._returned(shown, clean, infos)

    def step(self, actions: Any) -> tuple[Values, Any, Any, Any, dict[str, Any]]:
        """Step the environments; observations are disturbed."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        done = np.logical_or(terminations, truncations)
        for index in np.flatnonzero(self._ended).tolist():  # NextStep: this step was their reset
            self.streams.begin(index)
        if self._autoreset == "SameStep":
            infos = self._end_episodes(np.flatnonzero(done).tolist(), infos)
        self._mark(done)
        clean = copy.deepcopy(observations)
        shown, infos = self._returned(self._channels.disturb(clean, self.streams), clean, infos)
        return shown, rewards, terminations, truncations, infos

    def _end_episodes(self, ended: list[int], infos: dict[str, Any]) -> dict[str, Any]:
        if not ended:
            return infos
        clean, disturbed = infos["final_obs"].copy(), infos["final_obs"].copy()
        for index in ended:
            clean[index] = copy.deepcopy(clean[index])
            disturbed[index] = self._channels.disturb_one(clean[index], self.streams, index)
            self.streams.begin(index)
        present = infos["_final_obs"]
        return {**infos, "final_obs": disturbed, "clean_final_obs": clean, "_clean_final_obs": present}

    def _returned(self, shown: Values, clean: Values, infos: dict[str, Any]) -> tuple[Values, dict[str, Any]]:
        self._shown = copy.deepcopy(shown)  # for the next partial reset, which every autoreset mode allows
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        return shown, {**infos, "clean_observation": clean, "_clean_observation": everyone}
