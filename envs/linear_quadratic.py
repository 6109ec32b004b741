"""A linear plant with quadratic cost: all that the other tasks are judged by is known here in closed form.

``ẍ = 4 x + 4 u``, seen and held 20 times a second: a platform that falls off its balance in half a second. An episode
is 200 steps from ``x ~ N(0, 0.2² I)``; a step costs ``10 x² + ẋ² + 0.1 u²``. The best controller, the least gain that
stabilises and what noise costs: :mod:`envs.linear_quadratic_theory`. Walls at |x| = 2 and |ẋ| = 4 and actions in
[-5, 5] keep bad policies finite; good ones do not meet them.

Sensors: a laser that measures how far the platform is (ST's VL53L1X: up to 4 m, so ±2 m around the middle; ±20 mm),
and its rate.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.linear_quadratic_theory import unstable_plant
from envs.task import Task, noise_levels

PLANT = unstable_plant(rate=4.0, gain=4.0, dt=0.05, q=(10.0, 1.0), r=0.1)
#: Standard deviation of x and ẋ at the start, and steps of an episode.
START, STEPS = 0.2, 200
LIMIT = 5.0
WALLS = np.array([2.0, 4.0])


class LinearQuadraticEnv(gym.Env[Any, Any]):
    """``x⁺ = a x + b u`` with ``-(x'qx + u'ru)`` as reward; never terminates."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-WALLS.astype(np.float32), WALLS.astype(np.float32))
        self.action_space = spaces.Box(-LIMIT, LIMIT, (1,), np.float32)
        self.state = np.zeros(2)

    def _get_obs(self) -> np.ndarray:
        return self.state.astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start at ``N(0, START² I)``."""
        super().reset(seed=seed)
        self.state = np.clip(self.np_random.normal(0.0, START, 2), -WALLS, WALLS)
        return self._get_obs(), {}

    def step(self, action: Any) -> Any:
        """One step of 0.05 s."""
        u = np.clip(np.asarray(action, dtype=float).reshape(1), -LIMIT, LIMIT)
        cost = self.state @ PLANT.q @ self.state + u @ PLANT.r @ u
        self.state = np.clip(PLANT.a @ self.state + PLANT.b @ u, -WALLS, WALLS)
        return self._get_obs(), -float(cost), False, False, {}


gym.register("LinearQuadratic-v0", entry_point=LinearQuadraticEnv, max_episode_steps=STEPS)

SCALE = (2.0, 2.0)

LINEAR_QUADRATIC = Task(
    name="linear-quadratic",
    env_id="envs:LinearQuadratic-v0",
    sensors=("x [m]", "ẋ [m/s]"),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=-10_024.0,
    reference_return=-3.5,
    reference_source="the linear-quadratic regulator, by the Riccati equation",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="1 in ±5",
    equilibrium=((0.0, 0.0), (0.0,)),
)
