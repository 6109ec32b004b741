"""Any SB3 model's deterministic actor as plain torch modules."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.nn.utils import parametrize

from lipsrl.actors._batch_norm import affine_of, fold, is_batch_norm
from lipsrl.actors._families import Actor, family_of
from lipsrl.actors._replay import differs_from_predict
from lipsrl.layers._activation_modules import Householder
from lipsrl.layers._plain import Parallel, Residual, Scale, plain_linear
from lipsrl.networks import LipschitzMLP
from lipsrl.policies._front import Part, entries, front_modules, measured_share, observation_units, parts
from lipsrl.policies._spaces import action_half_range
from lipsrl.policies._unwrapped import policy_of


@dataclass(frozen=True)
class Promise:
    """What a constrained actor promises, from the flattened observation to the network's output.

    ``‖Δ(output · output_scale)‖ ≤ lipschitz_bound() · ‖Δobservation / input_scale‖`` in ``norm``, and
    ``lipschitz_bound() ≤ bound``.

    Attributes:
        network: the constrained network, behind the features extractor.
        found: what stands before it.
        out_features: how many of its outputs, from the first, are the actor's; the others are log σ.
    """

    network: LipschitzMLP
    found: tuple[Part, ...]
    out_features: int

    @property
    def bound(self) -> float:
        """K, as the user gave it."""
        return self.network.bound

    @property
    def norm(self) -> str:
        """Of both sides."""
        return self.network.norm

    @cached_property
    def input_scale(self) -> np.ndarray:
        """(obs,) unit of each coordinate of the flattened observation, float64."""
        scale = self.network.input_scale
        unit = np.ones(self.network.in_features) if scale is None else scale.double().cpu().numpy()
        return observation_units(list(self.found), unit)

    @property
    def output_scale(self) -> np.ndarray | None:
        """(out,) float64, or ``None`` where all are one."""
        scale = self.network.output_scale
        return None if scale is None else scale.double().cpu().numpy()[: self.out_features]

    def lipschitz_bound(self) -> float:
        """Sound upper bound of the weights as they are now, computed in float64."""
        return self.network.lipschitz_bound() * measured_share(list(self.found)) * (1 + 1e-14)


@dataclass(frozen=True)
class ActorParts:
    """The deterministic actor, cut where its gains are named.

    Attributes:
        network: flattened observation the policy receives (images in grey levels, one-hot discrete values, Dict entries
            side by side) → mean action before any squashing. The features extractor is part of it.
        squash: ``tanh`` follows the network.
        half_range: (act,) factor after the tanh, or ``None`` where the network already speaks action units.
        centre: (act,) offset after the factor, or ``None``.
        clip: (low, high), each (act,), that SB3's ``predict`` applies; ``None`` if there is none.
        discrete: the output is logits or Q-values.
        constrained: what a Lipschitz policy promises; ``None`` for another.
        exact: the network before its weights were rounded to the policy's dtype, where batch normalisation was folded
            into them; ``None`` where nothing was.
    """

    network: nn.Sequential
    squash: bool
    half_range: np.ndarray | None
    centre: np.ndarray | None
    clip: tuple[np.ndarray, np.ndarray] | None
    discrete: bool
    constrained: Promise | None
    exact: nn.Sequential | None = None

    def in_float64(self) -> nn.Sequential:
        """A copy of the network that acts, in float64."""
        return copy.deepcopy(self.network if self.exact is None else self.exact).double()


def _refuse(what: object, why: str) -> ValueError:
    return ValueError(
        f"{type(what).__name__} cannot be turned into a plain feed-forward network: {why}. "
        "Supported: feed-forward policies of PPO, A2C, SAC, TD3, DDPG, DQN, and of TRPO, TQC, QRDQN, CrossQ, "
        "MaskablePPO and ARS of sb3-contrib, with SB3's own features extractors or lipsrl's."
    )


def _front(policy: BasePolicy, actor: Actor) -> tuple[list[Part], list[nn.Module]]:
    """The features extractor: how it treats the observation, and its plain form.

    Raises:
        ValueError: it has none.
    """
    entries(policy.observation_space)  # says what cannot be flattened
    found = parts(actor.extractor, policy.observation_space, actor.normalize_images)
    modules = front_modules(found)
    if modules is None:
        unknown = next(part.extractor for part in found if part.extractor is not None)
        raise _refuse(
            policy,
            f"its features extractor is {type(unknown).__name__}, which may compute anything (a class of your own can "
            "give its plain form by a method merge())",
        )
    return found, modules


def _plain(policy: BasePolicy, modules: list[nn.Module]) -> list[nn.Module]:
    """Copies of ``modules`` with nested Sequentials opened; refuses what has an unknown inside.

    Linear layers and convolutions, activations (:func:`lipsrl.layers.max_slope` judges them later), batch normalisation
    in evaluation mode, and residual blocks and parallel branches of those.
    """
    result: list[nn.Module] = []
    for module in modules:
        # exact types: a subclass may compute anything
        kind = parametrize.type_before_parametrizations(module)
        if isinstance(module, nn.Sequential) and kind is nn.Sequential:
            result += _plain(policy, list(module))
        elif isinstance(module, Residual) and kind is Residual and type(module.skip) is nn.Linear:
            result.append(Residual(fold(_plain(policy, list(module.branch))), module.skip.weight.detach()))
        elif isinstance(module, Parallel) and kind is Parallel:
            branches = [nn.Sequential(*fold(_plain(policy, [branch]))) for branch in module.branches]
            result.append(Parallel(branches, module.sizes))
        elif kind in (nn.Linear, nn.Conv2d, Householder, Scale, nn.Flatten, nn.Unflatten) or not (
            any(True for _ in module.parameters())
            or any(True for _ in module.children())
            or any(True for _ in module.buffers())
        ):
            result.append(copy.deepcopy(module))
        elif is_batch_norm(module):
            result.append(affine_of(module))
        else:
            raise _refuse(policy, f"it contains {type(module).__name__}{_why(module)}")
    return result


def _why(module: nn.Module) -> str:
    if "Norm" in type(module).__name__ or "Renorm" in type(module).__name__:
        return (
            ", a normalisation layer, whose gain depends on the observation (batch normalisation is folded)"
        )
    if isinstance(module, nn.RNNBase):
        return ", a recurrent layer: the action depends on all observations before"
    return ""


def actor_parts(model: BaseAlgorithm) -> ActorParts:
    """Cut the deterministic actor of any SB3 ``model`` into its parts. The weights are copied.

    The policy is put in evaluation mode first, as ``predict`` does: these are the weights that act.

    Raises:
        ValueError: the actor has a part that is no plain feed-forward network; names it.
    """
    policy: Any = policy_of(model)
    policy.set_training_mode(False)
    constrained: LipschitzMLP | None = getattr(policy, "lipschitz_network", None)
    if constrained is not None:
        constrained.project()  # what is read below is then what acts, whoever wrote the weights
    actor = family_of(policy)
    if isinstance(actor, str):
        raise _refuse(policy, actor)
    found, front = _front(policy, actor)
    body, promise = actor.body, None
    if constrained is not None:
        body = list(constrained.merge())
        promise = Promise(constrained, tuple(found), actor.n_outputs or constrained.out_features)
        body[-1] = _first_rows(body[-1], promise.out_features)
    exact = nn.Sequential(*fold(_plain(policy, [*front, *body, *actor.tail])))
    exact.requires_grad_(False).eval()
    own = next(policy.parameters()).dtype
    network = copy.deepcopy(exact).to(own)  # what took a normalisation layer is float64
    result = _with_head(
        network, actor.squash or policy.squash_output, actor.squash, model.action_space, promise
    )
    if any(p.dtype != own for p in exact.parameters()):
        result = replace(result, exact=exact)
    head = {name: getattr(result, name) for name in ("squash", "half_range", "centre", "clip")}
    if differs_from_predict(policy, result.in_float64().cpu(), **head):  # predict answers on the CPU
        raise _refuse(policy, "its predict() returns other actions than its linear layers and activations")
    return result


def _first_rows(linear: nn.Module, n: int) -> nn.Linear:
    assert isinstance(linear, nn.Linear)
    return plain_linear(linear.weight[:n].detach(), linear.bias[:n].detach())


def _with_head(
    network: nn.Sequential,
    rescaled: bool,
    squash: bool,
    space: spaces.Space[Any],
    constrained: Promise | None,
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

    Observation the policy receives (n, obs), flattened (a Dict's entries side by side, discrete values one-hot) →
    action the environment receives (n, act), before the clip to the Box; logits or Q-values where actions are
    discrete. For squashed policies it ends with ``Tanh`` and a diagonal ``Linear`` that rescales to the action space.

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
