"""Lipschitz policies for sb3-contrib's TQC."""

from __future__ import annotations

from typing import Any

from sb3_contrib.tqc.policies import Actor, Critic, TQCPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

from lipsrl.policies._options import LipschitzOptions
from lipsrl.policies._squashed import LipschitzSquashedActor, LipschitzSquashedPolicy, constrain_critic


class LipschitzActor(LipschitzSquashedActor, Actor):
    """TQC's actor around one constrained network."""


class LipschitzCritic(Critic):
    """TQC's quantile networks; the mean of each is Lipschitz in observation and action jointly."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        constrain_critic(self, options, outputs=self.n_quantiles)


class MlpPolicy(LipschitzSquashedPolicy, TQCPolicy):
    """TQC policy whose deterministic action is ``lipschitz_bound``-Lipschitz in the observation.

    Arguments and promise: see :class:`lipsrl.policies.sac.MlpPolicy`. ``critic_lipschitz_bound`` is that of each
    critic's mean over its quantiles.
    """

    actor_class = LipschitzActor
    critic_class = LipschitzCritic


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
