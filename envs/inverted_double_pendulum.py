"""Gymnasium's InvertedDoublePendulum-v5: balance two poles on a cart, force in [-1, 1]."""

from __future__ import annotations

from envs.task import Task

INVERTED_DOUBLE_PENDULUM = Task(
    name="inverted-double-pendulum",
    env_id="InvertedDoublePendulum-v5",
    sensors=(
        "x [m]",
        "sin θ₁",
        "sin θ₂",
        "cos θ₁",
        "cos θ₂",
        "ẋ [m/s]",
        "θ̇₁ [rad/s]",
        "θ̇₂ [rad/s]",
        "constraint force",
    ),
    sensor_scale=(1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 10.0, 10.0, 10.0),
    normalize_observation=True,
    normalize_reward=True,
    floor=55.0,  # `python -m envs.floor` gives 48.1; kept, as the stored studies have it (0.1 % of the span)
    reference_return=9100.0,
    reference_source="Gym's reward_threshold",
    strengths=(0.0, 0.01, 0.02, 0.05, 0.1),
    chatter_strength=0.01,
    actions="1 in ±1",
)
