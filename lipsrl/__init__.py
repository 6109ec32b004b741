"""lipsrl: Lipschitz-constrained reinforcement learning agents on Stable-Baselines3.

Importing this package registers ``"LipschitzMlpPolicy"`` with SB3 if it (and torch) can be imported. On a
machine without them the disturbances still work.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lipsrl.certificates import Certificate, certify
    from lipsrl.evaluation import Evaluation, evaluate
    from lipsrl.networks import LipschitzMLP
    from lipsrl.policies import actor_network

_EXPORTS = {
    "Certificate": "lipsrl.certificates",
    "Evaluation": "lipsrl.evaluation",
    "LipschitzMLP": "lipsrl.networks",
    "actor_network": "lipsrl.policies",
    "certify": "lipsrl.certificates",
    "evaluate": "lipsrl.evaluation",
}

__all__ = [
    "Certificate",
    "Evaluation",
    "LipschitzMLP",
    "actor_network",
    "certify",
    "evaluate",
]

_SUBMODULES = (
    "attacks",
    "certificates",
    "deployment",
    "disturbances",
    "evaluation",
    "layers",
    "metrics",
    "networks",
    "policies",
    "reporting",
    "statistics",
    "tracking",
    "wrappers",
)


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that a robot without torch can import the package."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"lipsrl.{name}")
    raise AttributeError(f"module 'lipsrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS, *_SUBMODULES])


if all(importlib.util.find_spec(package) for package in ("torch", "stable_baselines3")):
    importlib.import_module("lipsrl.policies")
