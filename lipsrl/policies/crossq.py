"""Lipschitz policies for sb3-contrib's CrossQ."""

from __future__ import annotations

from sb3_contrib.crossq.policies import Actor, CrossQPolicy
from stable_baselines3.common.torch_layers import NatureCNN

from lipsrl.policies._squashed import LipschitzSquashedActor, LipschitzSquashedPolicy


class LipschitzActor(LipschitzSquashedActor, Actor):
    """CrossQ's actor around one constrained network, without batch renormalisation; the critics keep theirs.

    A normalisation layer divides by a running deviation, so its gain is no constant.
    """


class MlpPolicy(LipschitzSquashedPolicy, CrossQPolicy):
    """CrossQ policy whose deterministic action is ``lipschitz_bound``-Lipschitz in the observation.

    Arguments and promise: see :class:`lipsrl.policies.sac.MlpPolicy`. The critics cannot be constrained: they hold
    batch renormalisation layers. Dict observations: CrossQ itself cannot train on them.
    """

    actor_class = LipschitzActor
    has_critic = False
    unregularizable = "CrossQ"


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN
