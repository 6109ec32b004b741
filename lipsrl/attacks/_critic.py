"""What a model believes to be worth: its value function or Q-function as attacks differentiate it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from lipsrl.actors.acting import Q_NETWORKS, check_finite
from lipsrl.attacks._actor import NO_GRADIENT
from lipsrl.policies._unwrapped import policy_of


@dataclass(frozen=True, eq=False)
class StateValue:
    """V(s) of PPO, A2C and TRPO: a copy in float64 on the CPU."""

    network: nn.Module

    def __call__(self, seen: Tensor) -> Tensor:
        """(n, obs) that the policy receives → (n,)."""
        return self.network(seen).squeeze(dim=1)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class ActionValue:
    """Q(s, a): the mean over critics, and over quantiles where a critic has several; copies in float64.

    Attributes:
        networks: (n, obs + act) → (n, quantiles), actions in units of half their range.
    """

    networks: Sequence[nn.Module]

    def __call__(self, seen: Tensor, actions: Tensor) -> Tensor:
        """(n, obs) that the policy receives and (n, act) → (n,)."""
        rows = torch.cat([seen, actions], dim=1)
        return torch.stack([network(rows).mean(dim=1) for network in self.networks]).mean(dim=0)


def critic_of(model: BaseAlgorithm) -> StateValue | ActionValue | None:
    """The critic that ``model`` was trained with; None where its actor is one (DQN, QR-DQN).

    Raises:
        ValueError: it has none that can be read, or its weights are not finite.
    """
    policy: Any = policy_of(model)
    policy.set_training_mode(False)
    if isinstance(policy, ActorCriticPolicy):
        return _state_value(policy)
    if hasattr(getattr(policy, "critic", None), "q_networks"):
        return _action_value(policy)
    if any(hasattr(policy, name) for name in Q_NETWORKS):
        return None
    raise _refusal(policy, "it has no value function or Q-function that is known here")


def _state_value(policy: Any) -> StateValue:
    if type(policy).predict_values is not ActorCriticPolicy.predict_values:
        raise _refusal(policy, "its predict_values() is not SB3's own and may compute anything")
    _check_flat(policy, policy.vf_features_extractor)
    critic = StateValue(_copy(nn.Sequential(policy.mlp_extractor.value_net, policy.value_net)))
    seen = _probe(policy)
    with torch.no_grad():
        _check_equal(policy, critic(seen), policy.predict_values(seen.to(policy.device, torch.float32)))
    return critic


def _action_value(policy: Any) -> ActionValue:
    _check_flat(policy, policy.critic.features_extractor)
    critic = ActionValue([_copy(network) for network in policy.critic.q_networks])
    seen = _probe(policy)
    actions = torch.linspace(-1.0, 1.0, len(seen), dtype=torch.float64)[:, None].repeat(
        1, int(torch.tensor(policy.action_space.shape).prod())
    )
    with torch.no_grad():
        own = policy.critic(*(x.to(policy.device, torch.float32) for x in (seen, actions)))
        stacked = own if isinstance(own, Tensor) else torch.stack(own, dim=1)
        _check_equal(policy, critic(seen, actions), stacked.mean(dim=(1, 2)))
    return critic


def _copy(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network).double().cpu().requires_grad_(False).eval()
    check_finite("critic", copied, NO_GRADIENT)
    return copied


def _probe(policy: Any) -> Tensor:
    """(16, obs) float64 points to compare at."""
    size = 16 * policy.observation_space.shape[0]
    return torch.linspace(-2.0, 2.0, size, dtype=torch.float64).cos().reshape(16, -1)


def _check_flat(policy: Any, extractor: nn.Module) -> None:
    if type(extractor) is not FlattenExtractor:
        raise _refusal(policy, f"its features extractor is {type(extractor).__name__}, not FlattenExtractor")


def _check_equal(policy: Any, ours: Tensor, own: Tensor) -> None:
    own = own.double().cpu().reshape(-1)
    if not torch.allclose(ours, own, rtol=1e-3, atol=1e-3 * float(own.abs().max())):
        raise _refusal(policy, "its critic returns other values than its layers")


def _refusal(policy: Any, why: str) -> ValueError:
    return ValueError(
        f"the critic of {type(policy).__name__} cannot be attacked: {why}. Supported: MLP policies of PPO, A2C, TRPO, "
        "SAC, TD3, DDPG, TQC, DQN and QR-DQN on vector observations. MADAttack needs the actor only."
    )
