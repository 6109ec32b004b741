"""Lipschitz policies for TD3 and DDPG."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import nn

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._front import parts
from lipsrl.policies._lone_layers import ProjectsLoneLayers
from lipsrl.policies._optimizers import hold
from lipsrl.policies._options import LipschitzOptions, Twin
from lipsrl.policies._policy import LipschitzPolicy
from lipsrl.policies._spaces import action_half_range
from lipsrl.policies._squashed import LipschitzContinuousCritic


class LipschitzActor(ProjectsLoneLayers, Actor):
    """TD3's actor: one constrained network, then tanh."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        half_range = action_half_range(self.action_space)
        assert self.features_extractor is not None
        found = parts(self.features_extractor, self.observation_space, self.normalize_images)
        network = options.network(found, half_range.size, self.net_arch, Twin.of(self.mu), half_range)
        self.mu = nn.Sequential(network, nn.Tanh())

    @property
    def lipschitz_network(self) -> LipschitzMLP:
        """The constrained network: observation features → action before tanh."""
        network = self.mu[0]
        assert isinstance(network, LipschitzMLP)
        return network

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "options": self.options}


class MlpPolicy(LipschitzPolicy, TD3Policy):
    """TD3 (DDPG) policy whose action is ``lipschitz_bound``-Lipschitz in the observation, and its target's too.

    The promise is that of :class:`lipsrl.policies.sac.MlpPolicy`, as are the arguments. The actor is projected exactly
    after every step, because ``train()`` averages it into its target right away.

    Other arguments are those of :class:`stable_baselines3.td3.policies.TD3Policy`.

    Raises:
        ValueError: an argument is missing, out of range or unknown, or the spaces are not covered.
    """

    image_arch = (256, 256)

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained network of the actor. ``None`` with an infinite bound."""
        return self.actor.lipschitz_network if isinstance(self.actor, LipschitzActor) else None

    def lipschitz_targets(self) -> list[LipschitzMLP]:
        return [self.actor_target.lipschitz_network] if isinstance(self.actor_target, LipschitzActor) else []

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        if self.options.unconstrained:
            return super().make_actor(features_extractor)
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return LipschitzActor(**kwargs, options=self.options).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if self.options.critic_lipschitz_bound is None:
            return super().make_critic(features_extractor or self.free_extractor())
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return LipschitzContinuousCritic(**kwargs, options=self.options).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if isinstance(self.actor, LipschitzActor):
            self.actor.lipschitz_network.cache_in_eval = True  # not the target's: it is written in eval mode
            hold(self.actor.optimizer, self.actor, exact=True)
            # a shared features extractor is stepped by the critic's optimizer as well; a free critic promises nothing
            promised = self.share_features_extractor or self.options.critic_lipschitz_bound is not None
            hold(self.critic.optimizer, self.critic, exact=promised)


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
