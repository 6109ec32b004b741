"""Curricula: the strength of a disturbance as a function of how far training is."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from lipsrl.wrappers._vec import VecDisturbance, vec_layers
from lipsrl.wrappers.action_disturbance import ActionDisturbance
from lipsrl.wrappers.observation_disturbance import ObservationDisturbance


class StrengthScheduleCallback(BaseCallback):
    """Tell the disturbances around the training environments how far ``learn`` is, before every rollout.

    Their ``strength=`` is a callable of that progress, 0 at the start and 1 at ``total_timesteps``; it holds
    from the next episode on.

    Raises:
        ValueError: no wrapper of this library is around the training environments.

    Example:
        >>> import gymnasium as gym
        >>> from lipsrl.disturbances import GaussianNoise
        >>> from stable_baselines3 import PPO
        >>> env = gym.make("Pendulum-v1", max_episode_steps=8)
        >>> env = ObservationDisturbance(env, GaussianNoise(0.1), strength=lambda progress: 2 * progress)
        >>> model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu")
        >>> _ = model.learn(64, StrengthScheduleCallback())
        >>> float(env.streams.strengths[0])
        1.5
    """

    def _on_training_start(self) -> None:
        if not self._vec_wrappers() and not self._wrapped():
            raise ValueError(
                "StrengthScheduleCallback found no disturbance around the training environments. Wrap them in "
                "ObservationDisturbance, VecObservationDisturbance or one of their kind, with strength=schedule."
            )

    def _on_rollout_start(self) -> None:
        progress = min(1.0, self.num_timesteps / self.model._total_timesteps)
        for layer in self._vec_wrappers():
            layer.set_disturbance_progress(progress)
        if indices := self._wrapped():
            self.training_env.env_method("set_disturbance_progress", progress, indices=indices)

    def _on_step(self) -> bool:
        return True

    def _vec_wrappers(self) -> list[VecDisturbance]:
        return [layer for layer in vec_layers(self.training_env) if isinstance(layer, VecDisturbance)]

    def _wrapped(self) -> list[int]:
        kinds: tuple[type[Any], ...] = (ObservationDisturbance, ActionDisturbance)
        found = [self.training_env.env_is_wrapped(kind) for kind in kinds]
        return [index for index, wrapped in enumerate(zip(*found, strict=True)) if any(wrapped)]
