"""Action rate: the second differences of the action, squared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, masked_mean
from lipsrl.regularizers._weights import Weight
from lipsrl.regularizers.grad_caps import second_difference, three_means


def rate_loss(before: Tensor, now: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """``E‖μ(o_{t+1}) - 2·μ(o_t) + μ(o_{t-1})‖₂²``: what legged locomotion calls the second-order action rate.

    As the reward term of Rudin et al. 2022, "Learning to walk in minutes", but as a loss on the mean action, so that it
    costs no variance of the return.

    Args:
        before, now, after: (n, act) μ(o_{t-1}), μ(o_t), μ(o_{t+1}).
        mask: (n,) 1 where all three are of one episode.
    """
    return masked_mean((second_difference(before, now, after) ** 2).sum(dim=1), mask)


@dataclass(frozen=True)
class ActionRate(Regularizer):
    """Second differences of the action: :func:`rate_loss`.

    Args:
        rate: its weight.

    Raises:
        ValueError: the weight is negative or no number.
    """

    rate: Weight = 0.1

    name: ClassVar[str] = "action_rate"
    actor_terms: ClassVar[tuple[str, ...]] = ("rate",)
    needs: ClassVar[frozenset[str]] = frozenset({"next", "previous"})

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        return {"rate": rate_loss(*three_means(batch))}
