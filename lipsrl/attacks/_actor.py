"""The deterministic actor of an SB3 model as attacks differentiate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from lipsrl.policies import actor_parts


@dataclass(frozen=True, eq=False)
class Actor:
    """Copies of the weights that act, in float64 on the CPU.

    Attributes:
        network: (n, obs) that the policy receives → (n, act) mean before any squashing.
        squash: tanh follows.
        std: (act,) standard deviations of the policy's Gaussian; (latent, act) those of gSDE's noise weights; None
            where the Gaussian lives before the tanh (SAC) or there is none (TD3).
        std_floor: what gSDE adds to its variance.
    """

    network: nn.Sequential
    squash: bool
    std: Tensor | None
    std_floor: float

    @classmethod
    def of(cls, model: BaseAlgorithm) -> Actor:
        """Read ``model``.

        Raises:
            ValueError: its actor is no plain feed-forward network, its actions are discrete, or its weights are
                not finite.
        """
        parts = actor_parts(model)
        if parts.discrete:
            raise ValueError(
                f"this attack moves a continuous action, but {type(model).__name__} acts in "
                f"{model.action_space}: choosing one of several actions cannot be differentiated. Give a model "
                "with a Box action space, or use RandomAttack."
            )
        network = parts.network.double().cpu()  # a copy already
        if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
            raise ValueError(
                "the actor's weights hold NaN or infinite values, so there is no gradient to follow. Load a "
                "checkpoint from before the training diverged."
            )
        policy: Any = model.policy
        if parts.squash:
            return cls(network, True, None, 0.0)
        log_std = policy.log_std.detach()
        if not policy.use_sde:
            return cls(network, False, log_std.double().cpu().exp(), 0.0)
        std = policy.action_dist.get_std(log_std).double().cpu()
        return cls(network, False, std, float(policy.action_dist.epsilon))

    def mean(self, seen: Tensor) -> Tensor:
        """(n, act) deterministic actions before the clip; squashed ones in units of half their range."""
        mean: Tensor = self.network(seen)
        return torch.tanh(mean) if self.squash else mean

    def deviation(self, seen: Tensor) -> Tensor:
        """The policy's standard deviation in the units of :meth:`mean`, (act,) or (n, act); 1 for squashed ones."""
        if self.std is None:
            return seen.new_ones(1)
        if self.std.ndim == 1:
            return self.std
        latent: Tensor = self.network[:-1](seen)
        return torch.sqrt(latent**2 @ self.std**2 + self.std_floor)
