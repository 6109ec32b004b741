"""Gymnasium's MountainCarContinuous-v0: swing a weak car up a hill, force in [-1, 1]."""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (0.9, 0.07)

MOUNTAIN_CAR_CONTINUOUS = Task(
    name="mountain-car-continuous",
    env_id="MountainCarContinuous-v0",
    sensors=(
        "x",
        "ẋ per step",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=-32.0,
    reference_return=94.7,
    reference_source="SAC, 50k steps (PPO: 88.3): rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="1 in ±1",
)
