"""A cart to be parked, and teachers whose parking law is written into their weights."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

#: force = LAW · [position, speed], clipped or squashed to the range of each motor
LAW = np.array([[-5.0, -4.0], [-2.5, -2.0]])


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


class Cart(gym.Env):
    """Two motors of unequal and shifted range push one cart; 40 steps of 0.1 s."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(np.array([-2.0, -0.5], np.float32), np.array([2.0, 1.5], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform([-1.5, -1.0], [1.5, 1.0])
        self.left = 40
        return self.state.astype(np.float32), {}

    def step(self, action):
        position, speed = self.state
        speed += 0.1 * float(np.sum(action))
        self.state = np.array([position + 0.1 * speed, speed])
        self.left -= 1
        cost = position**2 + 0.1 * speed**2 + 0.01 * float(np.sum(np.square(action)))
        return self.state.astype(np.float32), -cost, False, self.left == 0, {}


@pytest.fixture(scope="session")
def cart():
    return Cart


OPTIONS = {
    PPO: {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "learning_rate": 3e-3, "gamma": 0.97},
    A2C: {"learning_rate": 3e-3, "gamma": 0.97},
    SAC: {"learning_starts": 20, "batch_size": 16, "buffer_size": 300, "gamma": 0.97, "tau": 0.1},
}


def build_teacher(algorithm, env=None, scripted=True, **options):
    """An agent that parks the cart: ``tanh``- or clip-limited linear feedback, critics as they came."""
    policy_kwargs = {"net_arch": {"pi": [], "vf": [12, 8]}, "activation_fn": nn.Tanh, "log_std_init": -1.0}
    if algorithm is SAC:
        policy_kwargs = {"net_arch": {"pi": [4], "qf": [12]}}
    policy_kwargs |= options.pop("policy_kwargs", {})
    env = DummyVecEnv([lambda: Monitor(Cart())] * 2) if env is None else env
    given = {"seed": 3, "device": "cpu", "policy_kwargs": policy_kwargs} | OPTIONS[algorithm] | options
    model = algorithm("MlpPolicy", env, **given)
    if not scripted:
        return model
    with torch.no_grad():
        if algorithm is SAC:
            # two pairs of ReLUs carry ± the law; tanh(force / half range)
            half = torch.tensor([2.0, 1.0])
            law = torch.as_tensor(LAW, dtype=torch.float32)
            hidden = model.policy.actor.latent_pi[0]
            hidden.weight.copy_(torch.cat([law, -law]))
            hidden.bias.zero_()
            mu = model.policy.actor.mu
            mu = mu[0] if isinstance(mu, nn.Sequential) else mu
            mu.weight.copy_(torch.cat([torch.diag(1 / half), -torch.diag(1 / half)], dim=1))
            mu.bias.zero_()
        else:
            model.policy.action_net.weight.copy_(torch.as_tensor(LAW))
    return model


@pytest.fixture(scope="session")
def make_teacher():
    return build_teacher


@pytest.fixture(scope="session")
def teacher():
    """Stock PPO; not to be changed."""
    return build_teacher(PPO)


@pytest.fixture(scope="session")
def normalized_teacher():
    """Stock PPO on a VecNormalize with statistics of its own."""
    venv = VecNormalize(DummyVecEnv([lambda: Monitor(Cart())]), clip_obs=5.0, gamma=0.97)
    venv.obs_rms.mean[:] = [0.1, -0.1]
    venv.obs_rms.var[:] = [4.0, 0.25]
    venv.ret_rms.var = np.float64(7.0)
    return build_teacher(PPO, venv)
