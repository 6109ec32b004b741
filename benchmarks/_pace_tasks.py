"""The trainings of `benchmarks.pace`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """A training: an environment, an SB3 class, steps, and keyword arguments that are not SB3's defaults."""

    env: str
    algorithm: str
    steps: int
    n_envs: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)


_LANDER = {
    "n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01,
}  # fmt: skip

#: SB3's defaults where no arguments are given; otherwise rl-baselines3-zoo's (hyperparams/ALGO.yml).
TASKS = {
    "cartpole-ppo": Task("CartPole-v1", "PPO", 25_000),
    "cartpole-a2c": Task("CartPole-v1", "A2C", 50_000),
    "acrobot-ppo": Task("Acrobot-v1", "PPO", 60_000),
    "inverted-pendulum-ppo": Task("InvertedPendulum-v5", "PPO", 60_000),
    "pendulum-sac": Task("Pendulum-v1", "SAC", 6_000),
    "pendulum-td3": Task("Pendulum-v1", "TD3", 8_000),
    "pendulum-ppo": Task(
        "Pendulum-v1", "PPO", 100_000, 4,
        {"n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10, "learning_rate": 1e-3, "use_sde": True,
         "sde_sample_freq": 4},
    ),
    "cartpole-dqn": Task(
        "CartPole-v1", "DQN", 50_000, 1,
        {"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000, "gamma": 0.99,
         "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
         "exploration_final_eps": 0.04},
        {"net_arch": [256, 256]},
    ),
    # the first 40,000 of rl-zoo's 100,000 steps, with its 12,000 of exploration
    "acrobot-dqn": Task(
        "Acrobot-v1", "DQN", 40_000, 1,
        {"learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0, "gamma": 0.99,
         "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1, "exploration_fraction": 0.3,
         "exploration_final_eps": 0.1},
        {"net_arch": [256, 256]},
    ),
    "hopper-ppo": Task("Hopper-v5", "PPO", 150_000),
    "half-cheetah-ppo": Task("HalfCheetah-v5", "PPO", 150_000),
    "lunar-lander-ppo": Task("LunarLander-v3", "PPO", 300_000, 16, _LANDER),
    "lunar-lander-continuous-ppo": Task("LunarLanderContinuous-v3", "PPO", 300_000, 16, _LANDER),
    "mountain-car-continuous-sac": Task(
        "MountainCarContinuous-v0", "SAC", 30_000, 1,
        {"buffer_size": 50_000, "batch_size": 512, "ent_coef": 0.1, "train_freq": 32, "gradient_steps": 32,
         "gamma": 0.9999, "tau": 0.01, "learning_starts": 0, "use_sde": True},
        {"log_std_init": -3.67, "net_arch": [64, 64]},
    ),
}  # fmt: skip
