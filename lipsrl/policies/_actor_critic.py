"""The on-policy actor-critic of SB3 (PPO, A2C, TRPO, MaskablePPO) around constrained networks."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.type_aliases import Schedule

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._adapters import CopyableDistribution, LatentNetwork, OutputLayer
from lipsrl.policies._optimizers import hold
from lipsrl.policies._options import Twin
from lipsrl.policies._policy import LipschitzPolicy, hidden_of
from lipsrl.policies._spaces import action_half_range, output_features


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

    def _build(self, lr_schedule: Schedule) -> None:
        with self.with_stock_twins():
            super()._build(lr_schedule)  # type: ignore[misc]
        if self.options.unconstrained:
            return
        policy: Any = self
        # SB3 has built and drawn everything; its actor gives way to the constrained one, which starts from it, and the
        # optimizer is made again over what remains. The critic stays as it is unless it is constrained too.
        start = "orthogonal" if policy.ortho_init else "linear"
        half_range = action_half_range(policy.action_space) if policy.squash_output else None
        extractor = policy.mlp_extractor
        network = self.options.network(
            self.found_parts(policy.pi_features_extractor),
            self._n_outputs(),
            hidden_of(policy.net_arch, "pi"),
            Twin.of(
                extractor.policy_net, policy.action_net, start=start, head=0.01 if policy.ortho_init else None
            ),
            half_range,
        ).to(policy.device)
        extractor.policy_net, policy.action_net = LatentNetwork(network), OutputLayer(network)
        if self.options.critic_lipschitz_bound is not None:
            value = self.options.critic_network(
                self.found_parts(policy.vf_features_extractor),
                hidden_of(policy.net_arch, "vf"),
                Twin.of(
                    extractor.value_net,
                    policy.value_net,
                    start=start,
                    head=1.0 if policy.ortho_init else None,
                ),
            ).to(policy.device)
            extractor.value_net, policy.value_net = LatentNetwork(value), OutputLayer(value)
        for module in self.modules():
            if isinstance(module, LipschitzMLP):
                module.cache_in_eval = True
        optimizer: torch.optim.Optimizer = policy.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs
        )
        policy.optimizer = hold(optimizer, self)
