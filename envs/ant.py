"""Gymnasium's Ant-v5: a robot with four legs that has to walk, torques in [-1, 1].

Without the contact forces that -v5 shows beside (zero in -v3, of which the reference is): 27 sensors.
"""

from __future__ import annotations

from envs.task import Task, noise_levels

SCALE = (0.5, *[1.0] * 4, *[0.5, 1.0] * 4, *[3.0] * 3, *[5.0] * 3, *[10.0] * 8)

ANT = Task(
    name="ant",
    env_id="Ant-v5",
    sensors=(
        "z torso [m]",
        "q_w torso",
        "q_x torso",
        "q_y torso",
        "q_z torso",
        "θ hip 1 [rad]",
        "θ ankle 1 [rad]",
        "θ hip 2 [rad]",
        "θ ankle 2 [rad]",
        "θ hip 3 [rad]",
        "θ ankle 3 [rad]",
        "θ hip 4 [rad]",
        "θ ankle 4 [rad]",
        "ẋ torso [m/s]",
        "ẏ torso [m/s]",
        "ż torso [m/s]",
        "ω_x torso [rad/s]",
        "ω_y torso [rad/s]",
        "ω_z torso [rad/s]",
        "θ̇ hip 1 [rad/s]",
        "θ̇ ankle 1 [rad/s]",
        "θ̇ hip 2 [rad/s]",
        "θ̇ ankle 2 [rad/s]",
        "θ̇ hip 3 [rad/s]",
        "θ̇ ankle 3 [rad/s]",
        "θ̇ hip 4 [rad/s]",
        "θ̇ ankle 4 [rad/s]",
    ),
    sensor_scale=SCALE,
    normalize_observation=True,
    normalize_reward=True,
    floor=-68.0,
    reference_return=4616.0,
    reference_source="SAC, 1M steps on -v3 (PPO: 1327): rl-baselines3-zoo, benchmark.md",
    strengths=noise_levels(SCALE),
    chatter_strength=noise_levels(SCALE)[1],
    actions="8 in ±1",
    env_kwargs={"include_cfrc_ext_in_observation": False},
)
