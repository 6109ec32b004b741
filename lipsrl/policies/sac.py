"""Lipschitz policy for SAC."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from lipsrl.layers import project_after_step
from lipsrl.networks import LipschitzMLP
from lipsrl.policies._adapters import CopyableDistribution, LatentNetwork, OutputLayer
from lipsrl.policies._options import (
    LipschitzOptions,
    check_features_extractor,
    check_net_arch,
    check_observation_space,
)
from lipsrl.policies._spaces import action_half_range


class LipschitzActor(CopyableDistribution, Actor):
    """SAC's actor around one constrained network; ``log_std`` stays a free head on the latent."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        # tanh maps the mean to ±1 and the half range scales it to the action space: the network's output is
        # divided by the half range, so that the end-to-end gain of every action dimension is exactly one.
        half_range = action_half_range(self.action_space)
        network = options.network(self.features_dim, half_range.size, self.net_arch, half_range)
        network.cache_in_eval = True
        self.latent_pi = LatentNetwork(network)  # type: ignore[assignment]
        if isinstance(self.mu, nn.Sequential):  # gSDE: Linear, then Hardtanh, which is 1-Lipschitz
            self.mu = nn.Sequential(OutputLayer(network), *list(self.mu)[1:])
        else:
            self.mu = OutputLayer(network)

    @property
    def lipschitz_network(self) -> LipschitzMLP:
        """The constrained network: observation features → mean before tanh."""
        network: LipschitzMLP = self.latent_pi.network  # type: ignore[assignment]
        return network

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "options": self.options}


class MlpPolicy(SACPolicy):
    """SAC policy whose deterministic action is ``lipschitz_bound``-Lipschitz in the observation.

    The promise (l2, environment's action units per unit of the observation that the policy receives)::

        ‖π(o) - π(o′)‖₂ ≤ lipschitz_bound · ‖(o - o′) / observation_scale‖₂

    through features extractor, network, tanh and rescaling to the action space. It is about the deterministic
    action: the standard deviation of SAC's sampled actions is itself a free function of the observation.

    Args:
        lipschitz_bound, layer, norm, budget, observation_scale, activation, critic_lipschitz_bound:
            see :class:`lipsrl.policies.ppo.MlpPolicy`.

    Other arguments are those of :class:`stable_baselines3.sac.policies.SACPolicy`.

    Raises:
        ValueError: an argument is missing, out of range or unknown, or the spaces are not covered.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
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
        check_net_arch(net_arch, "qf")
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
        """The constrained network: observation features → mean before tanh."""
        network: LipschitzMLP = self.actor.lipschitz_network  # type: ignore[assignment]
        return network

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        actor_kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return LipschitzActor(**actor_kwargs, options=self.options).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        project_after_step(self.actor.optimizer, self.actor)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["activation_fn"]
        data["share_features_extractor"] = self.share_features_extractor
        return {**data, **self.options.constructor_parameters()}
