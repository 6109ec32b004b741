"""Models of every kind that is exported, with weights that training has moved, and a file to damage."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import lipsrl
from lipsrl.layers import ACTIVATIONS
from lipsrl.layers._plain import Residual


class Spaces(gym.Env):
    """Any spaces; random observations."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def normalized_ppo(policy, **policy_kwargs):
    venv = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0), norm_reward=False)
    policy_kwargs = {"net_arch": [24, 16], **policy_kwargs}
    model = PPO(
        policy, venv, seed=0, device="cpu", n_steps=128, learning_rate=1e-2, policy_kwargs=policy_kwargs
    )
    return model.learn(256)


def sac(policy, **policy_kwargs):
    model = SAC(
        policy, "Pendulum-v1", seed=0, device="cpu", learning_starts=50, learning_rate=3e-3,
        policy_kwargs={"net_arch": [24, 16], **policy_kwargs},
    )  # fmt: skip
    return model.learn(100)


def residual_ppo():
    """Residual blocks at the start, with a skip that changes the size, in a row and inside each other."""
    model = normalized_ppo("MlpPolicy", net_arch={"pi": [5], "vf": [8]})
    torch.manual_seed(0)
    inner = Residual([nn.Linear(5, 5), ACTIVATIONS["group_sort"](), nn.Linear(5, 5)], torch.eye(5))
    model.policy.mlp_extractor.policy_net = nn.Sequential(
        Residual([nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 5, bias=False)], torch.eye(5, 3)),
        nn.Identity(),
        Residual([inner, nn.Tanh(), nn.Linear(5, 5)], torch.randn(5, 5) / 2),
        ACTIVATIONS["householder"](5),
        Residual([nn.Linear(5, 5)], torch.eye(5)),
    )
    return model


def dqn():
    arch = {"net_arch": [24, 16]}
    model = DQN(
        "MlpPolicy", "CartPole-v1", seed=0, device="cpu", learning_starts=50, policy_kwargs=arch
    ).learn(300)
    with torch.no_grad():  # so young an agent prefers one action everywhere
        values = model.q_net(3 * torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)))
        model.q_net.q_net[-1].bias -= values.median(0).values
    return model


MODELS = {
    "ppo": lambda: normalized_ppo("MlpPolicy"),
    "ppo-relu": lambda: normalized_ppo("MlpPolicy", activation_fn=torch.nn.ReLU),
    "ppo-lipschitz": lambda: normalized_ppo("LipschitzMlpPolicy", lipschitz_bound=8.0),
    "ppo-gsde": lambda: PPO(
        "MlpPolicy",
        "Pendulum-v1",
        use_sde=True,
        seed=0,
        device="cpu",
        n_steps=64,
        policy_kwargs={"squash_output": True, "net_arch": [24, 16]},
    ),
    "a2c-lipschitz-scaled": lambda: A2C(
        "LipschitzMlpPolicy",
        "Pendulum-v1",
        seed=0,
        device="cpu",
        policy_kwargs={
            "lipschitz_bound": 3.0,
            "layer": "spectral",
            "observation_scale": [1.0, 1.0, 8.0],
            "net_arch": [24, 16],
        },
        learning_rate=5e-3,
    ).learn(300),
    "sac": lambda: sac("MlpPolicy"),
    "sac-gsde": lambda: sac("MlpPolicy", use_sde=True),
    "sac-lipschitz": lambda: sac("LipschitzMlpPolicy", lipschitz_bound=8.0),
    "ppo-residual": residual_ppo,
    "ppo-householder": lambda: normalized_ppo(
        "LipschitzMlpPolicy",
        lipschitz_bound=8.0,
        layer="spectral",
        activation="householder",
        net_arch=[33, 16],
    ),
    "td3": lambda: TD3(
        "MlpPolicy",
        "Pendulum-v1",
        seed=0,
        device="cpu",
        buffer_size=10,
        policy_kwargs={"net_arch": [24, 16]},
    ),
    "dqn": dqn,
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """name → (model, its NumPy twin); each is made once."""
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def get(name):
        if name not in made:
            model = MODELS[name]()
            made[name] = model, lipsrl.load_policy(lipsrl.export(model, folder / f"{name}.safetensors"))
        return made[name]

    return get


@pytest.fixture(scope="session")
def small_model():
    space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    env = Spaces(spaces.Box(-5.0, 5.0, (3,), np.float32), space)
    return PPO(
        "MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}
    )


@pytest.fixture(scope="session")
def small_file(small_model, tmp_path_factory):
    return lipsrl.export(small_model, tmp_path_factory.mktemp("small") / "policy.safetensors")


@pytest.fixture
def spaces_env():
    return Spaces
