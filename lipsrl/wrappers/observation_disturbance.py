"""A Gymnasium environment seen through a disturbed sensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import NormalizeObservation

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._checks import disturbed_space, fresh_disturbance, own_seed, restart_seed

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


class ObservationDisturbance(
    gym.Wrapper[Any, Any, Any, Any],
    RecordConstructorArgs,
):
    """Disturb every observation of ``env``, the one of ``reset`` included, in raw sensor units.

    The environment does not notice: its generator, its start states and its trajectory for given actions are
    the same with and without the wrapper. What it really emitted is in ``info["clean_observation"]``.

    The observation space becomes the whole real line in every dimension, because noise leaves any bounds. The
    dtype stays.

    Args:
        env: observations in a one-dimensional floating-point Box, neither normalised nor disturbed already.
        disturbance: a :class:`~lipsrl.disturbances.Disturbance`, or its ``to_dict()``. The wrapper takes a
            fresh copy: the one given is never advanced.
        seed: seed of the disturbance alone, >= 0. A seeded reset restarts the disturbance: from ``seed`` if
            it was given (the same noise whatever the environment's seed), otherwise from the seed of the
            reset. An unseeded reset starts an episode and goes on with the draws.

    Raises:
        ValueError: another observation space, a disturbance of another length, a bad seed, an environment
            that normalises or disturbs its observations below this wrapper.

    Example:
        >>> import gymnasium as gym
        >>> from lipsrl.disturbances import GaussianNoise
        >>> env = ObservationDisturbance(gym.make("Pendulum-v1"), GaussianNoise([0.01, 0.01, 0.1]))
        >>> observation, info = env.reset(seed=0)
        >>> (observation == info["clean_observation"]).tolist()
        [False, False, False]
        >>> rebuilt = gym.make(env.spec)
        >>> (rebuilt.reset(seed=0)[0] == observation).tolist()
        [True, True, True]
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None = None,
    ) -> None:
        fresh = fresh_disturbance(disturbance)
        # as a dictionary the constructor's arguments survive EnvSpec.to_json
        RecordConstructorArgs.__init__(self, disturbance=fresh.to_dict(), seed=seed)
        gym.Wrapper.__init__(self, env)
        _refuse_below(env)
        self.observation_space = disturbed_space(env.observation_space, fresh)
        self.disturbance = fresh
        self._seed = own_seed(seed)
        fresh.reset(self._seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Reset the environment, start an episode of disturbance; returns (disturbed observation, info)."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.disturbance.reset(restart_seed(self._seed, seed))
        return self._disturb(observation, info)

    def step(self, action: Any) -> tuple[FloatArray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment; returns (disturbed observation, reward, terminated, truncated, info)."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._disturb(observation, info)
        return observation, reward, terminated, truncated, info

    def _disturb(self, observation: FloatArray, info: dict[str, Any]) -> tuple[FloatArray, dict[str, Any]]:
        # the copy: an environment may go on writing into the array that it returned
        return self.disturbance(observation), {**info, "clean_observation": np.array(observation)}


def _refuse_below(env: gym.Env[Any, Any]) -> None:
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, NormalizeObservation):
            raise ValueError(
                "ObservationDisturbance acts in raw sensor units, but there is a NormalizeObservation below. "
                "Put the disturbance inside: "
                "NormalizeObservation(ObservationDisturbance(env, disturbance))."
            )
        if isinstance(layer, ObservationDisturbance):
            # both would restart from the same seed of reset and add the same draws
            raise ValueError(
                f"The environment is disturbed already, by {layer.disturbance!r}. Use one wrapper with one "
                "disturbance that says it all."
            )
        layer = layer.env
