"""Critic attack: the observation to which the model's own critic gives the lowest value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lipsrl.attacks._actor import actor_of
from lipsrl.attacks._critic import ActionValue, StateValue, critic_of
from lipsrl.attacks._gradient_attack import GradientAttack, Objective
from lipsrl.attacks._target import Target


class CriticAttack(GradientAttack):
    """Lowers what the model's own critic expects, ŝ in the ball around s.

    ========================  ==============================================================================
    PPO, A2C, TRPO            V(ŝ): the state that the critic thinks worst of
    SAC, TD3, DDPG, TQC       Q(s, μ(ŝ)), the mean over critics and quantiles: the worst of the actions that
                              the actor can be led to
    DQN, QR-DQN               Σ_a p(a|ŝ)·Q(s, a) with p the softmax of Q(ŝ, ·)/τ and τ a tenth of the range of
                              Q(s, ·): a differentiable stand-in for Q(s, argmax Q(ŝ, ·))
    ========================  ==============================================================================

    Pattanaik et al. 2018, "Robust deep reinforcement learning with adversarial attacks" (arXiv:1712.03632), with the
    ten sign steps of ε/10 of Zhang et al. 2020 (arXiv:2003.08938). A state of low value need not be one in which
    the actor errs, so on V it is often the weakest of the attacks that use gradients.

    Args:
        model, epsilon, norm, vec_normalize, units, frame_stack: as in :class:`~lipsrl.attacks.Attack`; the critic (and,
            for Q, the actor) must be a plain feed-forward network.
        steps, step_size, restarts: as in :class:`~lipsrl.attacks.GradientAttack`.

    Example:
        >>> import numpy as np
        >>> from stable_baselines3 import PPO
        >>> attack = CriticAttack(PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu"), epsilon=0.1)
        >>> attack.reset(seed=0)
        >>> observation = np.array([1.0, 0.0, 0.5], dtype=np.float32)
        >>> bool((abs(attack(observation) - observation) <= 0.1).all())
        True
    """

    name = "critic"

    def objective(self, clean: Tensor) -> Objective:
        actor, critic = self._actor, self._critic
        if isinstance(critic, StateValue):
            return lambda seen: -critic(seen)
        assert actor is not None
        if isinstance(critic, ActionValue):
            return lambda seen: -critic(clean, actor.mean(seen))
        q = actor.mean(clean)
        # a tenth: sharp enough for the softmax to choose as the argmax does, and the size of a gradient is no matter
        tau = 0.1 * (q.amax(dim=1, keepdim=True) - q.amin(dim=1, keepdim=True)).clamp(min=1e-12)
        return lambda seen: -(torch.softmax(actor.mean(seen) / tau, dim=1) * q).sum(dim=1)

    def _aim(self, model: Any, target: Target) -> None:
        super()._aim(model, target)
        self._critic = critic_of(model)
        self._actor = None if isinstance(self._critic, StateValue) else actor_of(model)
