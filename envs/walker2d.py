"""Gymnasium's Walker2d-v5: a planar robot with two legs that has to walk, torques in [-1, 1]."""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (1.5, 0.5, *[1.0] * 6, 5.0, 5.0, *[10.0] * 7)

WALKER2D = Task(
    name="walker2d",
    env_id="Walker2d-v5",
    sensors=(
        "z torso [m]",
        "θ torso [rad]",
        "θ right thigh [rad]",
        "θ right leg [rad]",
        "θ right foot [rad]",
        "θ left thigh [rad]",
        "θ left leg [rad]",
        "θ left foot [rad]",
        "ẋ torso [m/s]",
        "ż torso [m/s]",
        "θ̇ torso [rad/s]",
        "θ̇ right thigh [rad/s]",
        "θ̇ right leg [rad/s]",
        "θ̇ right foot [rad/s]",
        "θ̇ left thigh [rad/s]",
        "θ̇ left leg [rad/s]",
        "θ̇ left foot [rad/s]",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=2.0,
    reference_return=3479.0,
    reference_source="PPO, 1M steps on -v3: rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="6 in ±1",
)
