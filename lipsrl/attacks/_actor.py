"""The deterministic actor of an SB3 model as attacks differentiate it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from lipsrl.actors import actor_parts
from lipsrl.policies._unwrapped import policy_of

#: where DQN and QR-DQN keep the network that is actor and critic in one
Q_NETWORKS = ("q_net", "quantile_net")


@dataclass(frozen=True, eq=False)
class Actor:
    """Copies of the weights that act, in float64 on the CPU.

    Attributes:
        network: (n, obs) that the policy receives → (n, act) mean before any squashing; or (n, Σ choices) logits or
            Q-values.
        squash: tanh follows.
        std: (act,) standard deviations of the policy's Gaussian; (latent, act) those of gSDE's noise weights; None
            where the Gaussian lives before the tanh (SAC) or there is none (TD3).
        std_floor: what gSDE adds to its variance.
        choices: how many alternatives each discrete action has; None where actions are continuous.
        logits: the outputs for discrete actions are logits of a distribution, not Q-values.
    """

    network: nn.Sequential
    squash: bool = False
    std: Tensor | None = None
    std_floor: float = 0.0
    choices: tuple[int, ...] | None = None
    logits: bool = False

    @classmethod
    def of(cls, model: BaseAlgorithm) -> Actor:
        """Read ``model``.

        Raises:
            ValueError: its actor is no plain feed-forward network, its actions are of a kind that is not known
                here, or its weights are not finite.
        """
        parts = actor_parts(model)
        network = parts.network.double().cpu()  # a copy already
        check_finite("actor", network.parameters())
        policy: Any = policy_of(model)
        if parts.discrete:
            q_values = any(hasattr(policy, name) for name in Q_NETWORKS)
            return cls(network, choices=_choices(model), logits=not q_values)
        if parts.squash:
            return cls(network, squash=True)
        if not hasattr(policy, "log_std"):
            return cls(network)
        log_std = policy.log_std.detach()
        if not policy.use_sde:
            return cls(network, std=log_std.double().cpu().exp())
        std = policy.action_dist.get_std(log_std).double().cpu()
        return cls(network, std=std, std_floor=float(policy.action_dist.epsilon))

    def mean(self, seen: Tensor) -> Tensor:
        """(n, act) deterministic actions before the clip; squashed ones in units of half their range.

        For discrete actions (n, Σ choices) logits or Q-values.
        """
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


def check_finite(owner: str, parameters: Iterable[Tensor]) -> None:
    """``ValueError`` unless all weights are finite."""
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        raise ValueError(
            f"the {owner}'s weights hold NaN or infinite values, so there is no gradient to follow. Load a "
            "checkpoint from before the training diverged."
        )


def _choices(model: BaseAlgorithm) -> tuple[int, ...]:
    match model.action_space:
        case spaces.Discrete() as space:
            return (int(space.n),)
        case spaces.MultiDiscrete() as space:
            return tuple(map(int, space.nvec.reshape(-1)))
    raise ValueError(
        f"this attack moves actions of a Box, Discrete or MultiDiscrete space, but {type(model).__name__} acts in "
        f"{model.action_space}. Use RandomAttack."
    )
