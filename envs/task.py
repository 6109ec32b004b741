"""What a task is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit


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
        reference_return: deterministic return of a well-trained stock agent, from rl-zoo3's tables.
        strengths: noise levels (raw sensor units) of the standard evaluation; the first is 0.
        chatter_strength: the small noise level at which action fluctuation is quoted.
        env_kwargs: passed to ``gymnasium.make``.
        equilibrium: (state, action) that a policy for the task has to hold, as
            :func:`lipsrl.certificates.feasibility_floor` takes them; ``None`` if there is none.
    """

    name: str
    env_id: str
    sensors: tuple[str, ...]
    sensor_scale: tuple[float, ...]
    normalize_observation: bool
    normalize_reward: bool
    floor: float
    reference_return: float
    strengths: tuple[float, ...]
    chatter_strength: float
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    equilibrium: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def make(self) -> gym.Env[Any, Any]:
        """A fresh environment, without the checks that cost a third of the time of a small one."""
        env = gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs)
        assert isinstance(env, TimeLimit) or env.spec is not None
        return env
