"""Pendulum-v1 without a velocity sensor: the angle alone, so a controller needs a memory.

What a pendulum with a magnetic encoder shows (ams' AS5047P: 14 bits a turn, 0.022°): cos θ and sin θ to 4e-4.
Train with ``--history 4``, say. Returns are those of Pendulum-v1, whose agents see the velocity too.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from envs.pendulum import PENDULUM
from envs.task import Task


class PendulumWithoutVelocity(PendulumEnv):
    """Gymnasium's pendulum; observations are (cos θ, sin θ)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _get_obs(self) -> np.ndarray:
        return super()._get_obs()[:2]


gym.register("PendulumWithoutVelocity-v0", entry_point=PendulumWithoutVelocity, max_episode_steps=200)

PENDULUM_WITHOUT_VELOCITY = Task(
    name="pendulum-without-velocity",
    env_id="envs:PendulumWithoutVelocity-v0",
    sensors=PENDULUM.sensors[:2],
    sensor_scale=PENDULUM.sensor_scale[:2],
    normalize_observation=True,
    normalize_reward=True,
    floor=PENDULUM.floor,
    reference_return=PENDULUM.reference_return,
    reference_source=f"with the velocity: {PENDULUM.reference_source}",
    # σ of the angle's sensors as there
    strengths=PENDULUM.strengths,
    chatter_strength=PENDULUM.chatter_strength,
    actions="1 in ±2 N·m",
)
