"""Gymnasium's InvertedPendulum-v5: balance a pole on a cart, force in [-3, 3]."""

from __future__ import annotations

import math

from envs.task import Task, noise_levels

SCALE = (1.0, 0.2, 1.0, 2.0)

INVERTED_PENDULUM = Task(
    name="inverted-pendulum",
    env_id="InvertedPendulum-v5",
    sensors=(
        "x [m]",
        "θ [rad]",
        "ẋ [m/s]",
        "θ̇ [rad/s]",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=5.3,
    reference_return=1000.0,
    reference_source="the most there is: 1 per step",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="1 in ±3",
    # upright: the tip of the pole is 1 mm beside its foot at θ = 0 (`fromto` in Gymnasium's inverted_pendulum.xml)
    equilibrium=((0.0, -math.atan(0.001 / 0.6), 0.0, 0.0), (0.0,)),
)
