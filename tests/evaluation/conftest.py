"""Small models with actions of every size, and environments with a known end."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ppo():
    """Untrained, but with a head large enough to reach the torque limit."""
    model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
    with torch.no_grad():
        model.policy.action_net.weight.mul_(1500.0)
    return model


@pytest.fixture(scope="session")
def sac():
    return SAC(
        "MlpPolicy", "Pendulum-v1", seed=1, device="cpu", policy_kwargs={"net_arch": [32, 32]}, buffer_size=10
    )


@pytest.fixture(scope="session")
def dqn():
    return DQN("MlpPolicy", "CartPole-v1", seed=2, device="cpu", buffer_size=10)


@pytest.fixture(scope="session")
def normalized_ppo():
    """Attached to a VecNormalize with statistics of its own."""
    venv = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0), norm_reward=False)
    venv.obs_rms.mean[:] = [0.3, -0.2, 1.0]
    venv.obs_rms.var[:] = [0.4, 0.6, 9.0]
    model = PPO("MlpPolicy", venv, seed=3, device="cpu")
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100.0)
    return model


class Countdown(gym.Env):
    """Terminates or is truncated after a number of steps that the seed decides; each step is worth 1."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 40))
        self.total = self.left
        return self._observe(), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return self._observe(), 1.0, over and self.total % 2 == 0, over and self.total % 2 == 1, {}

    def _observe(self):
        return np.array([self.left, self.total], dtype=np.float32)


@pytest.fixture
def countdown():
    return Countdown


@pytest.fixture
def registered_countdown(countdown):
    """Under an id, so that a stored episode can be recognised."""
    gym.register("Countdown-v0", entry_point=countdown)
    yield "Countdown-v0"
    del gym.registry["Countdown-v0"]
