"""PAVE: a critic whose gradient by the action is steady."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lipsrl._validation import positive_finite
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, masked_mean
from lipsrl.regularizers._families import on_policy
from lipsrl.regularizers._observations import Observations
from lipsrl.regularizers._weights import Weight

#: Piecewise linear: their second derivative is zero wherever there is one.
_FLAT = (nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.ReLU6, nn.PReLU)


def mixed_loss(here: Tensor, displaced: Tensor) -> Tensor:
    """``E[(∇_a Q(o, a) - ∇_a Q(o + ν, a))²]``, mean over the actions: the mixed derivative ∇²_oa Q along noise.

    "Stabilizing the Q-gradient field for policy smoothness in actor-critic methods" (PAVE, 2601.22970), mixed-partial
    regularisation.
    """
    return (here - displaced).square().mean()


def field_loss(here: Tensor, following: Tensor, mask: Tensor) -> Tensor:
    """``E[(∇_a Q(o_t, a) - ∇_a Q(o_{t+1}, a))²]``: PAVE's vector-field consistency along the trajectory."""
    return masked_mean((here - following).square().mean(dim=1), mask)


def curvature_loss(quadratic: Tensor, margin: float) -> Tensor:
    """``E[max(0, vᵀ∇²_aa Q v + margin)]``, v of ±1: PAVE's preserved curvature, so that the best action is distinct.

    Args:
        quadratic: (n,) ``vᵀ∇²_aa Q v``, an estimate of the trace of the Hessian.
    """
    return torch.relu(quadratic + margin).mean()


@dataclass(frozen=True)
class PAVE(Regularizer):
    """Policy-aware value-field equalisation (2601.22970): on the critics alone, at the buffer's actions.

    Needs critics with second derivatives: ``policy_kwargs=dict(activation_fn=torch.nn.SiLU)``. Start: (0.1, 0.1, 0.01),
    sigma 0.01.

    Args:
        mixed: weight of :func:`mixed_loss`.
        field: weight of :func:`field_loss`.
        curvature: weight of :func:`curvature_loss`.
        sigma: standard deviation of the displaced observations, in ``units``.
        margin: δ of the curvature.

    Raises:
        ValueError: a weight is negative or no number; sigma or the margin is not > 0; the critic knows no actions (PPO,
            A2C) or is piecewise linear.
    """

    mixed: Weight = 0.1
    field: Weight = 0.1
    curvature: Weight = 0.01
    sigma: float = 0.01
    margin: float = 1.0

    name: ClassVar[str] = "pave"
    critic_terms: ClassVar[tuple[str, ...]] = ("mixed", "field", "curvature")
    needs: ClassVar[frozenset[str]] = frozenset({"next"})

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_finite("PAVE: sigma", self.sigma)
        positive_finite("PAVE: margin", self.margin)

    def check(self, model: Any) -> None:
        if on_policy(model):
            raise ValueError(
                f"{type(model).__name__}'s critic knows no actions, and PAVE regularises ∇_a Q(o, a). Use it with SAC, "
                "TD3, DDPG or TQC."
            )
        named = model.critic.named_modules()
        flat = next(
            (m for name, m in named if isinstance(m, _FLAT) and "features_extractor" not in name), None
        )
        if flat is not None and self.curvature != 0:
            raise ValueError(
                f"PAVE's curvature needs critics with second derivatives, and {type(flat).__name__} is piecewise "
                "linear. Use policy_kwargs=dict(activation_fn=torch.nn.SiLU), or curvature=0."
            )

    def critic_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        actions = batch.actions.detach().clone().requires_grad_(True)

        def fields(observations: Observations) -> list[Tensor]:
            values = batch.networks.values(observations, actions)
            return [torch.autograd.grad(v.sum(), actions, create_graph=True)[0] for v in values]

        here = fields(batch.observations)
        losses: dict[str, list[Tensor]] = {}
        if "mixed" in terms:
            noisy = batch.units().displace(
                batch.observations, lambda real: self.sigma * batch.gaussian_noise(real)
            )
            losses["mixed"] = [mixed_loss(a, b) for a, b in zip(here, fields(noisy), strict=True)]
        if "field" in terms:
            later = fields(batch.successor().observations)
            mask = batch.successor().mask
            losses["field"] = [field_loss(a, b, mask) for a, b in zip(here, later, strict=True)]
        if "curvature" in terms:
            v = torch.where(batch.uniform_noise(actions) < 0, -1.0, 1.0)
            bent = [torch.autograd.grad((g * v).sum(), actions, create_graph=True)[0] for g in here]
            losses["curvature"] = [curvature_loss((h * v).sum(dim=1), self.margin) for h in bent]
        return {term: torch.stack(parts).sum() for term, parts in losses.items()}
