"""L2C2: similar actions and values between successive observations; the nearer, the more similar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lipsrl._validation import positive_finite
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, masked_mean
from lipsrl.regularizers._observations import Observations, map_observations
from lipsrl.regularizers._weights import Weight


def local_space(lower: float, upper: float, sigma: float) -> tuple[float, float]:
    """(ε, width): how far from o_t, in units of o_{t+1} - o_t, and how strict there.

    Kobayashi 2022, "L2C2: locally Lipschitz continuous constraint towards stable and smooth reinforcement learning"
    (2202.07152): ``ε = σ·λ_D / (λ_U - σ·λ_D)``, ``width = σ + (σ - 1)·ε``, so that the weight
    ``ε·λ_U / (‖u‖_∞ + ε)`` goes from λ_U at o_t itself to λ_D at the rim.
    """
    epsilon = sigma * lower / (upper - sigma * lower)
    return epsilon, sigma + (sigma - 1) * epsilon


def between(observations: Observations, following: Observations, u: Observations) -> Observations:
    """``o_t + (o_{t+1} - o_t) ⊙ u``; entries of integers stay o_t's."""

    def one(now: Tensor, after: Tensor, share: Tensor) -> Tensor:
        if not now.is_floating_point():
            return now
        return now + (after - now) * share

    return map_observations(one, observations, following, u)


def local_loss(
    one: Tensor, other: Tensor, radius: Tensor, mask: Tensor, epsilon: float, upper: float
) -> Tensor:
    """``E[ε·λ_U / (‖u‖_∞ + ε) · ‖f(õ) - f(o)‖₂]``.

    Args:
        one, other: (n, d) f(o_t) and f between o_t and o_{t+1}.
        radius: (n,) ‖u‖_∞.
        mask: (n,) 1 where o_{t+1} is of the same episode.
    """
    strict = epsilon * upper / (radius + epsilon)
    return masked_mean(strict * torch.linalg.vector_norm(other - one, dim=1), mask)


@dataclass(frozen=True)
class L2C2(Regularizer):
    """Locally Lipschitz continuous constraint (Kobayashi 2022): :func:`local_loss` on the mean action and on values.

    The original compares the distributions of actions (Hellinger distance); here it is the mean actions, in ``units``.
    Start: (λ_D, λ_U) = (0.1, 10); (0.01, 1) on Pendulum.

    Args:
        policy: weight of the loss on the mean action.
        value: weight of the loss on the values (V on-policy, each Q at the buffer's actions off-policy).
        lower, upper: λ_D < λ_U, how strict at the rim and at o_t itself.
        sigma: how far towards o_{t+1}.

    Raises:
        ValueError: a weight is negative or no number; not 0 < sigma·lower < upper.
    """

    policy: Weight = 1.0
    value: Weight = 0.1
    lower: float = 0.1
    upper: float = 10.0
    sigma: float = 1.0

    name: ClassVar[str] = "l2c2"
    actor_terms: ClassVar[tuple[str, ...]] = ("policy",)
    critic_terms: ClassVar[tuple[str, ...]] = ("value",)
    needs: ClassVar[frozenset[str]] = frozenset({"next"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("lower", "upper", "sigma"):
            positive_finite(f"L2C2: {argument}", getattr(self, argument))
        if self.sigma * self.lower >= self.upper:
            raise ValueError(
                f"L2C2: sigma * lower must be below upper, received {self.sigma!r} * {self.lower!r} and {self.upper!r}."
            )

    def _displaced(self, batch: Batch) -> tuple[Observations, Tensor, float]:
        epsilon, width = local_space(self.lower, self.upper, self.sigma)
        drawn = map_observations(lambda now: width * batch.uniform_noise(now.float()), batch.observations)
        each = [drawn] if isinstance(drawn, Tensor) else list(drawn.values())
        radius = torch.stack([u.reshape(len(u), -1).abs().amax(dim=1) for u in each]).amax(dim=0)
        return between(batch.observations, batch.successor().observations, drawn), radius, epsilon

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        displaced, radius, epsilon = self._displaced(batch)
        (other,) = batch.means(displaced)
        mask = batch.successor().mask
        return {"policy": local_loss(batch.mean, other, radius, mask, epsilon, self.upper)}

    def critic_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        displaced, radius, epsilon = self._displaced(batch)
        here = batch.networks.values(batch.observations, batch.actions)
        there = batch.networks.values(displaced, batch.actions)
        mask = batch.successor().mask
        losses = [
            local_loss(v, w, radius, mask, epsilon, self.upper) for v, w in zip(here, there, strict=True)
        ]
        return {"value": torch.stack(losses).sum()}
