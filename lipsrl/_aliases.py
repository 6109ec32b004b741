"""The aliases that SB3 learns, one word in place of ``"MlpPolicy"``: known at once, imported when first used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections import UserDict
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._validation import unknown_name

#: The one word that takes the place of "MlpPolicy".
ALIAS = "LipschitzMlpPolicy"

#: alias → the class of that name in each family's module.
ALIASES = {
    ALIAS: "MlpPolicy",
    "LipschitzCnnPolicy": "CnnPolicy",
    "LipschitzMultiInputPolicy": "MultiInputPolicy",
}


def _family(module: str, *without: str) -> dict[str, str]:
    return {
        alias: f"lipsrl.policies.{module}:{name}" for alias, name in ALIASES.items() if alias not in without
    }


#: package → algorithm → alias → where its class is.
_ALGORITHMS: dict[str, dict[str, dict[str, str]]] = {
    "stable_baselines3": {
        "PPO": _family("ppo"),
        "A2C": _family("ppo"),
        "SAC": _family("sac"),
        "TD3": _family("td3"),
        "DDPG": _family("td3"),
        "DQN": _family("dqn"),
    },
    "sb3_contrib": {
        "TRPO": _family("ppo"),
        "TQC": _family("tqc"),
        "QRDQN": _family("qrdqn"),
        "CrossQ": _family("crossq", "LipschitzMultiInputPolicy"),
        "MaskablePPO": _family("maskable"),
        "ARS": {
            ALIAS: "lipsrl.policies.ars:MlpPolicy",
            "LipschitzLinearPolicy": "lipsrl.policies.ars:LinearPolicy",
        },
        "RecurrentPPO": dict.fromkeys(ALIASES, "lipsrl.policies._unsupported:RecurrentPolicy"),
    },
}


class _PolicyAliases(UserDict[str, Any]):
    """SB3's table and ours. A class of ours is imported when it is asked for: that is a tenth of a second.

    Where one of our names is misspelt the nearest is suggested: SB3 itself says "unknown" only.
    """

    def __getitem__(self, name: str) -> Any:
        found = self.data[name]
        if isinstance(found, str):
            module, attribute = found.split(":")
            found = self.data[name] = getattr(importlib.import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        found = name in self.data
        if not found and isinstance(name, str) and "lipschitz" in name.lower():
            raise unknown_name("policy", name, self.data)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.data else default


def _register(algorithm: Any) -> None:
    package = algorithm.__module__.partition(".")[0]
    aliases = _ALGORITHMS.get(package, {}).get(algorithm.__name__)
    if aliases is None:
        return
    if not isinstance(algorithm.policy_aliases, _PolicyAliases):
        algorithm.policy_aliases = _PolicyAliases(algorithm.policy_aliases)
    algorithm.policy_aliases.update(aliases)


def _on_definition(algorithm: type[BaseAlgorithm], /, **kwargs: Any) -> None:
    super(BaseAlgorithm, algorithm).__init_subclass__(**kwargs)
    _register(algorithm)


def register_aliases() -> None:
    """Make SB3, and sb3-contrib when it is imported, know the aliases; safe to call twice."""
    for package, algorithms in _ALGORITHMS.items():
        for name in algorithms:
            algorithm = getattr(sys.modules.get(package), name, None)  # older releases have no CrossQ
            if algorithm is not None:
                _register(algorithm)
    # sb3-contrib is imported by those who use it, after us: its algorithms register when they are defined
    BaseAlgorithm.__init_subclass__ = classmethod(_on_definition)  # type: ignore[assignment]
