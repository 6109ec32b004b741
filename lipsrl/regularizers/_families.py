"""Which algorithms can be regularised, at which tensor of ``train()`` losses are added, and why the others cannot."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from torch import Tensor

from lipsrl._unwrapped import policy_of
from lipsrl.regularizers._networks import ActorCriticNetworks, DeterministicNetworks, SquashedNetworks

SUPPORTED = "PPO, A2C, SAC, TD3, DDPG, and TQC of sb3-contrib"

_REASONS = {
    "TRPO": "its step comes from conjugate gradients and a line search on the KL divergence, so there is no loss that "
    "another could be added to (use PPO)",
    "DQN": "its action is the largest Q-value: there is no mean action to be smoothed (bound it: "
    'DQN("LipschitzMlpPolicy", …))',
    "QRDQN": "its action is the largest Q-value: there is no mean action to be smoothed (bound it: "
    'QRDQN("LipschitzMlpPolicy", …))',
    "ARS": "it learns without gradients, from returns alone",
    "MaskablePPO": "its actions are discrete: there is no mean action to be smoothed",
    "RecurrentPPO": "its action depends on all observations before, so that no pair of observations says how smooth "
    "it is",
    "CrossQ": "its networks normalise over the batch, so that further observations in a forward pass would change the "
    "running statistics that act (use SAC)",
}


@cache
def _contrib(name: str) -> Any:
    """A class of sb3-contrib, or ``None``."""
    if importlib.util.find_spec("sb3_contrib") is None:
        return None
    return getattr(importlib.import_module("sb3_contrib"), name, None)


def algorithms() -> Iterator[type]:
    """All classes of SB3 and sb3-contrib with a ``train`` of their own."""
    found = [PPO, A2C, SAC, TD3, DDPG, DQN, *(_contrib(n) for n in ("TQC", "TRPO", "QRDQN", "MaskablePPO"))]
    found += [_contrib("RecurrentPPO"), _contrib("CrossQ")]
    for cls in found:
        if cls is not None and "train" in vars(cls):
            yield cls


def on_policy(model: Any) -> bool:
    """PPO or A2C."""
    return isinstance(model, (PPO, A2C))


def deterministic(model: Any) -> bool:
    """TD3 or DDPG."""
    return isinstance(model, TD3)


def networks_of(model: Any) -> Any:
    """The networks of a supported ``model``."""
    policy = policy_of(model)
    if on_policy(model):
        return ActorCriticNetworks(policy)
    return DeterministicNetworks(policy) if deterministic(model) else SquashedNetworks(policy)


def refusal(name: str) -> ValueError:
    """Why models of the algorithm ``name`` cannot be regularised."""
    return ValueError(f"{name} cannot be regularised: {_REASONS[name]}. Supported: {SUPPORTED}.")


def check_actions(space: spaces.Space[Any]) -> None:
    """``ValueError`` unless actions are a Box."""
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"agents with {type(space).__name__} actions cannot be regularised: there is no mean action to be "
            "smoothed. The action space must be a Box."
        )


def check_algorithm(model: Any) -> None:
    """Refuse a model that cannot be regularised.

    Raises:
        ValueError: says why.
    """
    name = next((c.__name__ for c in type(model).__mro__ if c.__name__ in _REASONS), None)
    if name is not None:
        raise refusal(name)
    tqc = _contrib("TQC")
    kinds = (PPO, A2C, SAC, TD3) if tqc is None else (PPO, A2C, SAC, TD3, tqc)
    if not isinstance(model, kinds):
        raise ValueError(
            f"{type(model).__name__} cannot be regularised: on which tensor of its train() a loss could ride is not "
            f"known. Supported: {SUPPORTED}."
        )
    check_actions(model.action_space)


def action_unit(model: Any, units: str) -> Tensor:
    """(act,) factor from the actor's output to the method's units: [-1, 1] (``"normalised"``) or the actuator's."""
    space = model.action_space
    low, high = (np.asarray(b, dtype=np.float64).reshape(-1) for b in (space.low, space.high))
    half = np.where(np.isfinite(high) & np.isfinite(low), (high - low) / 2, 1.0)
    squashed = not on_policy(model) or bool(policy_of(model).squash_output)
    if units == "raw":
        factor = half if squashed else np.ones_like(half)
    else:
        factor = np.ones_like(half) if squashed else 1.0 / half
    return torch.as_tensor(factor, dtype=torch.float32, device=model.device)
