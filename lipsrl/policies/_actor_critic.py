"""The on-policy actor-critic of SB3 (PPO, A2C, TRPO, MaskablePPO) around constrained networks."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._adapters import CopyableDistribution, LatentNetwork, OutputLayer
from lipsrl.policies._policy import LipschitzPolicy, hidden_of, hold
from lipsrl.policies._spaces import action_half_range, output_features


class LipschitzMlpExtractor(MlpExtractor):
    """SB3's ``MlpExtractor`` whose policy network is constrained, and the value network if one is given."""

    def __init__(self, network: LipschitzMLP, value: LipschitzMLP | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy_net = LatentNetwork(network)  # type: ignore[assignment]
        self.latent_dim_pi = network.hidden[-1] if network.hidden else network.in_features
        if value is not None:
            self.value_net = LatentNetwork(value)  # type: ignore[assignment]
            self.latent_dim_vf = value.hidden[-1] if value.hidden else value.in_features


class LipschitzActorCritic(LipschitzPolicy, CopyableDistribution):
    """Mixin before ``ActorCriticPolicy`` or ``MaskableActorCriticPolicy``."""

    critic_key = "vf"

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained network: observation features → mean action (logits). ``None`` with an infinite bound."""
        policy: Any = self
        return None if self.options.unconstrained else policy.mlp_extractor.policy_net.network

    def _n_outputs(self) -> int:
        policy: Any = self
        return output_features(policy.action_space)

    def _build_mlp_extractor(self) -> None:
        policy: Any = self
        if self.options.unconstrained:
            super()._build_mlp_extractor()  # type: ignore[misc]
            return
        half_range = action_half_range(policy.action_space) if policy.squash_output else None
        network = self.options.network(
            self.found_parts(policy.pi_features_extractor),
            self._n_outputs(),
            hidden_of(policy.net_arch, "pi"),
            half_range,
        )
        value = None
        if self.options.critic_lipschitz_bound is not None:
            found = self.found_parts(policy.vf_features_extractor)
            value = self.options.critic_network(found, hidden_of(policy.net_arch, "vf"))
        self.mlp_extractor = LipschitzMlpExtractor(
            network,
            value,
            feature_dim=policy.features_dim,
            net_arch=policy.net_arch,
            activation_fn=policy.activation_fn,
            device=policy.device,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        if self.options.unconstrained:
            return
        policy: Any = self
        # The plain output layers of the parent give way to the networks' own, so the optimizer is made again over
        # what remains.
        policy.action_net = OutputLayer(policy.mlp_extractor.policy_net.network)
        if self.options.critic_lipschitz_bound is not None:
            policy.value_net = OutputLayer(policy.mlp_extractor.value_net.network)
        for network in self.modules():
            if isinstance(network, LipschitzMLP):
                network.cache_in_eval = True
        optimizer: torch.optim.Optimizer = policy.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs
        )
        policy.optimizer = hold(optimizer, self)
