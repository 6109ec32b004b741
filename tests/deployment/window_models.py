"""Models behind frame stacks, normalised inside, around, both or not at all, and an environment of short episodes."""

from functools import partial

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

FRAMES, SLOTS = 4, 3


class Drift(gym.Env):
    """Three sensors of very different offset and spread that the action moves; episodes of 3 to 12 steps."""

    action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
    offset, spread = np.array([0.0, 20.0, -3.0]), np.array([1.0, 5.0, 0.1])

    def __init__(self, dtype=np.float32):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.standard_normal(3)
        self.left = int(self.np_random.integers(3, 13))
        return self.look(), {}

    def look(self):
        self.raw = (self.offset + self.spread * self.state).astype(self.observation_space.dtype)
        return self.raw

    def step(self, action):
        self.state = 0.8 * self.state + 0.3 * self.np_random.standard_normal(3)
        self.state[:2] += 0.2 * action
        self.left -= 1
        return self.look(), -float(np.square(self.state).sum()), self.left == 0, False, {}


def stacked(where, dtype=np.float32, slots=SLOTS, frames=FRAMES, seed=0):
    """The environments behind their stack; ``where``: of the normalisation."""
    make = partial(Drift, dtype)
    if where.startswith("gymnasium"):
        make = partial(lambda: gym.wrappers.NormalizeObservation(Drift(dtype)))
    venv = DummyVecEnv([make] * slots)
    venv.seed(seed)
    if where == "inside":
        venv = VecNormalize(venv, norm_reward=False, clip_obs=2.0)
    venv = VecFrameStack(venv, frames)
    if where.endswith("around"):
        venv = VecNormalize(venv, norm_reward=False, clip_obs=2.0)
    return venv


def trained(where, dtype=np.float32, policy="MlpPolicy", **policy_kwargs):
    """A model whose action moves noticeably with every frame, and whose statistics no longer change."""
    venv = stacked(where, dtype, 1 if where.startswith("gymnasium") else SLOTS)
    policy_kwargs = {"net_arch": [24, 16], **policy_kwargs}
    model = PPO(
        policy, venv, seed=0, device="cpu", n_steps=64, batch_size=64, policy_kwargs=policy_kwargs
    ).learn(192)
    if policy == "MlpPolicy":
        with torch.no_grad():
            model.policy.action_net.weight.mul_(30.0)
    statistics = model.get_vec_normalize_env()
    if statistics is not None:
        statistics.training = False
    for env in venv.unwrapped.envs:
        if isinstance(env, gym.wrappers.NormalizeObservation):
            env.update_running_mean = False
    return model


def readings(model):
    """(slots, 3): what the sensors say now."""
    return np.stack([env.unwrapped.raw for env in model.get_env().unwrapped.envs])
