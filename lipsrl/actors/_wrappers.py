"""Wrappers that hand an observation on as they receive it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from lipsrl.wrappers import ActionDifference, ActionDisturbance, ActionSmoothing, VecActionDisturbance

#: A vector observation as it is, or several of them (VecNormalize: one that normalises rewards only).
VEC_PASSING_ON = (
    VecActionDisturbance,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

#: Only actions, rewards, ends of episodes and pictures are theirs.
_PASSING_ON: tuple[type[gym.Wrapper[Any, Any, Any, Any]], ...] = (
    gym.Wrapper,
    gym.ActionWrapper,
    gym.RewardWrapper,
    ActionDifference,
    ActionDisturbance,
    ActionSmoothing,
    Monitor,
    wrappers.Autoreset,
    wrappers.HumanRendering,
    wrappers.NormalizeReward,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.RecordVideo,
    wrappers.RenderCollection,
    wrappers.StickyAction,
    wrappers.TimeLimit,
)


#: What rl-baselines3-zoo puts in the place of gymnasium's TimeLimit as soon as it is imported; not imported here.
_ZOO_TIME_LIMIT = "rl_zoo3.gym_patches.PatchedTimeLimit"


def passes_on(layer: gym.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether what ``layer`` returns as observation is what it received; False also where that is not known.

    Compared are the methods, not the class: a subclass of TimeLimit with a ``step`` of its own may return anything.
    """
    if getattr(layer, "observe_action", False):
        return False
    own = type(layer)
    if (
        f"{own.__module__}.{own.__qualname__}" == _ZOO_TIME_LIMIT
        and not {"step", "reset"} & vars(layer).keys()
    ):
        return True
    return any(acts_as(layer, known) for known in _PASSING_ON)


def acts_as(
    layer: gym.Wrapper[Any, Any, Any, Any], known: type[gym.Wrapper[Any, Any, Any, Any]], *more: str
) -> bool:
    """Whether ``step``, ``reset`` (and ``more``) of ``layer`` are those of the class ``known``."""
    return all(
        name not in vars(layer) and getattr(type(layer), name, None) is getattr(known, name)
        for name in ("step", "reset", *more)
    )
