"""The environments that an evaluation steps: raw Gymnasium, without the checks that each step would pay
for."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Env: TypeAlias = gym.Env[Any, Any]
EnvLike: TypeAlias = str | Callable[[], Env] | Env


def environment_factory(env: EnvLike) -> tuple[Callable[[], Env], str]:
    """How to make one more of the given environment, and its name.

    An id, or an environment's spec (its wrappers included), is made without PassiveEnvChecker and
    OrderEnforcing; the time limit and all other wrappers stay. A factory is called as it is.

    Raises:
        ValueError: an id that is not registered, an environment without a spec or with a wrapper that cannot
            be rebuilt.
        TypeError: anything else than an id, a factory or an environment.
    """
    if isinstance(env, str):
        module, found, name = env.rpartition(":")
        try:
            if found:
                importlib.import_module(module)
            spec = gym.spec(name)
        except (gym.error.Error, ImportError) as error:
            raise ValueError(f"env={env!r} is not a registered environment: {error}") from error
    elif isinstance(env, gym.Env):
        if env.spec is None:
            raise ValueError(
                f"env={env} has no spec from which more of it could be made. Give an id or a factory, "
                f"such as env=lambda: {type(env).__name__}(...)."
            )
        spec = env.spec
        for wrapper in spec.additional_wrappers:
            if wrapper.kwargs is None:
                raise ValueError(
                    f"env has the wrapper {wrapper.name}, which does not record its arguments "
                    "(gymnasium.utils.RecordConstructorArgs) and cannot be rebuilt. Give a factory instead."
                )
    elif callable(env):
        return env, getattr(env, "__qualname__", type(env).__name__)
    else:
        hint = " A VecEnv is not needed: episodes are batched here." if hasattr(env, "num_envs") else ""
        raise TypeError(
            f"env must be an id, a zero-argument factory or a gymnasium.Env, received "
            f"{type(env).__name__}.{hint}"
        )
    lean = copy.deepcopy(spec)
    lean.order_enforce = False
    lean.kwargs.pop("render_mode", None)
    return lambda: gym.make(lean, disable_env_checker=True), spec.id


def make_environments(factory: Callable[[], Env], n: int) -> list[Env]:
    """``n`` environments with a supported observation space.

    Raises:
        ValueError: an observation space that is no one-dimensional Box.
        TypeError: the factory returns something else than an environment.
    """
    environments = []
    for _ in range(n):
        env = factory()
        if not isinstance(env, gym.Env):
            raise TypeError(f"the env factory must return a gymnasium.Env, received {type(env).__name__}.")
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                f"the observations of {env} must be vectors, a Box of shape (dim,), received {space}. "
                "Flatten them first (gymnasium.wrappers.FlattenObservation)."
            )
        environments.append(env)
    return environments


def time_step(env: Env) -> float:
    """Seconds per step where the environment states them (``dt`` or ``tau``), else 1."""
    for attribute in ("dt", "tau"):
        value = getattr(env.unwrapped, attribute, None)
        if isinstance(value, (int, float, np.floating)) and value > 0:
            return float(value)
    return 1.0
