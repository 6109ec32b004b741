"""Gymnasium's CartPole-v1: balance a pole on a cart that is pushed left or right."""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (2.4, 2.0, 0.21, 2.0)

CART_POLE = Task(
    name="cart-pole",
    env_id="CartPole-v1",
    sensors=(
        "x [m]",
        "ẋ [m/s]",
        "θ [rad]",
        "θ̇ [rad/s]",
    ),
    sensor_scale=SCALE,
    normalize_observation=False,
    normalize_reward=False,
    floor=22.0,
    reference_return=500.0,
    reference_source="the most there is; PPO, 100k steps: rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="2 choices",
)
