"""Gymnasium's LunarLander-v3 with continuous engines: land between the flags, throttles in [-1, 1]."""

from __future__ import annotations

from envs.task import Task

LUNAR_LANDER_CONTINUOUS = Task(
    name="lunar-lander-continuous",
    env_id="LunarLanderContinuous-v3",
    sensors=(
        "x [10 m]",
        "y [6.67 m]",
        "ẋ [5 m/s]",
        "ẏ [7.5 m/s]",
        "θ [rad]",
        "θ̇ [2.5 rad/s]",
        "left leg on the ground",
        "right leg on the ground",
    ),
    sensor_scale=(1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0),
    normalize_observation=False,
    normalize_reward=False,
    floor=-214.0,
    reference_return=271.0,
    reference_source="PPO, 1M steps on -v2: rl-baselines3-zoo, benchmark.md",
    strengths=(0.0, 0.01, 0.02, 0.05, 0.1),
    chatter_strength=0.01,
    actions="2 in ±1",
)
