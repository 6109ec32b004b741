"""Hyperparameters of rl-baselines3-zoo (version 2.9.2, hyperparams/ALGORITHM.yml), as they stand there.

Left out: what is SB3's default, normalisation, which is the task's, and ``ortho_init=False``, of which Lipschitz actors
take no notice. Environments of MuJoCo are -v4 there, and -v5 here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from agents.recipe import Settings


def linear(start: float) -> LinearSchedule:
    """The zoo's ``lin_…``: from ``start`` to 0 over the training."""
    return LinearSchedule(start, 0.0, 1.0)


def _wide(log_std: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"net_arch": [256, 256], "activation_fn": nn.ReLU}
    return found if log_std is None else {**found, "log_std_init": log_std}


_SMALL: dict[str, Any] = {"net_arch": [64, 64], "activation_fn": nn.Tanh}

PPO_ZOO = {
    "inverted-pendulum": Settings(
        1_000_000, 1,
        {
            "n_steps": 32, "batch_size": 32, "gamma": 0.999, "learning_rate": 2.22425e-4, "ent_coef": 1.37976e-7,
            "clip_range": 0.4, "n_epochs": 5, "gae_lambda": 0.9, "max_grad_norm": 0.3, "vf_coef": 0.19816,
        },
        _SMALL,
    ),  # the zoo's batch of 64 is more than there are rows: SB3 takes 32 and warns
    "mountain-car-continuous": Settings(
        20_000, 1,
        {
            "n_steps": 8, "batch_size": 8, "gamma": 0.9999, "learning_rate": 7.77e-5, "ent_coef": 0.00429,
            "clip_range": 0.1, "n_epochs": 10, "gae_lambda": 0.9, "max_grad_norm": 5, "vf_coef": 0.19, "use_sde": True,
        },
        {**_SMALL, "log_std_init": -3.29},
    ),  # the zoo's batch of 256 is more than there are rows: SB3 takes 8 and warns
    "bipedal-walker": Settings(
        5_000_000, 32,
        {
            "n_steps": 2048, "batch_size": 64, "gamma": 0.999, "learning_rate": 3e-4, "clip_range": 0.18,
            "n_epochs": 10, "gae_lambda": 0.95,
        },
        _SMALL,
    ),
    "half-cheetah": Settings(
        1_000_000, 1,
        {
            "n_steps": 512, "batch_size": 64, "gamma": 0.98, "learning_rate": 2.0633e-5, "ent_coef": 0.000401762,
            "clip_range": 0.1, "n_epochs": 20, "gae_lambda": 0.92, "max_grad_norm": 0.8, "vf_coef": 0.58096,
        },
        _wide(-2),
    ),
    "walker2d": Settings(
        1_000_000, 1,
        {
            "n_steps": 512, "batch_size": 32, "gamma": 0.99, "learning_rate": 5.05041e-5, "ent_coef": 0.000585045,
            "clip_range": 0.1, "n_epochs": 20, "gae_lambda": 0.95, "max_grad_norm": 1, "vf_coef": 0.871923,
        },
        _SMALL,
    ),
    "ant": Settings(1_000_000, 1, {}, _SMALL),
    "swimmer": Settings(
        1_000_000, 4,
        {"n_steps": 1024, "batch_size": 256, "gamma": 0.9999, "learning_rate": 6e-4, "gae_lambda": 0.98},
        _SMALL,
    ),
    "cart-pole": Settings(
        100_000, 8,
        {
            "n_steps": 32, "batch_size": 256, "gamma": 0.98, "learning_rate": linear(0.001), "clip_range": linear(0.2),
            "n_epochs": 20, "gae_lambda": 0.8,
        },
        _SMALL,
    ),
    "lunar-lander": Settings(
        1_000_000, 16,
        {"n_steps": 1024, "batch_size": 64, "n_epochs": 4, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.01},
        _SMALL,
    ),
}  # fmt: skip

#: The walker's, and LunarLander's, of SAC and TQC alike.
_LANDER = {
    "batch_size": 256, "learning_rate": linear(7.3e-4), "tau": 0.01, "learning_starts": 10_000,
}  # fmt: skip
_WALKER = {
    "learning_rate": 7.3e-4, "buffer_size": 300_000, "gamma": 0.98, "tau": 0.02, "train_freq": 64,
    "gradient_steps": 64, "learning_starts": 10_000, "use_sde": True,
}  # fmt: skip
_CAR = {
    "learning_rate": 3e-4, "buffer_size": 50_000, "batch_size": 512, "ent_coef": 0.1, "train_freq": 32,
    "gradient_steps": 32, "gamma": 0.9999, "tau": 0.01, "learning_starts": 0, "use_sde": True,
}  # fmt: skip
_DEEP: dict[str, Any] = {"net_arch": [400, 300], "activation_fn": nn.ReLU}
_MUJOCO = {"learning_starts": 10_000}

SAC_ZOO = {
    "mountain-car-continuous": Settings(
        50_000,
        1,
        _CAR,
        {"net_arch": [64, 64], "activation_fn": nn.ReLU, "log_std_init": -3.67, "use_expln": True},
    ),
    "lunar-lander-continuous": Settings(500_000, 1, _LANDER, _DEEP),
    "bipedal-walker": Settings(500_000, 1, _WALKER, {**_DEEP, "log_std_init": -3, "use_expln": True}),
    **{
        task: Settings(1_000_000, 1, _MUJOCO, _wide())
        for task in ("hopper", "walker2d", "half-cheetah", "ant")
    },
    "swimmer": Settings(1_000_000, 1, {**_MUJOCO, "gamma": 0.999}, _wide()),
}

#: TQC has what SAC has, but for Hopper.
TQC_ZOO = SAC_ZOO | {
    "pendulum": Settings(20_000, 1, {"learning_rate": 1e-3}, _wide()),
    "hopper": Settings(1_000_000, 1, {**_MUJOCO, "top_quantiles_to_drop_per_net": 5}, _wide()),
}


def _normal(actions: int, sigma: float = 0.1) -> NormalActionNoise:
    return NormalActionNoise(np.zeros(actions), np.full(actions, sigma))


def _td3(actions: int) -> dict[str, Any]:
    return {
        "gamma": 0.98, "buffer_size": 200_000, "learning_starts": 10_000, "learning_rate": 1e-3, "train_freq": 1,
        "gradient_steps": 1, "action_noise": _normal(actions),
    }  # fmt: skip


def _td3_mujoco(actions: int) -> dict[str, Any]:
    return {
        "learning_starts": 10_000, "learning_rate": 1e-3, "batch_size": 256, "train_freq": 1, "gradient_steps": 1,
        "action_noise": _normal(actions),
    }  # fmt: skip


TD3_ZOO = {
    "pendulum": Settings(20_000, 1, _td3(1), _DEEP),
    "mountain-car-continuous": Settings(
        300_000, 1,
        {
            "learning_rate": 1e-3, "batch_size": 256, "train_freq": 1, "gradient_steps": 1,
            "action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.5)),
        },
        _DEEP,
    ),
    "lunar-lander-continuous": Settings(300_000, 1, _td3(2), _DEEP),
    "bipedal-walker": Settings(1_000_000, 1, _td3(4), _DEEP),
    **{
        task: Settings(1_000_000, 1, _td3_mujoco(actions), _DEEP)
        for task, actions in (("hopper", 3), ("walker2d", 6), ("half-cheetah", 6), ("ant", 8))
    },
    "swimmer": Settings(1_000_000, 1, {**_td3_mujoco(2), "gamma": 0.9999}, _DEEP),
}  # fmt: skip
