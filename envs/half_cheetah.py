"""Gymnasium's HalfCheetah-v5: a planar robot with two legs that has to run, torques in [-1, 1]."""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (0.2, 0.5, *[1.0] * 6, 5.0, 2.0, *[10.0] * 7)

HALF_CHEETAH = Task(
    name="half-cheetah",
    env_id="HalfCheetah-v5",
    sensors=(
        "z torso [m]",
        "θ torso [rad]",
        "θ back thigh [rad]",
        "θ back shin [rad]",
        "θ back foot [rad]",
        "θ front thigh [rad]",
        "θ front shin [rad]",
        "θ front foot [rad]",
        "ẋ torso [m/s]",
        "ż torso [m/s]",
        "θ̇ torso [rad/s]",
        "θ̇ back thigh [rad/s]",
        "θ̇ back shin [rad/s]",
        "θ̇ back foot [rad/s]",
        "θ̇ front thigh [rad/s]",
        "θ̇ front shin [rad/s]",
        "θ̇ front foot [rad/s]",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=-287.0,
    reference_return=5819.0,
    reference_source="PPO, 1M steps on -v3: rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="6 in ±1",
)
