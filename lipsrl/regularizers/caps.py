"""CAPS: similar actions for successive observations and for nearby observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lipsrl._validation import positive_finite
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, masked_mean
from lipsrl.regularizers._weights import Weight


def temporal_loss(mean: Tensor, next_mean: Tensor, mask: Tensor) -> Tensor:
    """``E‖μ(o_t) - μ(o_{t+1})‖₂`` over the rows that have a successor.

    Mysore et al. 2021, "Regularizing action policies for smooth control with reinforcement learning", eq. 2 (L_T).

    Args:
        mean, next_mean: (n, act).
        mask: (n,) 1 where o_{t+1} is of the same episode.
    """
    return masked_mean(torch.linalg.vector_norm(mean - next_mean, dim=1), mask)


def spatial_loss(mean: Tensor, displaced_mean: Tensor) -> Tensor:
    """``E‖μ(o) - μ(õ)‖₂``, õ ~ N(o, σ²).

    Mysore et al. 2021, eq. 3 (L_S).

    Args:
        mean, displaced_mean: (n, act).
    """
    distance: Tensor = torch.linalg.vector_norm(mean - displaced_mean, dim=1)
    return distance.mean()


@dataclass(frozen=True)
class CAPS(Regularizer):
    """Conditioning for action policy smoothness (Mysore et al. 2021): ``λ_T·L_T + λ_S·L_S``.

    Starting weights: 0.1 and 0.5; 0.01 and 0.05 for PPO on Pendulum.

    Args:
        temporal: weight λ_T of :func:`temporal_loss`.
        spatial: weight λ_S of :func:`spatial_loss`.
        sigma: standard deviation of the displaced observations, in ``units``.
        target_fluctuation: in place of a fixed λ_T: the mean change of the action per step, ``E‖μ(o_t) - μ(o_{t+1})‖₂``
            in ``units``, that λ_T is to reach; ``temporal`` is then where λ_T starts (0.01 if it is 0).

    Raises:
        ValueError: a weight is negative or no number; sigma or the target is not > 0.
    """

    temporal: Weight = 0.1
    spatial: Weight = 0.5
    sigma: float = 0.2
    target_fluctuation: float | None = None

    name: ClassVar[str] = "caps"
    actor_terms: ClassVar[tuple[str, ...]] = ("temporal", "spatial")
    needs: ClassVar[frozenset[str]] = frozenset({"next"})

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_finite("CAPS: sigma", self.sigma)
        if self.target_fluctuation is not None:
            positive_finite("CAPS: target_fluctuation", self.target_fluctuation)
            if not isinstance(self.temporal, float):
                raise ValueError(
                    "CAPS: target_fluctuation finds the weight of the temporal loss by itself; temporal is where it "
                    f"starts, one number, received {self.temporal!r}."
                )

    def targets(self) -> dict[str, float]:
        return {} if self.target_fluctuation is None else {"temporal": self.target_fluctuation}

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        wanted = {}
        if "temporal" in terms:
            wanted["temporal"] = batch.successor().observations
        if "spatial" in terms:
            wanted["spatial"] = batch.units().displace(
                batch.observations, lambda real: self.sigma * batch.gaussian_noise(real)
            )
        means = dict(zip(wanted, batch.means(*wanted.values()), strict=True))
        losses = {}
        if "temporal" in means:
            losses["temporal"] = temporal_loss(batch.mean, means["temporal"], batch.successor().mask)
        if "spatial" in means:
            losses["spatial"] = spatial_loss(batch.mean, means["spatial"])
        return losses
