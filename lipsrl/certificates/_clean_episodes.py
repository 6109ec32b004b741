"""Clean episodes, sampled or greedy, and how long they can be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl._episodes import check_limit, layers, limited, time_limit
from lipsrl._validation import check_distinct, positive_int

Env: TypeAlias = gym.Env[Any, Any]
EnvLike: TypeAlias = str | Callable[[], Env] | Env

#: Episodes that are run side by side where the environment can be made more than once.
SLOTS = 16


@contextlib.contextmanager
def environments(
    env: EnvLike, slots: int, model: BaseAlgorithm | None, max_episode_steps: int | None = None
) -> Iterator[list[Env]]:
    """``slots`` environments, closed at the end; or just the one that was given, left open.

    Args:
        env: an id, a factory or an environment.
        slots: how many.
        model: whose spaces they must have, if not None.
        max_episode_steps: episodes are truncated after so many, if not None.

    Raises:
        TypeError: neither an id, nor a factory, nor an environment.
        ValueError: an id that is not registered; its spaces are not those of ``model``. (Observations in a Box
            inside the model's are: who learns behind an ObservationDisturbance is made for a wider one.)
    """
    if not (isinstance(env, (str, gym.Env)) or callable(env)):
        hint = " A VecEnv is not needed." if hasattr(env, "num_envs") else ""
        raise TypeError(
            f"env must be an id, a zero-argument factory or a gymnasium.Env, received {type(env).__name__}.{hint}"
        )
    made: list[Env] = [env] if isinstance(env, gym.Env) else []
    try:
        while len(made) < slots and not isinstance(env, gym.Env):
            made.append(_made(env) if isinstance(env, str) else env())
        check_distinct(made)
        for name in () if model is None else ("observation_space", "action_space"):
            found, expected = getattr(made[0], name), getattr(model, name)
            if found != expected and not (name == "observation_space" and _inside(found, expected)):
                raise ValueError(f"{name} of env is {found}, but the model was made for {expected}.")
        limit = check_limit(max_episode_steps)
        yield [limited(own, limit) for own in made]
    finally:
        for own in made:
            if own is not env:
                own.close()


def _inside(found: spaces.Space[Any], expected: spaces.Space[Any]) -> bool:
    if (
        not (isinstance(found, spaces.Box) and isinstance(expected, spaces.Box))
        or found.shape != expected.shape
    ):
        return False
    within = bool(np.all(expected.low <= found.low) and np.all(found.high <= expected.high))
    return within and found.dtype == expected.dtype


def _made(name: str) -> Env:
    try:
        return gym.make(name)
    except gym.error.Error as error:
        raise ValueError(f"env={name!r} cannot be made: {error}") from error


def step_limit(made: list[Env], given: int | None) -> int:
    """The most steps of an episode.

    Raises:
        ValueError: nothing bounds them, or an environment learns statistics from one episode to the next.
    """
    inside = [layer for env in made[:1] for layer in layers(env)]
    if any(isinstance(layer, NormalizeObservation) and layer.update_running_mean for layer in inside):
        raise ValueError(
            "gymnasium's NormalizeObservation inside env is still updating its statistics, so episodes are not "
            "comparable. Set its "
            "update_running_mean = False."
        )
    limits = [own for env in made[:1] if (own := time_limit(env)) is not None]
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
    totals = np.zeros(n_episodes)
    with torch.random.fork_rng():
        torch.manual_seed(_seeds(n_episodes, seed)[-1])
        for episodes, _, rewards in _steps(model, made, statistics, steps, n_episodes, seed, greedy=False):
            totals[episodes] += rewards
    return totals


def visited_observations(
    model: BaseAlgorithm,
    env: EnvLike,
    statistics: VecNormalize | None,
    *,
    n_episodes: int,
    horizon: int | None = None,
    seed: int = 0,
) -> NDArray[Any]:
    """(n, *observation shape) raw observations that clean greedy episodes act on.

    Raises:
        TypeError, ValueError: as :func:`environments` and :func:`step_limit`.
    """
    positive_int("n_episodes", n_episodes)
    with environments(env, SLOTS, model) as made:
        steps = step_limit(made, horizon)
        seen = [raw for _, raw, _ in _steps(model, made, statistics, steps, n_episodes, seed, greedy=True)]
    return np.concatenate(seen)


def _seeds(n_episodes: int, seed: int) -> list[int]:
    """One per episode, and one for the sampling of actions."""
    generated = np.random.SeedSequence(seed).generate_state(n_episodes + 1) >> 1
    return [int(value) for value in generated]


def _steps(
    model: BaseAlgorithm,
    made: list[Env],
    statistics: VecNormalize | None,
    steps: int,
    n_episodes: int,
    seed: int,
    *,
    greedy: bool,
) -> Iterator[tuple[list[int], NDArray[Any], list[float]]]:
    """Of each step the episodes that run, their raw observations (running, *shape) and their rewards."""
    seeds = _seeds(n_episodes, seed)
    for first in range(0, n_episodes, len(made)):
        running = {
            episode: made[episode - first].reset(seed=seeds[episode])[0]
            for episode in range(first, min(first + len(made), n_episodes))
        }
        for _ in range(steps):
            raw, episodes, rewards = np.stack(list(running.values())), list(running), []
            seen = raw if statistics is None else statistics.normalize_obs(raw)
            actions, _ = model.predict(seen, deterministic=greedy)
            for episode, action in zip(episodes, actions, strict=True):
                observation, reward, terminated, truncated, _ = made[episode - first].step(action)
                rewards.append(float(reward))
                running[episode] = observation
                if terminated or truncated:
                    del running[episode]
            yield episodes, raw, rewards
            if not running:
                break
