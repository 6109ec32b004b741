"""A Gymnasium environment with disturbed observations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import NormalizeObservation

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._channels import Channels, Values
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._layers import refuse, tell_below
from lipsrl.wrappers._streams import EpisodeStreams, recorded
from lipsrl.wrappers._strength import Strength


class ObservationDisturbance(
    gym.Wrapper[Any, Any, Any, Any],
    RecordConstructorArgs,
):
    """Disturb every observation of ``env``, the one of ``reset`` included, in raw sensor units.

    The environment does not change: its random generator, its start states and its trajectory for given actions are
    the same with and without the wrapper. The true observation is in ``info["clean_observation"]``.

    Floating-point observations: the space becomes the whole real line in every dimension, because noise leaves
    any bounds; the dtype stays. Integer observations (images): disturbed in float64, rounded to the nearest
    integer and clipped to the space, which stays.

    Args:
        env: observations in a Box of any shape, or a Dict; neither normalised nor disturbed already. Values
            per dimension follow the flattened observation (C order).
        disturbance: a :class:`~lipsrl.disturbances.Disturbance`, or its ``to_dict()``. The wrapper takes a
            fresh copy: the one given is never advanced.
        seed: seed of the disturbance alone, >= 0. A seeded reset restarts the disturbance: from ``seed`` if
            it was given (the same noise whatever the environment's seed), otherwise from the seed of the
            reset. An unseeded reset starts an episode and continues the random stream.
        strength: multiplies the disturbance: a number; a range (low, high), drawn from uniformly for every
            episode; or a callable of the progress of training, 0 … 1, that gives one of them and is asked at
            the start of every episode (``StrengthScheduleCallback`` tells the progress). A callable keeps
            ``env.spec`` from being written as JSON.
        keys: for Dict observations: which entries are disturbed, as one vector in this order.

    Attributes:
        streams: ``streams.strengths`` are those of the current episodes.

    Raises:
        ValueError: another observation space, a disturbance of another length, a bad seed or strength, an
            environment that normalises or disturbs its observations below this wrapper.

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
        strength: Strength = 1.0,
        keys: Sequence[str] | None = None,
    ) -> None:
        fresh = fresh_disturbance(disturbance)
        RecordConstructorArgs.__init__(self, **recorded(fresh, seed=seed, strength=strength, keys=keys))
        gym.Wrapper.__init__(self, env)
        refuse(ObservationDisturbance, env, NormalizeObservation)
        self._channels = Channels(env.observation_space, fresh, keys)
        self.observation_space = self._channels.space
        self.disturbance = fresh
        self.streams = EpisodeStreams(fresh, 1, seed, strength)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Values, dict[str, Any]]:
        """Reset the environment, start an episode of disturbance; returns (disturbed observation, info)."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.streams.begin(0, seed)
        return self._disturb(observation, info)

    def step(self, action: Any) -> tuple[Values, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment; returns (disturbed observation, reward, terminated, truncated, info)."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._disturb(observation, info)
        return observation, reward, terminated, truncated, info

    def set_disturbance_progress(self, progress: float) -> None:
        """Tell a schedule of the strength how far training is, 0 … 1; further disturbances inside hear it too."""
        self.streams.progress = progress
        tell_below(self, progress)

    def _disturb(self, observation: Values, info: dict[str, Any]) -> tuple[Values, dict[str, Any]]:
        disturbed = self._channels.disturb_one(observation, self.streams)
        return disturbed, {**info, "clean_observation": copy.deepcopy(observation)}
