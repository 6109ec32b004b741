"""Grad-CAPS: small second differences of the action, whatever its range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, masked_mean
from lipsrl.regularizers._weights import Weight

#: Keeps the weight finite where the action comes back to where it was.
_EPSILON = 1e-4


def second_difference(before: Tensor, now: Tensor, after: Tensor) -> Tensor:
    """(n, act) ``2·μ(o_t) - μ(o_{t-1}) - μ(o_{t+1})``: the change of the change of the action."""
    return 2 * now - before - after


def zigzag_loss(before: Tensor, now: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """``E[½·(Δa_t - Δa_{t+1})² · tanh(1/δ²)]``, δ = a_{t+1} - a_{t-1}, mean over the actions; δ is a constant.

    Lee et al. 2024, "Gradient-based regularization for action smoothness in robotic control with reinforcement
    learning" (2407.04315), with the displacement's weight as its authors' code has it: where the action goes somewhere
    (large δ) a change of pace is allowed, where it comes back it is not.

    Args:
        before, now, after: (n, act) μ(o_{t-1}), μ(o_t), μ(o_{t+1}).
        mask: (n,) 1 where all three are of one episode.
    """
    displacement = (after - before).detach() + _EPSILON
    weight = torch.tanh((1.0 / displacement) ** 2)
    bent = 0.5 * second_difference(before, now, after) ** 2
    return masked_mean((weight * bent).mean(dim=1), mask)


def three_means(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """μ(o_{t-1}), μ(o_t), μ(o_{t+1}), each (n, act), and (n,) 1 where all three are of one episode."""
    before, after = batch.predecessor(), batch.successor()
    earlier, later = batch.means(before.observations, after.observations)
    return earlier, batch.mean, later, before.mask * after.mask


@dataclass(frozen=True)
class GradCAPS(Regularizer):
    """Gradient-based CAPS (Lee et al. 2024): :func:`zigzag_loss`.

    Starting weight: 0.1 for PPO, 1 for SAC.

    Args:
        temporal: its weight.

    Raises:
        ValueError: the weight is negative or no number.
    """

    temporal: Weight = 0.1

    name: ClassVar[str] = "grad_caps"
    actor_terms: ClassVar[tuple[str, ...]] = ("temporal",)
    needs: ClassVar[frozenset[str]] = frozenset({"next", "previous"})

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        return {"temporal": zigzag_loss(*three_means(batch))}
