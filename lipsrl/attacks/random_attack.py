"""The weakest attack, and the yardstick of all others: any point of the ball, as likely as any other."""

from __future__ import annotations

from typing import Any

from lipsrl.attacks._base import Attack
from lipsrl.attacks._norms import FloatArray


class RandomAttack(Attack):
    """A point drawn uniformly from the ball around the true observation, anew at every step.

    The same seed gives the same draws, scaled, at every strength. Arguments and errors as in
    :class:`~lipsrl.attacks.Attack`.

    Example:
        >>> import numpy as np
        >>> from stable_baselines3 import PPO
        >>> attack = RandomAttack(PPO("MlpPolicy", "Pendulum-v1", device="cpu"), epsilon=0.1)
        >>> attack.reset(seed=0)
        >>> observation = np.zeros(3, dtype=np.float32)
        >>> bool((abs(attack(observation)) <= 0.1).all())
        True
    """

    name = "random"

    def noise_shape(self, dim: int) -> tuple[int, int]:
        return 1, dim + 2

    def displacements(
        self,
        observations: FloatArray,
        epsilon: FloatArray,
        noise: FloatArray,
        past: FloatArray,
        unmoved: FloatArray | None = None,
    ) -> FloatArray:
        return self.ball.project(epsilon * self.ball.uniform(noise[0]), epsilon)

    def refresh(self, model: Any) -> None:
        """Nothing to do: it does not look at the weights."""
