"""Gymnasium's Hopper-v5: a one-legged robot that has to hop forward, torques in [-1, 1]."""

from __future__ import annotations

from envs.task import Task

HOPPER = Task(
    name="hopper",
    env_id="Hopper-v5",
    sensors=(
        "z torso [m]",
        "θ torso [rad]",
        "θ thigh [rad]",
        "θ leg [rad]",
        "θ foot [rad]",
        "ẋ torso [m/s]",
        "ż torso [m/s]",
        "θ̇ torso [rad/s]",
        "θ̇ thigh [rad/s]",
        "θ̇ leg [rad/s]",
        "θ̇ foot [rad/s]",
    ),
    sensor_scale=(1.5, 0.2, 1.0, 1.0, 1.0, 5.0, 5.0, 10.0, 10.0, 10.0, 10.0),
    normalize_observation=True,
    normalize_reward=True,
    floor=18.0,
    reference_return=2410.0,
    reference_source="PPO, 1M steps on -v3: rl-baselines3-zoo, benchmark.md",
    strengths=(0.0, 0.01, 0.02, 0.05, 0.1),
    chatter_strength=0.01,
    actions="3 in ±1",
)
