"""An SB3 policy as it acts, in float64: its deterministic actor, and what its actions are sampled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from lipsrl.actors import ActorParts, actor_parts
from lipsrl.policies._unwrapped import policy_of

#: where DQN and QR-DQN keep the network that is actor and critic in one
Q_NETWORKS = ("q_net", "quantile_net")


@dataclass(frozen=True, eq=False)
class Acting:
    """Copies of the weights that act, on the CPU.

    Attributes:
        network: (n, obs) that the policy receives → (n, act) mean before any squashing; or (n, Σ choices) logits or
            Q-values.
        squash, half_range, centre, clip: what follows, as in :class:`~lipsrl.actors.ActorParts`.
        std: (act,) standard deviations of the policy's Gaussian; (latent, act) those of gSDE's noise weights; None
            where the Gaussian lives before the tanh (SAC) or there is none (TD3).
        std_floor: what gSDE adds to its variance.
        choices: how many alternatives each discrete action has; None for actions of another kind.
        logits: the outputs for discrete actions are logits of a distribution, not Q-values.
    """

    network: nn.Sequential
    squash: bool
    half_range: np.ndarray | None
    centre: np.ndarray | None
    clip: tuple[np.ndarray, np.ndarray] | None
    std: Tensor | None
    std_floor: float
    choices: tuple[int, ...] | None
    logits: bool

    @classmethod
    def of(cls, model: BaseAlgorithm, so: str, parts: ActorParts | None = None) -> Acting:
        """Read ``model``.

        Args:
            so: what weights that are not finite lead to, for the error.
            parts: of the model, if they are at hand.

        Raises:
            ValueError: its actor is no plain feed-forward network, or its weights are not finite.
        """
        parts = actor_parts(model) if parts is None else parts
        check_finite("actor", parts.network, so)
        network = parts.in_float64().cpu()
        std, floor = (None, 0.0) if parts.squash else std_of(model)
        logits = parts.discrete and not any(hasattr(policy_of(model), name) for name in Q_NETWORKS)
        head = (parts.squash, parts.half_range, parts.centre, parts.clip)
        return cls(network, *head, std, floor, choices_of(model.action_space, n_outputs(network)), logits)

    def mean(self, seen: Tensor) -> Tensor:
        """(n, act) deterministic actions before the clip; squashed ones in units of half their range.

        For discrete actions (n, Σ choices) logits or Q-values.
        """
        mean: Tensor = self.network(seen)
        return torch.tanh(mean) if self.squash else mean

    def act(self, seen: Tensor) -> Tensor:
        """(n, act) actions that the environment receives; logits or Q-values if discrete."""
        out = self.mean(seen)
        if self.half_range is not None and self.centre is not None:
            out = out * torch.as_tensor(self.half_range) + torch.as_tensor(self.centre)
        if self.clip is not None:
            low, high = self.clip
            out = out.clamp(torch.as_tensor(low), torch.as_tensor(high))
        return out

    def deviation(self, seen: Tensor) -> Tensor:
        """The policy's standard deviation in the units of :meth:`mean`, (act,) or (n, act); 1 for squashed ones."""
        if self.std is None:
            return seen.new_ones(1)
        if self.std.ndim == 1:
            return self.std
        latent: Tensor = self.network[:-1](seen)
        return torch.sqrt(latent**2 @ self.std**2 + self.std_floor)


def check_finite(owner: str, network: nn.Module, so: str) -> None:
    """``ValueError`` unless all weights are finite; ``so`` says what they lead to where they are not."""
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(
                f"The {owner}'s weights hold NaN or infinite values ({name}), so {so}. Load a checkpoint from before "
                "the training diverged."
            )


def std_of(model: BaseAlgorithm) -> tuple[Tensor | None, float]:
    """:attr:`Acting.std` and :attr:`Acting.std_floor` of a policy that does not squash; None if it has no Gaussian."""
    policy: Any = policy_of(model)
    log_std = getattr(policy, "log_std", None)
    if not isinstance(log_std, Tensor):
        return None, 0.0
    if policy.use_sde:
        return policy.action_dist.get_std(log_std.detach()).double().cpu(), float(policy.action_dist.epsilon)
    return log_std.detach().exp().double().cpu(), 0.0  # as SB3 does: exp in the dtype of the weights


def n_outputs(network: nn.Module) -> int:
    """Of the last linear layer."""
    return int([m for m in network.modules() if isinstance(m, nn.Linear)][-1].out_features)


def choices_of(space: spaces.Space[Any], outputs: int) -> tuple[int, ...] | None:
    """How many alternatives each discrete action of ``space`` has; None for actions of another kind.

    Args:
        outputs: of the actor. SB3 gives each bit of a MultiBinary one logit, which is set beside 0 (None is returned);
            MaskablePPO a choice of two.
    """
    match space:
        case spaces.MultiBinary():
            bits = int(np.prod(space.shape))
            return (2,) * bits if outputs == 2 * bits else None
        case spaces.Discrete():
            return (int(space.n),)
        case spaces.MultiDiscrete():
            return tuple(map(int, space.nvec.reshape(-1)))
    return None


def sampling_varies(model: BaseAlgorithm) -> str:
    """Why sampled actions are no Gaussian with one standard deviation per dimension; empty where they are."""
    policy: Any = policy_of(model)
    if not isinstance(policy, ActorCriticPolicy):
        if hasattr(getattr(policy, "actor", None), "log_std"):
            return "its σ is an output of the network and depends on the observation"
        return "its policy is deterministic, and exploration noise is no part of it"
    if policy.use_sde:
        return "gSDE's noise depends on the observation (σ scales with the features) and lasts for steps"
    if type(policy.action_dist) is not DiagGaussianDistribution:
        kind = type(policy.action_dist).__name__
        return f"its actions come from {kind}; see margin_certificate if discrete"
    if not isinstance(getattr(policy, "log_std", None), nn.Parameter):
        return "its log_std is no parameter, so σ may depend on the observation"
    return ""
