"""Gradient penalties: the slope of the policy at the observations that it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lipsrl._validation import lookup, non_negative
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch
from lipsrl.regularizers._families import deterministic
from lipsrl.regularizers._weights import Weight

KINDS = ("log_prob", "mean")


def squared_gradient(scalar: Tensor, leaves: Sequence[Tensor], units: Sequence[Tensor]) -> Tensor:
    """(n,) ``‖∂ scalar_i / ∂ (o_i / unit)‖₂²``, differentiable.

    Args:
        scalar: (n,) row i depends on row i of the leaves only.
        leaves: (n, …) each.
        units: of each leaf.
    """
    gradients = torch.autograd.grad(scalar.sum(), list(leaves), create_graph=True)
    squares = [
        (g * unit).reshape(len(g), -1).square().sum(dim=1) for g, unit in zip(gradients, units, strict=True)
    ]
    return torch.stack(squares).sum(dim=0)


def log_prob_penalty(mean: Tensor, std: Tensor, action: Tensor, leaves: Any, units: Any) -> Tensor:
    """``E‖∇_o log π(a|o)‖₂²`` at fixed actions.

    Chen et al. 2024, "Learning smooth humanoid locomotion through Lipschitz-constrained policies" (LCP, 2410.11825).

    Args:
        mean, std: (n, act) of the Gaussian, before any squashing, which adds nothing that depends on o.
        action: (n, act) likewise.
    """
    log_prob = -0.5 * ((action - mean) / std).square() - torch.log(std)
    return squared_gradient(log_prob.sum(dim=1), leaves, units).mean()


def jacobian_penalty(mean: Tensor, leaves: Any, units: Any, limit: float) -> Tensor:
    """``E[max(0, ‖∂μ/∂o‖_F - limit)²]``: WGAN-GP's penalty (Gulrajani et al. 2017), one-sided, on the mean action.

    Args:
        mean: (n, act).
        limit: the slope that costs nothing.
    """
    square = torch.stack([squared_gradient(one, leaves, units) for one in mean.unbind(dim=1)]).sum(dim=0)
    if limit == 0:
        return square.mean()
    return (torch.sqrt(square + 1e-12) - limit).clamp(min=0.0).square().mean()


@dataclass(frozen=True)
class GradientPenalty(Regularizer):
    """LCP's penalty on ``∇ log π`` (:func:`log_prob_penalty`), or one on the slope of the mean action
    (:func:`jacobian_penalty`).

    Starting weight: 0.002 for LCP. Activations that are not smooth (ReLU) have no curvature to learn from, but their
    slopes are lowered all the same.

    Args:
        penalty: its weight.
        kind: ``"log_prob"`` or ``"mean"``. TD3 and DDPG have no ``log π``.
        limit: with ``"mean"``: the slope (action per observation, in ``units``) that costs nothing.

    Raises:
        ValueError: the weight or the limit is negative or no number, the kind is unknown, or it does not fit the
            algorithm.
    """

    penalty: Weight = 0.002
    kind: str = "log_prob"
    limit: float = 0.0

    name: ClassVar[str] = "gradient_penalty"
    actor_terms: ClassVar[tuple[str, ...]] = ("penalty",)

    def __post_init__(self) -> None:
        super().__post_init__()
        lookup("GradientPenalty: kind", self.kind, dict.fromkeys(KINDS))
        non_negative("GradientPenalty: limit", self.limit)
        if self.limit and self.kind != "mean":
            raise ValueError('GradientPenalty: limit is of the slope of the mean action: kind="mean".')

    def check(self, model: Any) -> None:
        if self.kind == "log_prob" and deterministic(model):
            raise ValueError(
                f'{type(model).__name__} has no distribution of actions, so GradientPenalty needs kind="mean" there.'
            )

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        observations, leaves, units = batch.units().leaves(batch.observations)
        if self.kind == "mean":
            mean = batch.networks.mean(observations) * batch.action_unit
            return {"penalty": jacobian_penalty(mean, leaves, units, self.limit)}
        mean, std = batch.networks.gaussian(observations)
        action = batch.actions
        if not batch.networks.knows_actions:
            action = (mean + std * batch.gaussian_noise(mean)).detach()
        return {"penalty": log_prob_penalty(mean, std, action, leaves, units)}
