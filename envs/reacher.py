"""Gymnasium's Reacher-v5: a two-joint arm that has to reach a random point, torques in [-1, 1]."""

from __future__ import annotations

from envs.task import Task

REACHER = Task(
    name="reacher",
    env_id="Reacher-v5",
    sensors=(
        "cos θ₁",
        "cos θ₂",
        "sin θ₁",
        "sin θ₂",
        "target x [m]",
        "target y [m]",
        "θ̇₁ [rad/s]",
        "θ̇₂ [rad/s]",
        "Δx [m]",
        "Δy [m]",
    ),
    sensor_scale=(1.0, 1.0, 1.0, 1.0, 0.2, 0.2, 10.0, 10.0, 0.4, 0.4),
    normalize_observation=True,
    normalize_reward=True,
    floor=-43.0,
    reference_return=-3.75,
    reference_source="Gym's reward_threshold",
    strengths=(0.0, 0.01, 0.02, 0.05, 0.1),
    chatter_strength=0.01,
    actions="2 in ±1",
)
