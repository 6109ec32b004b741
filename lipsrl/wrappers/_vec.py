"""What the wrappers around SB3's vectorised environments share: seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from lipsrl.disturbances import Disturbance
from lipsrl.wrappers._checks import fresh_disturbance
from lipsrl.wrappers._layers import already_disturbed
from lipsrl.wrappers._streams import EpisodeStreams
from lipsrl.wrappers._strength import Strength


class VecDisturbance(VecEnvWrapper):
    """One independent stream per environment, restarted from the seeds that the environments get."""

    def __init__(
        self,
        venv: VecEnv,
        disturbance: Disturbance | Mapping[str, Any],
        seed: int | None,
        strength: Strength,
        actuator: bool = False,
        observation_space: spaces.Space[Any] | None = None,
    ) -> None:
        self.disturbance = fresh_disturbance(disturbance)
        super().__init__(venv, observation_space=observation_space)
        self.streams = EpisodeStreams(self.disturbance, self.num_envs, seed, strength, actuator)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed environments and disturbance for the next ``reset``; returns the seed of each environment."""
        self._seeds = list(self.venv.seed(seed))
        return self._seeds

    def set_disturbance_progress(self, progress: float) -> None:
        """Tell a schedule of the strength how far training is, 0 … 1."""
        self.streams.progress = progress

    def _reset_venv(self) -> Any:
        """Reset the environments below and begin an episode in every stream; returns the observations."""
        # seed() may have been called below this wrapper: make_vec_env(..., seed=0) does
        inner = self.unwrapped._seeds
        seeds = [own if below is None else below for own, below in zip(self._seeds, inner, strict=True)]
        observations = self.venv.reset()
        self._reset_seeds()
        for index, seed in enumerate(seeds):
            self.streams.begin(index, seed)
        return observations


def vec_layers(venv: VecEnv) -> Iterator[VecEnv]:
    """``venv`` and all that it wraps, outermost first."""
    while isinstance(venv, VecEnvWrapper):
        yield venv
        venv = venv.venv
    yield venv


def refuse_second(
    venv: VecEnv, vec_class: type[VecDisturbance], env_class: type[gym.Wrapper[Any, Any, Any, Any]]
) -> None:
    """``ValueError`` if a disturbance of the same kind is in ``venv`` or in its environments."""
    for layer in vec_layers(venv):
        if isinstance(layer, vec_class):
            raise already_disturbed(layer.disturbance)
    if any(venv.env_is_wrapped(env_class)):
        raise ValueError(
            f"The environments are disturbed already: they are wrapped in {env_class.__name__}. Use one wrapper "
            "with one disturbance that combines them (Compose)."
        )
