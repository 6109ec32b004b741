"""Arguments of :func:`lipsrl.certificates.feasibility_floor`, checked."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from lipsrl.feasibility.plant import Array, Plant


def check_spaces(env: Any) -> None:
    """One Gymnasium environment with Box actions and observations."""
    if not isinstance(env, gym.Env):
        hint = " Pass one of its environments, such as venv.envs[0]." if hasattr(env, "num_envs") else ""
        raise TypeError(f"env must be a gymnasium.Env, received {type(env).__name__}.{hint}")
    if not isinstance(env.action_space, spaces.Box):
        raise ValueError(
            f"the feasibility floor is a gain from observation to action, but the actions of {env} are "
            f"{env.action_space}. It exists for continuous (Box) actions only."
        )
    if not isinstance(env.observation_space, spaces.Box):
        raise ValueError(
            f"the observations of {env} must be a Box, received {env.observation_space}. Flatten them first "
            "(gymnasium.wrappers.FlattenObservation)."
        )


def check_state(plant: Plant, state: ArrayLike) -> Array:
    """(state,) that the plant is in now."""
    at = np.array(state, dtype=np.float64).reshape(-1)
    size = plant.get().size
    if at.size != size or not np.isfinite(at).all():
        raise ValueError(f"state must be {size} finite numbers, received {at.tolist()}.")
    plant.put(at)
    if not np.allclose(plant.get(), at, rtol=1e-6, atol=1e-6):
        raise ValueError(
            f"state={at.tolist()} was set, but the environment says that it is in {plant.get().tolist()}. Make "
            "get_state and set_state each other's inverse."
        )
    return at


def check_action(env: gym.Env[Any, Any], action: ArrayLike) -> Array:
    """(action,) strictly inside its limits."""
    space = env.action_space
    assert isinstance(space, spaces.Box)
    at = np.array(action, dtype=np.float64).reshape(-1)
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    if at.shape != low.shape or not np.isfinite(at).all():
        raise ValueError(f"action must be {low.size} finite numbers, received {at.tolist()}.")
    if not ((low < at) & (at < high)).all():
        raise ValueError(
            f"action={at.tolist()} is not strictly inside its limits {low.tolist()} to {high.tolist()}: there the "
            "actuator gives in one direction only, and nothing can be linearised."
        )
    return at


def observation_gains(given: ArrayLike, size: int) -> Array:
    """(size,) positive gains."""
    if np.size(given) > size:
        raise ValueError(
            f"observation_gain must be one number or one for each of {size} sensors, received {np.size(given)}. If "
            "they are of a policy that sees several observations, leave the floor out: it is about policies without a "
            "memory."
        )
    gain = spread("observation_gain", given, size)
    if not (gain > 0).all():
        raise ValueError(f"observation_gain must be > 0, received {gain.tolist()}.")
    return gain


def spread(argument: str, given: ArrayLike, size: int) -> Array:
    """(size,) ``given``, repeated if it is a scalar."""
    values = np.array(given, dtype=np.float64).reshape(-1)
    if values.size not in (1, size) or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f"{argument} must be one number ≥ 0 or one for each of {size}, received {values.tolist()}."
        )
    return np.broadcast_to(values, (size,))
