"""Clean episodes with sampled actions, and how long they can be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import NormalizeObservation, TimeLimit
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl._validation import positive_int

Env: TypeAlias = gym.Env[Any, Any]
EnvLike: TypeAlias = str | Callable[[], Env] | Env


@contextlib.contextmanager
def environments(env: EnvLike, slots: int, model: BaseAlgorithm) -> Iterator[list[Env]]:
    """``slots`` environments, closed at the end; or just the one that was given, left open.

    Raises:
        TypeError: neither an id, nor a factory, nor an environment.
        ValueError: its spaces are not the model's.
    """
    if not (isinstance(env, (str, gym.Env)) or callable(env)):
        hint = " A VecEnv is not needed." if hasattr(env, "num_envs") else ""
        raise TypeError(
            f"env must be an id, a zero-argument factory or a gymnasium.Env, received {type(env).__name__}.{hint}"
        )
    made: list[Env] = [env] if isinstance(env, gym.Env) else []
    try:
        while len(made) < slots and not isinstance(env, gym.Env):
            made.append(gym.make(env) if isinstance(env, str) else env())
        for name in ("observation_space", "action_space"):
            found, expected = getattr(made[0], name), getattr(model, name)
            if found != expected:
                raise ValueError(f"{name} of env is {found}, but the model was made for {expected}.")
        yield made
    finally:
        for own in made:
            if own is not env:
                own.close()


def _wrappers(env: Env) -> list[Env]:
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def step_limit(made: list[Env], given: int | None) -> int:
    """The most steps of an episode.

    Raises:
        ValueError: nothing bounds them, or an environment learns statistics from one episode to the next.
    """
    layers = [layer for env in made[:1] for layer in _wrappers(env)]
    if any(isinstance(layer, NormalizeObservation) and layer.update_running_mean for layer in layers):
        raise ValueError(
            "gymnasium's NormalizeObservation inside env is still updating, so its episodes are not alike. Set its "
            "update_running_mean = False."
        )
    limits = [int(layer._max_episode_steps) for layer in layers if isinstance(layer, TimeLimit)]
    if given is not None:
        limits.append(positive_int("horizon", given))
    if not limits:
        raise ValueError(
            "The certificate needs a largest number of steps per episode, and no TimeLimit around env says one. Pass "
            "horizon=T, or wrap env in gymnasium.wrappers.TimeLimit."
        )
    return min(limits)


def sampled_returns(
    model: BaseAlgorithm,
    made: list[Env],
    statistics: VecNormalize | None,
    steps: int,
    n_episodes: int,
    seed: int,
) -> NDArray[np.float64]:
    """(n_episodes,) returns of clean episodes with sampled actions; torch's own generator is left as it was."""
    seeds = np.random.SeedSequence(seed).generate_state(n_episodes + 1) >> 1
    totals = np.zeros(n_episodes)
    with torch.random.fork_rng():
        torch.manual_seed(int(seeds[-1]))
        for first in range(0, n_episodes, len(made)):
            running = {
                episode: made[episode - first].reset(seed=int(seeds[episode]))[0]
                for episode in range(first, min(first + len(made), n_episodes))
            }
            for _ in range(steps):
                raw = np.stack(list(running.values()))
                seen = raw if statistics is None else statistics.normalize_obs(raw)
                actions, _ = model.predict(seen, deterministic=False)
                for episode, action in zip(list(running), actions, strict=True):
                    observation, reward, terminated, truncated, _ = made[episode - first].step(action)
                    totals[episode] += float(reward)
                    running[episode] = observation
                    if terminated or truncated:
                        del running[episode]
                if not running:
                    break
    return totals
