"""Lipschitz policies for PPO (and A2C, which shares SB3's actor-critic policy class)."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from lipsrl.layers import project_after_step
from lipsrl.networks import LipschitzMLP
from lipsrl.policies._adapters import CopyableDistribution, LatentNetwork, OutputLayer
from lipsrl.policies._options import (
    LipschitzOptions,
    check_features_extractor,
    check_net_arch,
    check_observation_space,
    warn_ortho_init,
)
from lipsrl.policies._spaces import action_half_range, output_features


class LipschitzMlpExtractor(MlpExtractor):
    """SB3's ``MlpExtractor`` whose policy network is constrained; the value network is plain."""

    def __init__(self, network: LipschitzMLP, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy_net = LatentNetwork(network)  # type: ignore[assignment]
        self.latent_dim_pi = network.hidden[-1] if network.hidden else network.in_features


class MlpPolicy(CopyableDistribution, ActorCriticPolicy):
    """Actor-critic policy whose deterministic action is ``lipschitz_bound``-Lipschitz in the observation.

    The promise (l2, environment's action units per unit of the observation that the policy receives)::

        ‖π(o) - π(o′)‖₂ ≤ lipschitz_bound · ‖(o - o′) / observation_scale‖₂

    through features extractor, network, and clip (or gSDE's tanh and rescaling) to the action space. For
    discrete actions it is on the logits. The critic is free. Sampled actions add noise of the policy's own
    standard deviation, which does not depend on the observation except under gSDE.

    Args:
        lipschitz_bound: K > 0; required.
        layer: key of :data:`lipsrl.layers.LAYERS`.
        norm: ``"l2"``, or ``"linf"`` with ``layer="linf"``: the promise then holds in that norm.
        budget: how K is split over the layers, key of :data:`lipsrl.layers.BUDGETS`.
        observation_scale: one fixed scale per sensor (or one for all): K then means "per unit of datasheet".
        activation: key of :data:`lipsrl.layers.ACTIVATIONS`; or SB3's ``activation_fn``. Default ReLU.
        critic_lipschitz_bound: ``None``: the critic stays plain.
        net_arch: as in SB3.
        ortho_init: applies to the value network; accepted for compatibility.

    Other arguments are those of :class:`stable_baselines3.common.policies.ActorCriticPolicy`.

    Raises:
        ValueError: an argument is missing, out of range or unknown, or the spaces are not covered.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] | None = None,
        *args: Any,
        lipschitz_bound: float | None = None,
        layer: str = "sandwich",
        norm: str = "l2",
        budget: str = "output",
        observation_scale: Any = None,
        activation: str | None = None,
        critic_lipschitz_bound: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.options = LipschitzOptions.check(
            lipschitz_bound=lipschitz_bound,
            layer=layer,
            norm=norm,
            budget=budget,
            observation_scale=observation_scale,
            activation=activation,
            activation_fn=activation_fn,
            critic_lipschitz_bound=critic_lipschitz_bound,
        )
        check_observation_space(observation_space)
        check_features_extractor(kwargs.get("features_extractor_class", FlattenExtractor))
        check_net_arch(net_arch, "vf")
        if kwargs.get("ortho_init") is not None:
            warn_ortho_init()
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            self.options.activation_class,
            *args,
            **kwargs,
        )

    @property
    def lipschitz_network(self) -> LipschitzMLP:
        """The constrained network: observation features → mean action (logits)."""
        network: LipschitzMLP = self.mlp_extractor.policy_net.network  # type: ignore[assignment]
        return network

    def _build_mlp_extractor(self) -> None:
        arch = self.net_arch.get("pi", []) if isinstance(self.net_arch, dict) else self.net_arch
        network = self.options.network(
            self.features_dim,
            output_features(self.action_space),
            arch,
            action_half_range(self.action_space) if self.squash_output else None,
        )
        self.mlp_extractor = LipschitzMlpExtractor(
            network,
            feature_dim=self.features_dim,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            device=self.device,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        # The plain action_net of the parent gives way to the network's own last layer, so the optimizer is
        # made again over what remains.
        self.action_net = OutputLayer(self.lipschitz_network)
        self.lipschitz_network.cache_in_eval = True
        optimizer: torch.optim.Optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )
        self.optimizer = project_after_step(optimizer, self)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["activation_fn"], data["ortho_init"]
        # SB3 forgets this one: a policy saved with separate extractors would not load
        data["share_features_extractor"] = self.share_features_extractor
        return {**data, **self.options.constructor_parameters()}
