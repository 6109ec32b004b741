"""Small untrained models, scaled so that their actions move."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.families import open_gains

LIPSCHITZ_BOUND = 4.0


class Stub(gym.Env):
    """Three sensors, two actions; only its spaces matter."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-3.0, 3.0, (2,), np.float32)


def scale(module, factor):
    with torch.no_grad():
        module.weight.mul_(factor)


def make_ppo(env="Pendulum-v1", **options):
    model = PPO("MlpPolicy", env, seed=0, device="cpu", **options)
    scale(model.policy.action_net, 100.0)
    return model


def make_sac(env="Pendulum-v1"):
    model = SAC("MlpPolicy", env, seed=0, device="cpu", buffer_size=10, policy_kwargs={"net_arch": [32]})
    scale(model.actor.mu, 5.0)
    return model


def make_td3():
    model = TD3(
        "MlpPolicy", "Pendulum-v1", seed=0, device="cpu", buffer_size=10, policy_kwargs={"net_arch": [32]}
    )
    scale(model.actor.mu[-2], 5.0)
    return model


def make_lipschitz(algorithm, **options):
    policy_kwargs = {"lipschitz_bound": LIPSCHITZ_BOUND, "net_arch": [16, 16]}
    model = algorithm(
        "LipschitzMlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs=policy_kwargs, **options
    )
    # from the small initial gain up to the bound: the next train → eval transition projects
    model.policy.set_training_mode(True)
    open_gains(model.policy.lipschitz_network)
    scale(model.policy.lipschitz_network.head, 1000.0)
    model.policy.set_training_mode(False)
    return model


def make_normalized():
    """Attached to a VecNormalize with statistics of its own."""
    venv = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0), norm_reward=False, clip_obs=3.0)
    venv.obs_rms.mean[:] = [0.3, -0.2, 1.0]
    venv.obs_rms.var[:] = [0.04, 0.6, 9.0]
    return make_ppo(venv)


#: where VecNormalize stands, if there is one
STACKED = ["plain", "inside", "outside"]


def make_stacked(kind):
    """Behind three frames, with a VecNormalize inside or outside of the stack, or none."""
    venv = make_vec_env("Pendulum-v1", 2, seed=0)
    if kind != "plain":
        rng = np.random.default_rng(3)
        venv = venv if kind == "inside" else VecFrameStack(venv, 3)
        venv = VecNormalize(venv, norm_reward=False, clip_obs=3.0)
        venv.obs_rms.mean[:] = np.tile([0.3, -0.2, 1.0], 3)[: venv.obs_rms.mean.size]
        venv.obs_rms.var[:] = np.tile([0.04, 0.6, 9.0], 3)[: venv.obs_rms.mean.size]
        if kind == "outside":  # frames with statistics of their own
            venv.obs_rms.mean += 0.1 * rng.normal(size=9)
            venv.obs_rms.var *= rng.uniform(0.5, 2.0, size=9)
    return make_ppo(venv if kind == "outside" else VecFrameStack(venv, 3))


def make_tqc():
    model = TQC(
        "MlpPolicy", "Pendulum-v1", seed=0, device="cpu", buffer_size=10, policy_kwargs={"net_arch": [32]}
    )
    scale(model.actor.mu, 5.0)
    return model


def make_ddpg():
    model = DDPG(
        "MlpPolicy", "Pendulum-v1", seed=0, device="cpu", buffer_size=10, policy_kwargs={"net_arch": [32]}
    )
    scale(model.actor.mu[-2], 5.0)
    return model


def make_on_policy(algorithm, env="Pendulum-v1"):
    model = algorithm("MlpPolicy", env, seed=0, device="cpu")
    scale(model.policy.action_net, 100.0)
    return model


class Choosing(Stub):
    """The same sensors, three actions."""

    action_space = spaces.Discrete(3)


class ChoosingTwice(Stub):
    action_space = spaces.MultiDiscrete([3, 2])


class Switching(Stub):
    action_space = spaces.MultiBinary(2)


def make_discrete(algorithm, **options):
    return algorithm("MlpPolicy", DummyVecEnv([Choosing]), seed=0, device="cpu", buffer_size=10, **options)


#: models with discrete actions
DISCRETE_MAKERS = {
    "ppo-discrete": lambda: make_on_policy(PPO, DummyVecEnv([Choosing])),
    "ppo-multi-discrete": lambda: make_on_policy(PPO, DummyVecEnv([ChoosingTwice])),
    "dqn": lambda: make_discrete(DQN),
    "qrdqn": lambda: make_discrete(QRDQN),
}

#: models behind a frame stack
STACKED_MAKERS = {f"ppo-stack-{kind}": lambda kind=kind: make_stacked(kind) for kind in STACKED}

MAKERS = {
    "ppo": make_ppo,
    "ppo-two-actions": lambda: make_ppo(DummyVecEnv([Stub])),
    "ppo-gsde": lambda: make_ppo(use_sde=True, policy_kwargs={"log_std_init": -1.0}),
    "ppo-gsde-quiet": lambda: make_ppo(use_sde=True, policy_kwargs={"log_std_init": -9.0}),
    "ppo-normalized": make_normalized,
    "sac": make_sac,
    "td3": make_td3,
    "ddpg": make_ddpg,
    "tqc": make_tqc,
    "a2c": lambda: make_on_policy(A2C),
    "trpo": lambda: make_on_policy(TRPO),
    "lipschitz-ppo": lambda: make_lipschitz(PPO),
    "lipschitz-sac": lambda: make_lipschitz(SAC, buffer_size=10),
}
