"""Maximal action difference (MAD): the observation that changes the policy's action most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lipsrl._validation import lookup
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.actors.view import Units
from lipsrl.attacks._actor import actor_of
from lipsrl.attacks._gradient_attack import GradientAttack, Objective
from lipsrl.attacks._target import Target


class MADAttack(GradientAttack):
    """Moves the action distribution as far as it can, ŝ in the ball around s.

    Zhang et al. 2020, "Robust deep reinforcement learning against adversarial perturbations on state observations"
    (arXiv:2003.08938). What is raised:

    ========================  ==============================================================================
    Gaussian policies         ``Σ ((μ(ŝ) - μ(s)) / σ)²`` over the action, twice the KL divergence of the
                              attacked policy from the clean one; μ is the deterministic action before the clip,
                              σ the policy's standard deviation at s
    squashed (SAC, TD3, TQC)  the same with μ after the tanh and σ = 1: their Gaussian lives before it, where a
                              saturated action can move far and change nothing
    discrete, with logits     KL(π(·|s) ‖ π(·|ŝ)), summed over the components of a MultiDiscrete action
    DQN, QR-DQN               the margin ``max_{a≠a*} Q(ŝ, a) - Q(ŝ, a*)``, a* the greedy action at s; once it is
                              positive, the action is another
    ========================  ==============================================================================

    White box, but greedy: it does not look ahead, so it is a lower bound of the harm that is possible.

    Behind a frame stack s is the window as it would be had nothing been displaced in the episode, so that what was
    shown before goes on counting. Measured from the window as it was shown, each step begins with the harm forgotten:
    a student of 8 frames on Pendulum lost 90 points at ε = .2, and 497 measured from the clean window.

    Args:
        model, epsilon, norm, vec_normalize, units, frame_stack: as in :class:`~lipsrl.attacks.Attack`; the model's
            actor must be a plain feed-forward network.
        steps, step_size, restarts: as in :class:`~lipsrl.attacks.GradientAttack`.
        reference: behind a frame stack, s is ``"clean"`` in all its frames, or in the newest one only, the others as
            ``"shown"``.

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

    def __init__(
        self,
        model: Any,
        epsilon: float,
        norm: str = "linf",
        vec_normalize: NormalizeLike = None,
        units: Units = "normalized",
        *,
        steps: int = 10,
        step_size: float | None = None,
        restarts: int = 1,
        frame_stack: int | None = None,
        reference: str = "clean",
    ) -> None:
        self.reference = lookup("reference", reference, {name: name for name in ("clean", "shown")})
        super().__init__(
            model, epsilon, norm, vec_normalize, units, steps=steps, step_size=step_size, restarts=restarts,
            frame_stack=frame_stack,
        )  # fmt: skip

    @property
    def parameters(self) -> dict[str, Any]:
        # always named: episodes that were stored when the other one was the default must not pass for today's
        return {**super().parameters, "reference": self.reference}

    def objective(self, clean: Tensor) -> Objective:
        actor = self._actor
        mean = actor.mean(clean)
        if actor.choices is None:
            deviation = actor.deviation(clean)
            return lambda seen: (((actor.mean(seen) - mean) / deviation) ** 2).sum(dim=1)
        if actor.logits:
            sizes = list(actor.choices)
            return lambda seen: _divergence(mean, actor.mean(seen), sizes)
        greedy = torch.nn.functional.one_hot(mean.argmax(dim=1), mean.shape[1]).bool()
        return lambda seen: _margin(actor.mean(seen), greedy)

    def _aim(self, model: Any, target: Target) -> None:
        super()._aim(model, target)
        self._actor = actor_of(model)

    def refresh(self, model: Any) -> None:
        # in place: scaled copies, and the batches that are made of them, share the object
        now = actor_of(model)
        self._actor.network.load_state_dict(now.network.state_dict())
        if self._actor.std is not None and now.std is not None:
            self._actor.std.copy_(now.std)


def _divergence(clean: Tensor, seen: Tensor, sizes: list[int]) -> Tensor:
    """(n,) Σ KL(softmax(clean) ‖ softmax(seen)) over components of these sizes; both (n, Σ sizes)."""
    total = clean.new_zeros(len(clean))
    for p, q in zip(torch.split(clean, sizes, dim=1), torch.split(seen, sizes, dim=1), strict=True):
        log_p, log_q = torch.log_softmax(p, dim=1), torch.log_softmax(q, dim=1)
        total = total + (log_p.exp() * (log_p - log_q)).sum(dim=1)
    return total


def _margin(values: Tensor, greedy: Tensor) -> Tensor:
    """(n,) the best of the other actions minus the one that ``greedy`` (n, act) marks."""
    return values.masked_fill(greedy, -torch.inf).amax(dim=1) - values[greedy]
