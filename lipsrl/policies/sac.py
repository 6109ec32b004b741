"""Lipschitz policies for SAC."""

from __future__ import annotations

from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.sac.policies import Actor, SACPolicy

from lipsrl.policies._squashed import LipschitzSquashedActor, LipschitzSquashedPolicy


class LipschitzActor(LipschitzSquashedActor, Actor):
    """SAC's actor around one constrained network."""


class MlpPolicy(LipschitzSquashedPolicy, SACPolicy):
    """SAC policy whose deterministic action is ``lipschitz_bound``-Lipschitz in the observation.

    The promise (l2, environment's action units per unit of the observation that the policy receives)::

        ‖π(o) - π(o′)‖₂ ≤ lipschitz_bound · ‖(o - o′) / observation_scale‖₂

    through features extractor, network, tanh and rescaling to the action space. It is about the deterministic
    action: the standard deviation of SAC's sampled actions is a free function of the observation, unless
    ``log_std_lipschitz_bound`` makes it one of known steepness.

    Args:
        lipschitz_bound, layer, norm, budget, observation_scale, activation, features_extractor_class:
            see :class:`lipsrl.policies.ppo.MlpPolicy`.
        critic_lipschitz_bound: K of each Q-network, per unit of the observation and of the action in [-1, 1] jointly;
            ``None``: the critics stay plain.
        log_std_lipschitz_bound: ‖log σ(o) - log σ(o′)‖ ≤ this · ‖(o - o′) / observation_scale‖. The sampled action then
            has a Lipschitz constant for each fixed noise, ``policy.actor.sampled_action_bound(noise)``. Not with gSDE.

    Other arguments are those of :class:`stable_baselines3.sac.policies.SACPolicy`.

    Raises:
        ValueError: an argument is missing, out of range or unknown, or the spaces are not covered.
    """

    actor_class = LipschitzActor


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
