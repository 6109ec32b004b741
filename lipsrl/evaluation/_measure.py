"""The numbers of one episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from lipsrl import metrics
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._rollout import Episode
from lipsrl.evaluation._schema import MEASURES
from lipsrl.evaluation._seeding import sensitivity_seed


def fluctuation(actions: NDArray[Any], space: spaces.Space[Any]) -> float:
    """`metrics.action_fluctuation`; of discrete actions the number of components changed per step."""
    rows = actions.reshape(len(actions), -1)
    if isinstance(space, spaces.Box):
        return metrics.action_fluctuation(rows)
    return float(_changes(rows).mean()) if len(rows) > 1 else float("nan")


def _changes(rows: NDArray[Any]) -> NDArray[np.intp]:
    changes: NDArray[np.intp] = (np.diff(rows, axis=0) != 0).sum(axis=1)
    return changes


def measure(
    episode: Episode, controller: Controller, *, seed: int, sensitivity_std: ArrayLike
) -> dict[str, Any]:
    """Return, length, and the smoothness of the actions that the environment received.

    Discrete actions have no size: their fluctuation is the number of components that change per step, their
    total variation the number of changes, and the rest is ``nan``. The sensitivity needs an action that depends on
    a vector alone, so it is ``nan`` for images, Dicts, frame stacks and recurrent policies too. Of an episode that
    ended at a value that was not finite only the length is known.

    Returns:
        One value for each of the measured columns of the table, and ``nonfinite``.
    """
    if episode.nonfinite:
        unknown = dict.fromkeys(MEASURES, float("nan"))
        return {**unknown, "length": len(episode.rewards), "nonfinite": episode.nonfinite}
    return {**_finite_episode(episode, controller, seed, sensitivity_std), "nonfinite": ""}


def _finite_episode(
    episode: Episode, controller: Controller, seed: int, sensitivity_std: ArrayLike
) -> dict[str, Any]:
    space = controller.action_space
    length = len(episode.rewards)
    actions = episode.actions.reshape(length, -1)
    numbers = {
        "return": float(episode.rewards.sum()),
        "length": length,
        "action_fluctuation": fluctuation(actions, space),
    }
    if not isinstance(space, spaces.Box):
        unknown = ["jerk", "spectral_smoothness", "high_frequency_ratio", "saturation", "action_sensitivity"]
        changes = float(_changes(actions).sum())
        return {**numbers, "total_variation": changes, **dict.fromkeys(unknown, float("nan"))}
    return {
        **numbers,
        "total_variation": metrics.total_variation(actions),
        "jerk": metrics.jerk(actions),
        "spectral_smoothness": metrics.spectral_smoothness(actions),
        "high_frequency_ratio": metrics.high_frequency_ratio(actions),
        "saturation": metrics.saturation(
            episode.proposed.reshape(length, -1), space.low.reshape(-1), space.high.reshape(-1)
        ),
        "action_sensitivity": float("nan")
        if controller.remembers or not episode.observations.shape[1]
        else metrics.action_sensitivity(
            controller.act,
            episode.observations,
            std=sensitivity_std,
            seed=sensitivity_seed(seed, episode.task.episode),
        ),
    }
