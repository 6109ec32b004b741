"""The aliases that SB3 learns: one word in place of ``"MlpPolicy"``."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

from lipsrl._validation import unknown_name
from lipsrl.policies import dqn, ppo, sac, td3
from lipsrl.policies._unsupported import RecurrentPolicy

#: The one word that takes the place of "MlpPolicy".
ALIAS = "LipschitzMlpPolicy"

#: alias → the class of that name in each family's module.
ALIASES = {
    ALIAS: "MlpPolicy",
    "LipschitzCnnPolicy": "CnnPolicy",
    "LipschitzMultiInputPolicy": "MultiInputPolicy",
}


class _PolicyAliases(dict[str, Any]):
    """SB3's table, which suggests the nearest name where one of ours is misspelt: SB3 itself says "unknown" only."""

    def __contains__(self, name: object) -> bool:
        found = super().__contains__(name)
        if not found and isinstance(name, str) and "lipschitz" in name.lower():
            raise unknown_name("policy", name, self)
        return found


def _register(algorithm: Any, family: ModuleType) -> None:
    if not isinstance(algorithm.policy_aliases, _PolicyAliases):
        algorithm.policy_aliases = _PolicyAliases(algorithm.policy_aliases)
    for alias, name in ALIASES.items():
        if hasattr(family, name):
            algorithm.policy_aliases[alias] = getattr(family, name)


def register_aliases() -> None:
    """Make SB3, and sb3-contrib where it is installed, know the aliases; safe to call twice."""
    for algorithm, family in ((PPO, ppo), (A2C, ppo), (SAC, sac), (TD3, td3), (DDPG, td3), (DQN, dqn)):
        _register(algorithm, family)
    if importlib.util.find_spec("sb3_contrib") is None:
        return
    contrib = importlib.import_module("sb3_contrib")
    _register(contrib.TRPO, ppo)
    for name, module in {
        "TQC": "tqc",
        "QRDQN": "qrdqn",
        "CrossQ": "crossq",
        "MaskablePPO": "maskable",
        "ARS": "ars",
    }.items():
        if hasattr(contrib, name):  # older releases have no CrossQ
            _register(getattr(contrib, name), importlib.import_module(f"lipsrl.policies.{module}"))
    contrib.ARS.policy_aliases["LipschitzLinearPolicy"] = importlib.import_module(
        "lipsrl.policies.ars"
    ).LinearPolicy
    for alias in ALIASES:
        contrib.RecurrentPPO.policy_aliases[alias] = RecurrentPolicy
