"""lipsrl: Lipschitz-constrained reinforcement learning agents on Stable-Baselines3.

Importing this package registers ``"LipschitzMlpPolicy"`` with SB3 if it (and torch) can be imported. On a
machine without them the disturbances and :func:`load_policy` still work.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipsrl._version import __version__ as __version__

if TYPE_CHECKING:
    from lipsrl.actors import Agent, actor_network, load_agent
    from lipsrl.certificates import Certificate, certify, suggest_bound
    from lipsrl.deployment import export, load_policy
    from lipsrl.distillation import distill
    from lipsrl.evaluation import Evaluation, evaluate
    from lipsrl.networks import LipschitzMLP

_EXPORTS = {
    "Agent": "lipsrl.actors",
    "Certificate": "lipsrl.certificates",
    "Evaluation": "lipsrl.evaluation",
    "LipschitzMLP": "lipsrl.networks",
    "actor_network": "lipsrl.actors",
    "certify": "lipsrl.certificates",
    "distill": "lipsrl.distillation",
    "evaluate": "lipsrl.evaluation",
    "export": "lipsrl.deployment",
    "load_agent": "lipsrl.actors",
    "load_policy": "lipsrl.deployment",
    "suggest_bound": "lipsrl.certificates",
}

__all__ = [
    "Agent",
    "Certificate",
    "Evaluation",
    "LipschitzMLP",
    "actor_network",
    "certify",
    "distill",
    "evaluate",
    "export",
    "load_agent",
    "load_policy",
    "suggest_bound",
]

_SUBMODULES = (
    "actors",
    "assessment",
    "attacks",
    "certificates",
    "deployment",
    "distillation",
    "disturbances",
    "evaluation",
    "feasibility",
    "layers",
    "metrics",
    "networks",
    "policies",
    "regularizers",
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


def _is_command() -> bool:
    return Path(sys.argv[0]).stem == "lipsrl" if sys.argv else False


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:  # an import hook forbids it
        return False


# the `lipsrl` command imports what a subcommand needs, policies included, when one is asked for
if not _is_command() and _installed("torch") and _installed("stable_baselines3"):
    importlib.import_module("lipsrl.policies")
