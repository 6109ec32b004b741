"""Where each SB3 policy class keeps the parts of its actor."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import Actor as TD3Actor
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from lipsrl.layers._plain import plain_linear

#: Between observation and action of a network of SB3.
_STEPS = ("_predict", "forward", "extract_features")


@dataclass(frozen=True)
class Actor:
    """The deterministic actor of a policy.

    Attributes:
        extractor, normalize_images: what the observation goes through.
        body: features → output, where the network is not constrained.
        tail: what follows the body or the constrained network.
        squash: tanh follows.
        n_outputs: how many of the constrained network's outputs are the actor's; ``None`` for all.
    """

    extractor: nn.Module
    normalize_images: bool
    body: list[nn.Module]
    squash: bool
    tail: list[nn.Module] = field(default_factory=list)
    n_outputs: int | None = None


class _ForeignError(Exception):
    """A step between observation and action is not SB3's own."""


def _require_own(owner: Any, base: type, *names: str) -> None:
    """Before a part of ``owner`` is read, which a class of one's own need not have.

    Raises:
        _ForeignError: one of the methods is not that of SB3's class ``base``.
    """
    for name in names:
        if name in vars(owner) or getattr(type(owner), name, None) is not getattr(base, name):
            raise _ForeignError(f"{type(owner).__name__}.{name} is not SB3's own and may compute anything")


def _contrib(family: str, name: str) -> Any:
    """A class of sb3-contrib, or ``None``: a policy can only be of a module that is imported already."""
    module = sys.modules.get(f"sb3_contrib.{family}")
    return None if module is None else getattr(module, name, None)


def _is(policy: Any, family: str, name: str) -> bool:
    cls = _contrib(family, name)
    return cls is not None and isinstance(policy, cls)


def family_of(policy: Any) -> Actor | str:
    """The actor of ``policy``, or the reason why there is none that is plain."""
    try:
        return _family(policy)
    except _ForeignError as error:
        return str(error)
    except AttributeError as error:  # of a network that was put in the place of SB3's
        return f"its parts are not those of SB3's own class ({error})"


def _family(policy: Any) -> Actor | str:
    if hasattr(policy, "lstm_actor"):
        return "it is recurrent (LSTM): its action depends on all observations before"
    if isinstance(policy, ActorCriticPolicy):
        return _actor_critic(policy, ActorCriticPolicy)
    maskable = "common.maskable.policies"
    if _is(policy, maskable, "MaskableActorCriticPolicy"):
        return _actor_critic(policy, _contrib(maskable, "MaskableActorCriticPolicy"))
    if isinstance(policy, SACPolicy):
        return _squashed(policy, SACActor)
    for family in ("tqc", "crossq"):
        if _is(policy, f"{family}.policies", f"{'TQC' if family == 'tqc' else 'CrossQ'}Policy"):
            return _squashed(policy, _contrib(f"{family}.policies", "Actor"))
    if isinstance(policy, TD3Policy):
        actor = policy.actor
        _require_own(actor, TD3Actor, *_STEPS)
        return _ending_in_tanh(actor, list(actor.mu))
    if isinstance(policy, DQNPolicy):
        net: Any = policy.q_net
        _require_own(net, QNetwork, *_STEPS)
        return Actor(net.features_extractor, net.normalize_images, [net.q_net], False)
    if _is(policy, "qrdqn.policies", "QRDQNPolicy"):
        return _quantiles(policy)
    if _is(policy, "ars.policies", "ARSPolicy"):
        _require_own(policy, _contrib("ars.policies", "ARSPolicy"), *_STEPS)
        return _ending_in_tanh(policy, list(policy.action_net))
    return "its policy class is not known here"


def _ending_in_tanh(owner: Any, modules: list[nn.Module]) -> Actor:
    squash = isinstance(modules[-1], nn.Tanh)
    body = modules[:-1] if squash else modules
    return Actor(owner.features_extractor, owner.normalize_images, body, squash)


def _actor_critic(policy: Any, base: type) -> Actor:
    names = ("_predict", "get_distribution", "extract_features", "_get_action_dist_from_latent")
    _require_own(policy, base, *names)
    extractor = policy.mlp_extractor
    _require_own(extractor, MlpExtractor, "forward_actor")
    squash = bool(policy.squash_output)
    body = [extractor.policy_net, policy.action_net]
    return Actor(policy.pi_features_extractor, policy.normalize_images, body, squash)


def _squashed(policy: Any, base: type) -> Actor:
    actor = policy.actor
    _require_own(actor, base, *_STEPS, "get_action_dist_params")
    # gSDE: a Hardtanh behind the mean
    inner: Any
    inner, tail = (actor.mu[0], list(actor.mu)[1:]) if isinstance(actor.mu, nn.Sequential) else (actor.mu, [])
    body = [actor.latent_pi, inner]
    n_outputs = int(inner.out_features)
    return Actor(actor.features_extractor, actor.normalize_images, body, True, tail, n_outputs)


def _quantiles(policy: Any) -> Actor:
    net = policy.quantile_net
    _require_own(net, _contrib("qrdqn.policies", "QuantileNetwork"), *_STEPS)
    n_actions, n = int(policy.action_space.n), net.n_quantiles
    reference = next(net.parameters())
    mean = torch.eye(n_actions, dtype=reference.dtype, device=reference.device).repeat(1, n) / n
    body = [net.quantile_net]
    return Actor(net.features_extractor, net.normalize_images, body, False, [plain_linear(mean, None)])
