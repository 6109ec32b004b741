"""The actor and critic of each family of algorithms, as losses ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl.regularizers._observations import Observations


def _with_input_of(module: nn.Module, call: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What ``call`` returns, and what ``module`` received meanwhile."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        result = call()
    finally:
        handle.remove()
    return result, seen[-1]


class ActorCriticNetworks:
    """PPO's and A2C's policy."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.knows_actions = not policy.squash_output

    def mean(self, observations: Observations) -> Tensor:
        mean: Tensor = self.policy.get_distribution(observations).mode()
        return mean

    def gaussian(self, observations: Observations) -> tuple[Tensor, Tensor]:
        normal = self.policy.get_distribution(observations).distribution
        return normal.mean, normal.stddev

    def latent(self, observations: Observations) -> tuple[Tensor, Tensor]:
        return _with_input_of(self.policy.action_net, lambda: self.mean(observations))

    def values(self, observations: Observations, actions: Tensor) -> list[Tensor]:
        return [self.policy.predict_values(observations)]

    def now(self) -> Tensor | None:
        """The mean action that ``evaluate_actions`` has just computed."""
        return mode_of(self.policy.action_dist)


class SquashedNetworks:
    """SAC's and TQC's actor and critic."""

    knows_actions = False

    def __init__(self, policy: Any) -> None:
        self.actor, self.critic = policy.actor, policy.critic

    def mean(self, observations: Observations) -> Tensor:
        mean: Tensor = self.actor(observations, deterministic=True)
        return mean

    def gaussian(self, observations: Observations) -> tuple[Tensor, Tensor]:
        self.mean(observations)
        normal = self.actor.action_dist.distribution
        return normal.mean, normal.stddev

    def latent(self, observations: Observations) -> tuple[Tensor, Tensor]:
        return _with_input_of(self.actor.mu, lambda: self.mean(observations))

    def values(self, observations: Observations, actions: Tensor) -> list[Tensor]:
        return q_values(self.critic, observations, actions)

    def now(self) -> Tensor | None:
        """The mean action that ``action_log_prob`` has just computed."""
        return mode_of(self.actor.action_dist)


class DeterministicNetworks:
    """TD3's and DDPG's actor and critic."""

    knows_actions = False

    def __init__(self, policy: Any) -> None:
        self.actor, self.critic = policy.actor, policy.critic

    def mean(self, observations: Observations) -> Tensor:
        mean: Tensor = self.actor(observations)
        return mean

    def gaussian(self, observations: Observations) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("the methods that ask for a distribution refuse TD3 and DDPG")

    def latent(self, observations: Observations) -> tuple[Tensor, Tensor]:
        linear = [module for module in self.actor.mu if isinstance(module, nn.Linear)]
        # a constrained actor is one network: then what enters it
        head = linear[-1] if linear else self.actor.mu[0]
        return _with_input_of(head, lambda: self.mean(observations))

    def values(self, observations: Observations, actions: Tensor) -> list[Tensor]:
        return q_values(self.critic, observations, actions)


def mode_of(distribution: Any) -> Tensor | None:
    """``distribution.mode()`` if it hangs in the graph of the last forward pass."""
    normal = getattr(distribution, "distribution", None)
    if normal is None or not normal.mean.requires_grad:
        return None
    mode: Tensor = distribution.mode()
    return mode


def q_values(critic: Any, observations: Observations, actions: Tensor) -> list[Tensor]:
    """(n, 1) of each critic; of TQC the mean over its quantiles. Not through ``critic()``, which has our hook."""
    values = critic.forward(observations, actions)
    if isinstance(values, torch.Tensor):  # TQC: (n, critics, quantiles)
        return list(torch.split(values.mean(dim=2), 1, dim=1))
    return list(values)
