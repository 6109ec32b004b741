"""The networks inside SB3's policy classes, one module per SB3 family.

Importing this package registers ``"LipschitzMlpPolicy"`` with the SB3 algorithms that have one here, so that
``PPO("LipschitzMlpPolicy", env, policy_kwargs=dict(lipschitz_bound=8.0))`` works.
"""

from __future__ import annotations

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

from lipsrl.policies import ppo, sac
from lipsrl.policies._actor_network import ActorParts, actor_network, actor_parts
from lipsrl.policies._unsupported import UnsupportedPolicy
from lipsrl.policies.nature_cnn import LipschitzNatureCNN

ALIAS = "LipschitzMlpPolicy"


def register_aliases() -> None:
    """Make SB3 know the aliases; safe to call twice."""
    for algorithm, policy in ((PPO, ppo.MlpPolicy), (A2C, ppo.MlpPolicy), (SAC, sac.MlpPolicy)):
        algorithm.policy_aliases[ALIAS] = policy
    for other in (TD3, DDPG, DQN):
        other.policy_aliases[ALIAS] = UnsupportedPolicy


register_aliases()

__all__ = [
    "ActorParts",
    "LipschitzNatureCNN",
    "UnsupportedPolicy",
    "actor_network",
    "actor_parts",
    "ppo",
    "register_aliases",
    "sac",
]
