"""Gymnasium's Swimmer-v5: three links that have to swim, torques in [-1, 1]."""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (1.0, 1.7, 1.7, 0.5, 0.5, 2.0, 3.0, 3.0)

SWIMMER = Task(
    name="swimmer",
    env_id="Swimmer-v5",
    sensors=(
        "θ front [rad]",
        "θ₁ [rad]",
        "θ₂ [rad]",
        "ẋ front [m/s]",
        "ẏ front [m/s]",
        "θ̇ front [rad/s]",
        "θ̇₁ [rad/s]",
        "θ̇₂ [rad/s]",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=0.16,
    reference_return=282.0,
    reference_source="PPO, 1M steps on -v3 (SAC: 346): rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="2 in ±1",
)
