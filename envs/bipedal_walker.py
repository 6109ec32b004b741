"""Gymnasium's BipedalWalker-v3: two legs on rough ground, torques in [-1, 1].

Units as its source scales them (50 frames per second, 30 pixels per metre, a lidar of 5.33 m).
"""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (0.5, *[0.2] * 3, *[1.0] * 10, *[0.5] * 10)

BIPEDAL_WALKER = Task(
    name="bipedal-walker",
    env_id="BipedalWalker-v3",
    sensors=(
        "θ hull [rad]",
        "θ̇ hull [25 rad/s]",
        "ẋ hull [8.33 m/s]",
        "ẏ hull [12.5 m/s]",
        "θ hip 1 [rad]",
        "θ̇ hip 1 [4 rad/s]",
        "θ knee 1 + 1 [rad]",
        "θ̇ knee 1 [6 rad/s]",
        "leg 1 on the ground",
        "θ hip 2 [rad]",
        "θ̇ hip 2 [4 rad/s]",
        "θ knee 2 + 1 [rad]",
        "θ̇ knee 2 [6 rad/s]",
        "leg 2 on the ground",
        "lidar 1 [5.33 m]",
        "lidar 2 [5.33 m]",
        "lidar 3 [5.33 m]",
        "lidar 4 [5.33 m]",
        "lidar 5 [5.33 m]",
        "lidar 6 [5.33 m]",
        "lidar 7 [5.33 m]",
        "lidar 8 [5.33 m]",
        "lidar 9 [5.33 m]",
        "lidar 10 [5.33 m]",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=-99.6,
    reference_return=298.0,
    reference_source="SAC, 500k steps (PPO, 5M: 213): rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="4 in ±1",
)
