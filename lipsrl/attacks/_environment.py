"""Where attacks that need episodes play them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.actors.observations import stack_axis

EnvLike: TypeAlias = str | Callable[[], gym.Env[Any, Any]]


class Spaces(Protocol):
    """What is asked of a model."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]


def check_env(env: Any) -> EnvLike | None:
    """``env``; ``TypeError`` unless it is an id, a factory or None."""
    if env is None or isinstance(env, str) or callable(env):
        return env  # type: ignore[no-any-return]
    raise TypeError(
        f"env must be a Gymnasium id, a zero-argument factory or None, received {type(env).__name__}."
    )


def env_name(env: EnvLike | None) -> str | None:
    """``env`` for JSON: an id as it is, a factory by its name."""
    return getattr(env, "__qualname__", type(env).__name__) if callable(env) else env


def env_of(model: BaseAlgorithm, env: EnvLike | None, why: str) -> EnvLike:
    """``env``, or a factory from the spec of the model's own environment.

    Args:
        why: begins the error: who needs it, and what for.

    Raises:
        ValueError: neither is there.
    """
    if env is not None:
        return env
    own = model.get_env()
    spec = None if own is None else copy.deepcopy(own.get_attr("spec")[0])
    if spec is not None:
        # SB3's Monitor changes nothing that matters here, and cannot be rebuilt from a spec
        spec.additional_wrappers = tuple(w for w in spec.additional_wrappers if w.name != "Monitor")
    if spec is None or any(wrapper.kwargs is None for wrapper in spec.additional_wrappers):
        raise ValueError(
            f"{why}, and this {type(model).__name__} has no environment from whose spec one could be made. Pass env=, "
            "a Gymnasium id or a zero-argument factory."
        )
    return functools.partial(gym.make, spec)  # which can be pickled


def check_stacked(model: Spaces, env: gym.Env[Any, Any], frames: int) -> None:
    """``ValueError`` unless ``frames`` observations of ``env`` are one of ``model``'s, and the actions are the same."""
    stack_axis(model.observation_space, env.observation_space, frames, "the attacked model")
    if env.action_space != model.action_space:
        raise ValueError(
            f"action_space of env is {env.action_space}, but the model was made for {model.action_space}."
        )
