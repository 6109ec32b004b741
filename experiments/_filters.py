"""What a user would put beside a stock policy: an action smoother, a filter of the observations; and the
task of a run whose agent has learned behind such a smoother.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs import Task, get_task

#: What config.json calls an average of the actions: as rl-baselines3-zoo writes wrappers, which lipsrl's commands point
#: out.
SMOOTHING = "lipsrl.wrappers.ActionSmoothing"

Array = NDArray[Any]
#: raw observations (n, dim) → actions (n, act)
Policy = Callable[[Array], Array]


class Smoothed:
    """``a = (1 - share)·π(o) + share·a_before``: an exponential moving average of the actions.

    As `ActionSmoothingWrapper` of rl-baselines3-zoo does it, whose first action of an episode is smoothed with 0.

    Args:
        policy: of raw observations.
        share: of the action before, in [0, 1).
        of: fingerprint of the policy, so that an evaluation can be recognised as that of this one.
    """

    def __init__(self, policy: Policy, share: float, of: str | None = None) -> None:
        self._policy = policy
        self._share = share
        self.fingerprint = _fingerprint("smoothed", share, of)

    def predict(
        self, observation: Array, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Array, tuple[Array]]:
        """As SB3's recurrent policies: the state is handed back at the next step."""
        action = np.asarray(self._policy(observation), dtype=np.float32)
        before = np.zeros_like(action) if state is None else np.array(state[0])
        if episode_start is not None:
            before[np.asarray(episode_start, dtype=bool)] = 0.0
        smooth = (1 - self._share) * action + self._share * before
        return smooth, (smooth,)


class ConstantVelocity:
    """π of an α-β filter's estimate: the steady state of a Kalman filter for sensors that move at constant velocity.

    Each sensor by itself. With the measurement's share α the filter takes ``β = α² / (2 - α)`` (Benedict & Bordner
    1962, "Synthesis of an optimal set of radar track-while-scan smoothing equations"). An episode starts at its first
    measurement, at velocity 0.

    Args:
        policy: of raw observations.
        share: α in (0, 1]; 1 trusts the sensor.
        of: as in `Smoothed`.
    """

    def __init__(self, policy: Policy, share: float, of: str | None = None) -> None:
        self._policy = policy
        self.fingerprint = _fingerprint("filtered", share, of)
        self._alpha, self._beta = share, share**2 / (2 - share)

    def predict(
        self, observation: Array, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Array, tuple[Array, Array]]:
        """As SB3's recurrent policies: the state (estimate, velocity) is handed back at the next step."""
        measured = np.asarray(observation, dtype=np.float64)
        if state is None:
            estimate, velocity = measured, np.zeros_like(measured)
        else:
            predicted = state[0] + state[1]
            innovation = measured - predicted
            estimate, velocity = predicted + self._alpha * innovation, state[1] + self._beta * innovation
            if episode_start is not None:
                fresh = np.asarray(episode_start, dtype=bool)
                estimate[fresh], velocity[fresh] = measured[fresh], 0.0
        return np.asarray(self._policy(estimate.astype(np.float32))), (estimate, velocity)


def _fingerprint(kind: str, share: float, of: str | None) -> str | None:
    return None if of is None else f"{kind} {share} {of}"


def around(task: Task) -> dict[str, Any]:
    """What config.json says of the filter between an agent and its task; nothing where there is none."""
    return {} if task.smoothing is None else {"env_wrapper": {SMOOTHING: {"weight": task.smoothing}}}


def task_of(config: Mapping[str, Any]) -> Task:
    """The task of a run as its agent knows it: behind the filter that it was trained behind, if it was.

    Args:
        config: of the run.
    """
    task, wrapper = get_task(config["task"]), config.get("env_wrapper")
    return task if wrapper is None else replace(task, smoothing=wrapper[SMOOTHING]["weight"])


def shared_task(configs: Sequence[Mapping[str, Any]]) -> Task:
    """The task of several runs as all their agents know it.

    Raises:
        ValueError: some stand behind a filter, and some do not: they cannot be shown in one environment.
    """
    tasks = [task_of(config) for config in configs]
    weights = {task.smoothing for task in tasks}
    if len(weights) > 1:
        raise ValueError(
            "agents that average their actions and agents that do not cannot be shown in one environment. Give them to "
            "two commands, or leave --track out."
        )
    return tasks[0]
