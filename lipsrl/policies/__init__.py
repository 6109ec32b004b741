"""The networks inside SB3's policy classes, one module per SB3 family.

Importing this package registers ``"LipschitzMlpPolicy"``, ``"LipschitzCnnPolicy"`` and
``"LipschitzMultiInputPolicy"`` with the algorithms of SB3 and, where it is installed, sb3-contrib, so that
``PPO("LipschitzMlpPolicy", env, policy_kwargs=dict(lipschitz_bound=8.0))`` works.
"""

from __future__ import annotations

import importlib
from typing import Any

from lipsrl.policies import dqn, ppo, sac, td3
from lipsrl.policies._aliases import ALIAS, ALIASES, register_aliases
from lipsrl.policies._auto_bound import AutoBound
from lipsrl.policies._unsupported import UnsupportedPolicy
from lipsrl.policies.auto import AutoLipschitz
from lipsrl.policies.combined_extractor import LipschitzCombinedExtractor
from lipsrl.policies.nature_cnn import LipschitzNatureCNN
from lipsrl.policies.schedule import LipschitzSchedule

register_aliases()

__all__ = [
    "ALIAS",
    "ALIASES",
    "AutoBound",
    "AutoLipschitz",
    "LipschitzCombinedExtractor",
    "LipschitzNatureCNN",
    "LipschitzSchedule",
    "UnsupportedPolicy",
    "dqn",
    "ppo",
    "register_aliases",
    "sac",
    "td3",
]

#: Names that stand in lipsrl.actors now.
_MOVED = ("ActorParts", "Promise", "actor_network", "actor_parts")


def __getattr__(name: str) -> Any:
    """What this package had before ``lipsrl.actors`` was made."""
    if name in _MOVED:
        return getattr(importlib.import_module("lipsrl.actors"), name)
    raise AttributeError(f"module 'lipsrl.policies' has no attribute {name!r}")
