"""Which earlier observations and actions a model's observation holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack

from lipsrl.actors.pipeline import Pipeline

#: Wrappers around rl-zoo's HistoryWrapper that hand the action on as it is.
_PASSING_ON = ("Monitor", "TimeLimit", "OrderEnforcing", "PassiveEnvChecker")


@dataclass(frozen=True, eq=False)
class Memory:
    """Where in the observation the past is.

    Attributes:
        frames: observations in the window.
        observed: (frames·sensors,) index of the past observations, the oldest first.
        acted: (frames·actions,) index of the past actions, the oldest first; empty where there are none.
        unknown: why nothing is said of errors over time, in words; empty where it is.
    """

    frames: int
    observed: np.ndarray
    acted: np.ndarray
    unknown: str = ""


def memory_of(model: BaseAlgorithm, pipeline: Pipeline) -> Memory | None:
    """Of ``model``, or ``None`` where its observation is a single one, an image or a Dict."""
    frames, size = pipeline.chain.frames, len(pipeline.gain)
    if len(pipeline.spaces) != 1 or not _is_vector(pipeline.spaces[0]) or size % frames:
        return None
    everything, nothing = np.arange(size), np.arange(0)
    stacks, history, outside = _wrappers(model)
    if history is not None:
        why = ""
        if frames > 1:
            why = "a VecFrameStack stands around rl-zoo's HistoryWrapper"
        elif outside:
            why = f"{outside} stands around rl-zoo's HistoryWrapper, which may change the actions that come back"
        return _of_history(history, size, why) if frames == 1 else Memory(frames, everything, nothing, why)
    if frames == 1:
        return None
    why = "one VecFrameStack stands around another, which repeats observations" if stacks > 1 else ""
    return Memory(frames, everything, nothing, why)


def _is_vector(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _wrappers(model: BaseAlgorithm) -> tuple[int, Any, str]:
    """Number of frame stacks, rl-zoo's HistoryWrapper if any, and the name of what hides its actions."""
    layer = model.get_env()
    stacks = 0
    while isinstance(layer, VecEnvWrapper):
        stacks += isinstance(layer, VecFrameStack)
        layer = layer.venv
    outside = ""
    env: Any = layer.envs[0] if isinstance(layer, DummyVecEnv) else None
    while isinstance(env, gym.Wrapper):
        name = type(env).__name__
        if name == "HistoryWrapper":  # of rl_zoo3.wrappers, which need not be installed
            return stacks, env, outside
        if name not in _PASSING_ON:
            outside = outside or name
        env = env.env
    return stacks, None, ""


def _of_history(history: Any, size: int, why: str) -> Memory | None:
    """Past observations, then past actions; both as many as its horizon."""
    horizon = int(getattr(history, "horizon", 0))
    actions = int(np.prod(history.action_space.shape))
    observed = size - horizon * actions
    if horizon < 1 or observed < horizon or observed % horizon:
        return None
    return Memory(horizon, np.arange(observed), np.arange(observed, size), why)
