"""Lipschitz policies for sb3-contrib's MaskablePPO."""

from __future__ import annotations

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

from lipsrl.policies._actor_critic import LipschitzActorCritic


class MlpPolicy(LipschitzActorCritic, MaskableActorCriticPolicy):
    """Maskable actor-critic policy whose logits, before the mask, are ``lipschitz_bound``-Lipschitz in the observation.

    Arguments and promise: see :class:`lipsrl.policies.ppo.MlpPolicy`. A mask that itself follows the observation is
    outside the promise.
    """

    unregularizable = "MaskablePPO"

    def _n_outputs(self) -> int:
        n = super()._n_outputs()
        return 2 * n if isinstance(self.action_space, spaces.MultiBinary) else n  # a bit is a choice of two


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
