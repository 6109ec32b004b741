"""gymnasium's NormalizeObservation inside the environments of a model, as one affine map."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from lipsrl.actors._wrappers import VEC_PASSING_ON, acts_as, passes_on

#: (mean, gain) of ``raw ↦ (raw - mean)·gain``; None: there is no such map.
Affine: TypeAlias = tuple[np.ndarray, np.ndarray] | None


def inner_normalisation(model: BaseAlgorithm) -> tuple[Affine, tuple[str, ...]]:
    """All layers of NormalizeObservation around the environment, if they are the same in all and nothing hides them.

    Returns:
        Their product, and notes of what could not be followed: ``raw`` then is what comes out of that.

    Raises:
        ValueError: statistics that are not finite.
    """
    layer: Any = model.get_env()
    if layer is None or not any(layer.env_is_wrapped(NormalizeObservation)):
        return None, ()
    while isinstance(layer, VecEnvWrapper):
        if not isinstance(layer, VEC_PASSING_ON):
            return None, (_hidden_by(layer),)
        layer = layer.venv
    if not isinstance(layer, DummyVecEnv):
        return None, (_note("cannot be read from the environment"),)
    (first, notes), *others = [_followed(env) for env in layer.envs]
    if all(_equal(first, other) and notes == said for other, said in others):
        return first, notes
    return None, (_note(f"has other statistics in each of the {layer.num_envs} environments"),)


def _followed(env: gym.Env[Any, Any]) -> tuple[Affine, tuple[str, ...]]:
    """The product of the layers from the outermost wrapper down to the first that may change observations otherwise."""
    found: Affine = None
    while isinstance(env, gym.Wrapper):
        if acts_as(env, NormalizeObservation, "observation"):
            found = _behind(_affine(env), found)
        elif not passes_on(env):
            return found, (_hidden_by(env),) if _normalises(env) else ()
        env = env.env
    return found, ()


def _affine(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (
        np.asarray(part, dtype=np.float64).reshape(-1) for part in (layer.obs_rms.mean, layer.obs_rms.var)
    )
    gain = 1.0 / np.sqrt(variance + layer.epsilon)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and np.isfinite(gain).all()):
        raise ValueError(
            "NormalizeObservation inside the environment holds NaN or infinite statistics. Check the environment's "
            "observations."
        )
    return mean, gain


def _behind(inner: tuple[np.ndarray, np.ndarray], outer: Affine) -> Affine:
    """``((raw - m)·g - mean)·gain`` as one affine map."""
    if outer is None:
        return inner
    return inner[0] + outer[0] / inner[1], inner[1] * outer[1]


def _normalises(env: gym.Env[Any, Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, NormalizeObservation):
            return True
        env = env.env
    return False


def _equal(one: Affine, other: Affine) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _hidden_by(layer: Any) -> str:
    name = type(layer).__name__
    if isinstance(layer, NormalizeObservation):
        return _note(f"is here {name}, whose methods are its own")
    may = "changes" if isinstance(layer, gym.ObservationWrapper) else "may change"
    return _note(f"lies inside {name}, which {may} observations too", name)


def _note(why: str, outside: str = "it") -> str:
    return (
        f"gymnasium's NormalizeObservation {why}: 'raw' means what comes out of {outside}, and its gain is not "
        "counted. Use VecNormalize instead to have raw sensor units certified."
    )
