"""The environments that an evaluation steps: raw Gymnasium, without the checks that each step would pay
for."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np

from lipsrl._episodes import check_limit, limited
from lipsrl._validation import check_distinct
from lipsrl.evaluation._observations import is_supported, is_supported_action, is_vector

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


@dataclass(frozen=True)
class EnvironmentSource:
    """Where environments come from: made as many as are asked for, or the one that was given.

    Attributes:
        factory: makes one.
        name: of the environment.
        given: the environment that was given and cannot be rebuilt; there is no other, and it is not closed.
        max_episode_steps: episodes are truncated after so many, if not None.
    """

    factory: Callable[[], Env]
    name: str
    given: Env | None = None
    max_episode_steps: int | None = None

    @classmethod
    def of(cls, env: EnvLike, max_episode_steps: int | None = None) -> EnvironmentSource:
        """See `environment_factory`; an environment that cannot be rebuilt is stepped itself.

        Raises:
            ValueError, TypeError: as `environment_factory`; ``max_episode_steps`` is no integer > 0.
        """
        limit = check_limit(max_episode_steps)
        if isinstance(env, gym.Env) and not _can_be_rebuilt(env):
            name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
            return cls(lambda: env, name, env, limit)
        return cls(*environment_factory(env), max_episode_steps=limit)

    def make(self, n: int) -> list[Env]:
        """``n`` environments, or the only one.

        Raises:
            ValueError, TypeError: as `make_environments`.
        """
        number = n if self.given is None else 1
        return make_environments(
            self.factory, number, vectors=False, max_episode_steps=self.max_episode_steps
        )

    def close(self, environments: list[Env]) -> None:
        """Close what was made."""
        for environment in environments:
            # what was given is inside a time limit, if there is one
            if self.given is None or environment.unwrapped is not self.given.unwrapped:
                environment.close()


def _can_be_rebuilt(env: Env) -> bool:
    return env.spec is not None and all(w.kwargs is not None for w in env.spec.additional_wrappers)


def make_environments(
    factory: Callable[[], Env], n: int, *, vectors: bool = True, max_episode_steps: int | None = None
) -> list[Env]:
    """``n`` environments with supported spaces.

    Args:
        factory: makes one.
        n: how many.
        vectors: support vectors only.
        max_episode_steps: episodes are truncated after so many, if not None.

    Raises:
        ValueError: an observation or action space that is not supported, or one environment more than once.
        TypeError: the factory returns something else than an environment.
    """
    environments = []
    for _ in range(n):
        env = factory()
        if not isinstance(env, gym.Env):
            raise TypeError(f"the env factory must return a gymnasium.Env, received {type(env).__name__}.")
        space = env.observation_space
        if vectors and not is_vector(space):
            raise ValueError(
                f"the observations of {env} must be vectors, a Box of shape (dim,), received {space}. "
                "Flatten them first (gymnasium.wrappers.FlattenObservation)."
            )
        if not is_supported(space):
            raise ValueError(
                f"the observations of {env} must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of "
                f"those, as in SB3; received {space}."
            )
        if not is_supported_action(env.action_space):
            raise ValueError(
                f"the actions of {env} must be a Box, Discrete, MultiDiscrete or MultiBinary, as in SB3; received "
                f"{env.action_space}. Flatten them first (a gymnasium.ActionWrapper)."
            )
        environments.append(env)
    check_distinct(environments)
    return [limited(env, max_episode_steps) for env in environments]


def time_step(env: Env) -> float:
    """Seconds per step where the environment states them (``dt`` or ``tau``), else 1."""
    for attribute in ("dt", "tau"):
        value = getattr(env.unwrapped, attribute, None)
        if isinstance(value, (int, float, np.floating)) and value > 0:
            return float(value)
    return 1.0
