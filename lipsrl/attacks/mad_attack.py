"""Maximal action difference: the observation at which the policy acts least as it should."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lipsrl.attacks._actor import Actor
from lipsrl.attacks._gradient_attack import GradientAttack, Objective
from lipsrl.policies.normalization import NormalizeLike


class MADAttack(GradientAttack):
    """Raises ``Σ ((μ(ŝ) - μ(s)) / σ)²`` over the action, ŝ in the ball around s.

    Zhang et al. 2020, "Robust deep reinforcement learning against adversarial perturbations on state observations"
    (arXiv:2003.08938): for a Gaussian policy this is twice the KL divergence of the attacked policy
    from the clean one. μ is the deterministic action before the clip and σ the policy's standard deviation at s.
    For squashed policies (SAC, TD3) μ is taken after the tanh and σ = 1: their Gaussian lives before it, where a
    saturated action can move far and change nothing.

    White box, but greedy: it does not look ahead, so it is a lower bound of the harm that is possible.

    Args:
        model, epsilon, norm, vec_normalize, units: as in :class:`~lipsrl.attacks.Attack`; the model's actor must
            be a plain feed-forward network with continuous actions.
        steps: as in :class:`~lipsrl.attacks.GradientAttack`.

    Example:
        >>> import numpy as np
        >>> from stable_baselines3 import PPO
        >>> model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
        >>> attack = MADAttack(model, epsilon=0.1, norm="l2")
        >>> attack.reset(seed=0)
        >>> observation = np.array([1.0, 0.0, 0.5], dtype=np.float32)
        >>> round(float(np.linalg.norm(attack(observation) - observation)), 3)
        0.1
    """

    name = "mad"

    def objective(self, clean: Tensor) -> Objective:
        actor = self._actor
        mean, deviation = actor.mean(clean), actor.deviation(clean)
        return lambda seen: (((actor.mean(seen) - mean) / deviation) ** 2).sum(dim=1)

    def _aim(self, model: Any, vec_normalize: NormalizeLike) -> None:
        super()._aim(model, vec_normalize)
        self._actor = Actor.of(model)
