"""What a task is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit

from lipsrl.wrappers import ActionSmoothing


def noise_levels(sensor_scale: Sequence[float]) -> tuple[float, float, float, float, float]:
    """The noise levels of a task: 0, s, 2s, 5s and 10s, the same σ on every sensor, in raw units.

    s is one per cent of the geometric mean of the sensors' scales, rounded to 1, 2 or 5 times a power of ten (on a
    logarithmic scale). Fluctuation is quoted at s. Pendulum (with its velocity sensor and without it),
    InvertedDoublePendulum and Hopper keep the levels that their published tables were measured with.

    Example:
        >>> from envs.task import noise_levels
        >>> noise_levels([1.0, 0.2, 5.0])
        (0.0, 0.01, 0.02, 0.05, 0.1)
    """
    mean = sum(math.log10(scale) for scale in sensor_scale) / len(sensor_scale) - 2
    whole = math.floor(mean)
    digit = min((1, 2, 5, 10), key=lambda one: abs(math.log10(one) - (mean - whole)))
    return tuple(float(f"{share * digit}e{whole}") for share in (0, 1, 2, 5, 10))  # type: ignore[return-value]


@dataclass(frozen=True)
class Task:
    """A named Gymnasium environment with all that training and judging an agent on it needs.

    Attributes:
        name: key in ``TASKS``.
        env_id: id of the Gymnasium environment.
        sensors: name and unit of each observation coordinate.
        sensor_scale: typical size of each sensor's reading, in its unit (half its range where it has one).
        normalize_observation, normalize_reward: what VecNormalize does in training.
        floor: mean return of uniformly random actions, from which the normalised AUC is measured
            (``python -m envs.floor NAME`` measures it).
        reference_return: deterministic return of a well-trained stock agent.
        reference_source: of which agent, and where that is said.
        actions: number of actions, or of choices, and the actuators' limits.
        strengths: noise levels (raw sensor units) of the standard evaluation, by :func:`noise_levels`; the first is 0.
        chatter_strength: the small noise level at which action fluctuation is quoted.
        env_kwargs: passed to ``gymnasium.make``.
        equilibrium: (state, action) that a policy for the task has to hold, as
            :func:`lipsrl.certificates.feasibility_floor` takes them; ``None`` if there is none.
        smoothing: weight of the newest action in a moving average (`lipsrl.wrappers.ActionSmoothing`) between the agent
            and this task; ``None``: there is none.
    """

    name: str
    env_id: str
    sensors: tuple[str, ...]
    sensor_scale: tuple[float, ...]
    normalize_observation: bool
    normalize_reward: bool
    floor: float
    reference_return: float
    reference_source: str
    strengths: tuple[float, ...]
    chatter_strength: float
    actions: str = ""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    equilibrium: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    smoothing: float | None = None

    def make(self) -> gym.Env[Any, Any]:
        """A fresh environment, without the checks that cost a third of the time of a small one."""
        env = gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs)
        assert isinstance(env, TimeLimit) or env.spec is not None
        return env if self.smoothing is None else ActionSmoothing(env, self.smoothing)
