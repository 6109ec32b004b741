"""Gymnasium's Pendulum-v1: swing up and balance, torque in [-2, 2] N·m, 200 steps of 0.05 s."""

from __future__ import annotations

from envs.task import Task

PENDULUM = Task(
    name="pendulum",
    env_id="Pendulum-v1",
    sensors=("cos θ", "sin θ", "θ̇ [rad/s]"),
    sensor_scale=(1.0, 1.0, 8.0),
    normalize_observation=True,
    normalize_reward=True,
    floor=-1235.0,
    reference_return=-172.0,
    reference_source="PPO, 100k steps: rl-baselines3-zoo, benchmark.md",
    strengths=(0.0, 0.05, 0.1, 0.2, 0.4),
    chatter_strength=0.05,
    actions="1 in ±2 N·m",
    equilibrium=((0.0, 0.0), (0.0,)),  # upright
)
