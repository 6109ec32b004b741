"""SR²L and SA: the largest change of the policy in a ball around the observation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch
from lipsrl.regularizers._families import deterministic
from lipsrl.regularizers._observations import Observations
from lipsrl.regularizers._weights import Weight

DIVERGENCES, SOLVERS, NORMS = ("l2", "kl"), ("pgd", "sgld"), ("linf", "l2")


def mean_divergence(one: Tensor, other: Tensor) -> Tensor:
    """(n,) ``‖μ(o) - μ(ô)‖₂²``."""
    return (one - other).square().sum(dim=1)


def gaussian_divergence(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """(n,) ``KL(N(μ, σ²) ‖ N(μ̂, σ̂²))``; the same before and after tanh."""
    ratio = (std / other_std).square()
    moved = ((mean - other_mean) / other_std).square()
    return 0.5 * (ratio + moved - 1 - torch.log(ratio)).sum(dim=1)


def project(displacement: Tensor, radius: float, norm: str) -> Tensor:
    """(n, …) into the ball."""
    if norm == "linf":
        return displacement.clamp(-radius, radius)
    length = torch.linalg.vector_norm(displacement.reshape(len(displacement), -1), dim=1)
    scale: Tensor = (radius / length.clamp(min=1e-12)).clamp(max=1.0)
    return displacement * scale.reshape(-1, *[1] * (displacement.ndim - 1))


def _direction(gradient: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    length: Tensor = torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1).clamp(min=1e-12)
    return gradient / length.reshape(-1, *[1] * (gradient.ndim - 1))


def worst_displacement(
    divergence: Callable[[list[Tensor]], Tensor],
    start: list[Tensor],
    *,
    radius: float,
    norm: str,
    steps: int,
    noise: Callable[[Tensor], Tensor] | None,
) -> list[Tensor]:
    """Displacements that make ``divergence`` (n,) large, by gradient ascent in the ball.

    With ``noise`` it is stochastic gradient Langevin dynamics whose noise shrinks (SA's solver), else projected
    gradient ascent. Each entry of a Dict has a ball of its own.

    Args:
        divergence: of the displacements.
        start: inside the ball, not zero: the gradient vanishes there.
        steps: each of ``2.5 · radius / steps`` (Madry et al. 2018), so that the far side of the ball can be reached.
        noise: standard normal numbers.
    """
    found = [one.detach() for one in start]
    size = 2.5 * radius / steps
    for step in range(steps):
        leaves = [one.requires_grad_(True) for one in found]
        gradients = torch.autograd.grad(divergence(leaves).sum(), leaves)
        moved = []
        for one, gradient in zip(leaves, gradients, strict=True):
            towards = size * _direction(gradient, norm)
            if noise is not None:
                towards = towards + math.sqrt(2 * size) * 1e-2 / (step + 2) * noise(one)
            moved.append(project((one + towards).detach(), radius, norm))
        found = moved
    return found


@dataclass(frozen=True)
class SmoothPolicy(Regularizer):
    """The policy's largest change in a ball, lowered: SR²L and SA.

    ``E[max_{ô ∈ B(o, ε)} D(π(o), π(ô))]``: Shen et al. 2020, "Deep reinforcement learning with robust and smooth
    policy" (SR²L, 2003.09534), with PGD; Zhang et al. 2020, "Robust deep reinforcement learning against adversarial
    perturbations on state observations" (SA, 2003.08938), with SGLD and D = KL. The maximum is approached from below:
    it is a loss, no bound.

    Args:
        worst: its weight.
        epsilon: radius ε of the ball, in ``units`` of the observation.
        divergence: ``"l2"``: ‖μ(o) - μ(ô)‖₂² in ``units``; ``"kl"``: of the distributions of actions.
        solver: ``"pgd"`` or ``"sgld"``.
        norm: of the ball, ``"linf"`` or ``"l2"``.
        steps: of the solver.

    Raises:
        ValueError: an argument is out of range or unknown, or there is no distribution to compare (TD3, DDPG).
    """

    worst: Weight = 0.1
    epsilon: float = 0.05
    divergence: str = "l2"
    solver: str = "pgd"
    norm: str = "linf"
    steps: int = 5

    name: ClassVar[str] = "smooth_policy"
    actor_terms: ClassVar[tuple[str, ...]] = ("worst",)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_finite("SmoothPolicy: epsilon", self.epsilon)
        positive_int("SmoothPolicy: steps", self.steps)
        for argument, accepted in (("divergence", DIVERGENCES), ("solver", SOLVERS), ("norm", NORMS)):
            lookup(f"SmoothPolicy: {argument}", getattr(self, argument), dict.fromkeys(accepted))

    def check(self, model: Any) -> None:
        if self.divergence == "kl" and deterministic(model):
            raise ValueError(
                f'{type(model).__name__} has no distribution of actions, so SmoothPolicy needs divergence="l2" there.'
            )

    def _compared(self, batch: Batch) -> Callable[[Observations, bool], Tensor]:
        networks = batch.networks
        if self.divergence == "kl":
            mean, std = networks.gaussian(batch.observations)

            def kl(observations: Observations, fixed: bool) -> Tensor:
                here = (mean.detach(), std.detach()) if fixed else (mean, std)
                return gaussian_divergence(*here, *networks.gaussian(observations))

            return kl

        def l2(observations: Observations, fixed: bool) -> Tensor:
            here = batch.mean.detach() if fixed else batch.mean
            return mean_divergence(here, networks.mean(observations) * batch.action_unit)

        return l2

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        compared, units = self._compared(batch), batch.units()
        _, leaves, _ = units.leaves(batch.observations)
        start = [self.epsilon * batch.uniform_noise(leaf) for leaf in leaves]
        if self.norm == "l2":
            start = [project(one, self.epsilon, self.norm) for one in start]

        def displaced(displacements: list[Tensor]) -> Observations:
            waiting = iter(displacements)
            return units.displace(batch.observations, lambda _: next(waiting))

        worst = worst_displacement(
            lambda found: compared(displaced(found), True),
            start,
            radius=self.epsilon,
            norm=self.norm,
            steps=self.steps,
            noise=batch.gaussian_noise if self.solver == "sgld" else None,
        )
        return {"worst": compared(displaced(worst), False).mean()}
