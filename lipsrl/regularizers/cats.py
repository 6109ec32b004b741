"""CATS: CAPS's temporal loss alone, with a weight that grows from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch
from lipsrl.regularizers._weights import Weight
from lipsrl.regularizers.caps import temporal_loss


@dataclass(frozen=True)
class CATS(Regularizer):
    """CAPS's :func:`~lipsrl.regularizers.caps.temporal_loss` with the weight ``temporal · (share of training done)``.

    2610.07910: the agent learns the task first and is smoothed more and more; return under observation noise rises and
    clean return does not fall. The text gives no weight; CAPS's: 0.1, for PPO on Pendulum 0.01.

    Args:
        temporal: weight at the end of the training, if it is a number; a pair (start, end) or a function is followed
            as it is.

    Raises:
        ValueError: the weight is negative or no number.
    """

    temporal: Weight = 0.1

    name: ClassVar[str] = "cats"
    actor_terms: ClassVar[tuple[str, ...]] = ("temporal",)
    needs: ClassVar[frozenset[str]] = frozenset({"next"})

    def weight(self, term: str, progress_remaining: float) -> float:
        if isinstance(self.temporal, float):
            return self.temporal * (1.0 - progress_remaining)
        return super().weight(term, progress_remaining)

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        (following,) = batch.means(batch.successor().observations)
        return {"temporal": temporal_loss(batch.mean, following, batch.successor().mask)}
