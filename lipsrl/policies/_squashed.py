"""The squashed Gaussian actor of SB3 (SAC, TQC, CrossQ) around a constrained network."""

from __future__ import annotations

from typing import Any, ClassVar

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._adapters import CopyableDistribution, LatentNetwork, OutputLayer
from lipsrl.policies._front import parts
from lipsrl.policies._options import LipschitzOptions
from lipsrl.policies._policy import LipschitzPolicy, hold
from lipsrl.policies._spaces import action_half_range


class LipschitzSquashedActor(CopyableDistribution):
    """Mixin before SB3's ``Actor``; ``log_std`` stays a free head on the latent."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        actor: Any = self
        self.options = options
        # tanh maps the mean to ±1 and the half range scales it to the action space: the network's output is
        # divided by the half range, so that the end-to-end gain of every action dimension is exactly one.
        half_range = action_half_range(actor.action_space)
        found = parts(actor.features_extractor, actor.observation_space, actor.normalize_images)
        network = options.network(found, half_range.size, actor.net_arch, half_range)
        network.cache_in_eval = True
        actor.latent_pi = LatentNetwork(network)
        if isinstance(actor.mu, nn.Sequential):  # gSDE: Linear, then Hardtanh, which is 1-Lipschitz
            actor.mu = nn.Sequential(OutputLayer(network), *list(actor.mu)[1:])
        else:
            actor.mu = OutputLayer(network)

    @property
    def lipschitz_network(self) -> LipschitzMLP:
        """The constrained network: observation features → mean before tanh."""
        actor: Any = self
        network: LipschitzMLP = actor.latent_pi.network
        return network

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "options": self.options}  # type: ignore[misc]


def constrain_critic(critic: Any, options: LipschitzOptions, *, outputs: int = 1) -> None:
    """Put a constrained network in the place of each of ``critic.q_networks``."""
    found = parts(critic.features_extractor, critic.observation_space, critic.normalize_images)
    hidden = [m.out_features for m in critic.q_networks[0].modules() if isinstance(m, nn.Linear)][:-1]
    action_dim = action_half_range(critic.action_space).size
    for i in range(critic.n_critics):
        critic.q_networks[i] = options.critic_network(found, hidden, action_dim=action_dim, outputs=outputs)
        critic.add_module(f"qf{i}", critic.q_networks[i])


class LipschitzContinuousCritic(ContinuousCritic):
    """SB3's Q-networks, each Lipschitz in observation and action jointly (the action in [-1, 1], as SB3 gives it)."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        constrain_critic(self, options)


class LipschitzSquashedPolicy(LipschitzPolicy):
    """Mixin before ``SACPolicy``, ``TQCPolicy`` and ``CrossQPolicy``."""

    image_arch = (256, 256)
    #: The constrained actor.
    actor_class: ClassVar[type[nn.Module]]
    #: The constrained critic.
    critic_class: ClassVar[type[nn.Module]] = LipschitzContinuousCritic

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained network: observation features → mean before tanh. ``None`` with an infinite bound."""
        policy: Any = self
        return None if self.options.unconstrained else policy.actor.lipschitz_network

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if self.options.unconstrained:
            return super().make_actor(features_extractor)  # type: ignore[misc]
        policy: Any = self
        kwargs = policy._update_features_extractor(policy.actor_kwargs, features_extractor)
        return self.actor_class(**kwargs, options=self.options).to(policy.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if self.options.critic_lipschitz_bound is None:
            return super().make_critic(features_extractor)  # type: ignore[misc]
        policy: Any = self
        kwargs = policy._update_features_extractor(policy.critic_kwargs, features_extractor)
        return self.critic_class(**kwargs, options=self.options).to(policy.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        if self.options.unconstrained:
            return
        policy: Any = self
        hold(policy.actor.optimizer, policy.actor)
        # its target is averaged from it right after each step, inside train()
        hold(policy.critic.optimizer, policy.critic, exact=self.options.critic_lipschitz_bound is not None)
