"""Any SB3 model's deterministic actor as plain torch modules."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn
from torch.nn.utils import parametrize

from lipsrl.layers._activation_modules import Householder
from lipsrl.layers._plain import Residual, plain_linear
from lipsrl.networks import LipschitzMLP
from lipsrl.policies._replay import differs_from_predict, foreign_method
from lipsrl.policies._spaces import action_half_range


@dataclass(frozen=True)
class ActorParts:
    """The deterministic actor, cut where its gains are named.

    Attributes:
        network: observation the policy receives (flattened) → mean action before any squashing.
        squash: ``tanh`` follows the network.
        half_range: (act,) factor after the tanh, or ``None`` where the network already speaks action units.
        centre: (act,) offset after the factor, or ``None``.
        clip: (low, high), each (act,), that SB3's ``predict`` applies; ``None`` if there is none.
        discrete: the output is logits or Q-values.
        constrained: the LipschitzMLP behind ``network``, if there is one.
    """

    network: nn.Sequential
    squash: bool
    half_range: np.ndarray | None
    centre: np.ndarray | None
    clip: tuple[np.ndarray, np.ndarray] | None
    discrete: bool
    constrained: LipschitzMLP | None


def _refuse(what: object, why: str) -> ValueError:
    return ValueError(
        f"{type(what).__name__} cannot be turned into a plain feed-forward network: {why}. "
        "Supported: MLP policies of PPO, A2C, SAC, TD3, DDPG and DQN on vector observations."
    )


def _check_front(policy: BasePolicy, extractor: nn.Module) -> None:
    space = policy.observation_space
    if not isinstance(space, spaces.Box) or is_image_space(space):
        raise _refuse(policy, f"its observation space is {space}, not a vector")
    if type(extractor) is not FlattenExtractor:
        raise _refuse(policy, f"its features extractor is {type(extractor).__name__}, not FlattenExtractor")


def _plain(policy: BasePolicy, modules: list[nn.Module]) -> list[nn.Module]:
    """Copies of ``modules`` with nested Sequentials opened; refuses what has an unknown inside.

    Linear layers, activations (:func:`lipsrl.layers.max_slope` judges them later) and residual blocks of those.
    """
    result: list[nn.Module] = []
    for module in modules:
        # exact types: a subclass may compute anything
        kind = parametrize.type_before_parametrizations(module)
        if isinstance(module, nn.Sequential) and kind is nn.Sequential:
            result += _plain(policy, list(module))
        elif isinstance(module, Residual) and kind is Residual and type(module.skip) is nn.Linear:
            result.append(Residual(_plain(policy, list(module.branch)), module.skip.weight.detach()))
        elif kind in (nn.Linear, Householder) or not (
            any(True for _ in module.parameters()) or any(True for _ in module.children())
        ):
            result.append(copy.deepcopy(module))
        else:
            raise _refuse(policy, f"it contains {type(module).__name__}")
    return result


def actor_parts(model: BaseAlgorithm) -> ActorParts:
    """Cut the deterministic actor of any SB3 ``model`` into its parts. The weights are copied.

    The policy is put in evaluation mode first, as ``predict`` does: these are the weights that act.

    Raises:
        ValueError: the actor has a part that is no plain feed-forward network; names it.
    """
    policy: Any = model.policy
    policy.set_training_mode(False)
    constrained: LipschitzMLP | None = getattr(policy, "lipschitz_network", None)
    if constrained is not None:
        constrained.project()  # what is read below is then what acts, whoever wrote the weights
    modules: list[nn.Module]
    squash = False
    if isinstance(policy, ActorCriticPolicy):
        _check_front(policy, policy.pi_features_extractor)
        modules = [policy.mlp_extractor.policy_net, policy.action_net]
        squash = policy.squash_output
    elif isinstance(policy, SACPolicy):
        _check_front(policy, policy.actor.features_extractor)
        modules = [policy.actor.latent_pi, policy.actor.mu]
        squash = True
    elif isinstance(policy, TD3Policy):
        _check_front(policy, policy.actor.features_extractor)
        modules = list(policy.actor.mu)
        squash = isinstance(modules[-1], nn.Tanh)
        modules = modules[:-1] if squash else modules
    elif isinstance(policy, DQNPolicy):
        _check_front(policy, policy.q_net.features_extractor)
        modules = list(policy.q_net.q_net)
    else:
        raise _refuse(policy, "its policy class is not known here")
    method = foreign_method(policy)
    if method is not None:
        raise _refuse(policy, f"{method} is not SB3's own and may compute anything")

    if constrained is not None:
        last = modules[-1]
        tail = list(last)[1:] if isinstance(last, nn.Sequential) else []  # gSDE's Hardtanh
        network = nn.Sequential(*constrained.merge(), *_plain(policy, tail))
    else:
        network = nn.Sequential(*_plain(policy, modules))
    network.requires_grad_(False).eval()

    parts = _with_head(network, squash or policy.squash_output, squash, model.action_space, constrained)
    head = {
        "squash": parts.squash,
        "half_range": parts.half_range,
        "centre": parts.centre,
        "clip": parts.clip,
    }
    if differs_from_predict(policy, copy.deepcopy(network).double(), **head):
        raise _refuse(policy, "its predict() returns other actions than its linear layers and activations")
    return parts


def _with_head(
    network: nn.Sequential,
    rescaled: bool,
    squash: bool,
    space: spaces.Space[Any],
    constrained: LipschitzMLP | None,
) -> ActorParts:
    if not isinstance(space, spaces.Box):
        return ActorParts(network, False, None, None, None, True, constrained)
    low, high = (np.asarray(b, dtype=np.float64).reshape(-1) for b in (space.low, space.high))
    if rescaled:
        return ActorParts(
            network, squash, action_half_range(space), (low + high) / 2, None, False, constrained
        )
    return ActorParts(network, False, None, None, (low, high), False, constrained)


def actor_network(model: BaseAlgorithm) -> nn.Sequential:
    """Plain deterministic actor of any SB3 model, as fresh ``nn.Linear``s and activations.

    Observation the policy receives (…, obs), flattened → action the environment receives (…, act), before the
    clip to the Box; logits or Q-values where actions are discrete. For squashed policies it ends with
    ``Tanh`` and a diagonal ``Linear`` that rescales to the action space.

    Raises:
        ValueError: the actor has a part that is no plain feed-forward network.
    """
    parts = actor_parts(model)
    modules = list(parts.network)
    if parts.squash:
        modules.append(nn.Tanh())
    if parts.half_range is not None and parts.centre is not None:
        reference = next(parts.network.parameters())
        half_range, centre = (torch.as_tensor(v).to(reference) for v in (parts.half_range, parts.centre))
        modules.append(plain_linear(torch.diag(half_range), centre).requires_grad_(False))
    return nn.Sequential(*modules).eval()
