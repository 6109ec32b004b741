"""Gymnasium's LunarLander-v3: land between the flags, one of three engines or none."""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0)

LUNAR_LANDER = Task(
    name="lunar-lander",
    env_id="LunarLander-v3",
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
    sensor_scale=SCALE,
    normalize_observation=False,
    normalize_reward=False,
    floor=-191.0,
    reference_return=242.0,
    reference_source="PPO, 1M steps on -v2: rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="4 choices",
)
