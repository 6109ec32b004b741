"""Every algorithm, action space and observation space, tiny: what the tests of all policies share."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
from gymnasium import spaces

ON_POLICY = {"n_steps": 16, "learning_rate": 3e-3}
OFF_POLICY = {"learning_starts": 8, "batch_size": 8, "buffer_size": 200, "learning_rate": 3e-3}
ALL_ACTIONS = ("box", "discrete", "multidiscrete", "multibinary")

#: name → (class, arguments, action spaces).
ALGORITHMS = {
    "PPO": (sb3.PPO, {**ON_POLICY, "batch_size": 8, "n_epochs": 2}, ALL_ACTIONS),
    "A2C": (sb3.A2C, ON_POLICY, ALL_ACTIONS),
    "TRPO": (sb3_contrib.TRPO, {**ON_POLICY, "batch_size": 8, "n_critic_updates": 2}, ALL_ACTIONS),
    "MaskablePPO": (sb3_contrib.MaskablePPO, {**ON_POLICY, "batch_size": 8, "n_epochs": 2}, ALL_ACTIONS[1:]),
    "SAC": (sb3.SAC, OFF_POLICY, ("box",)),
    "TD3": (sb3.TD3, OFF_POLICY, ("box",)),
    "DDPG": (sb3.DDPG, OFF_POLICY, ("box",)),
    "TQC": (sb3_contrib.TQC, OFF_POLICY, ("box",)),
    "CrossQ": (sb3_contrib.CrossQ, OFF_POLICY, ("box",)),
    "DQN": (sb3.DQN, {**OFF_POLICY, "train_freq": 2, "target_update_interval": 8}, ("discrete",)),
    "QRDQN": (
        sb3_contrib.QRDQN, {**OFF_POLICY, "train_freq": 2, "target_update_interval": 8}, ("discrete",)
    ),
    "ARS": (sb3_contrib.ARS, {"n_delta": 2, "zero_policy": False}, ("box", "discrete")),
}  # fmt: skip

ACTIONS = {
    # unequal and shifted ranges: what a scaling mistake would show on
    "box": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)),
    "discrete": spaces.Discrete(3),
    "multidiscrete": spaces.MultiDiscrete([2, 3]),
    "multibinary": spaces.MultiBinary(3),
}
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
OBSERVATIONS = {
    "vector": spaces.Box(-np.inf, np.inf, (3,)),
    "discrete": spaces.Discrete(4),
    "multidiscrete": spaces.MultiDiscrete([3, 2]),
    "multibinary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"a": spaces.Box(-5, 5, (2,)), "b": spaces.Discrete(3)}),
    "image": IMAGE,
    "dict with image": spaces.Dict({"camera": IMAGE, "speed": spaces.Box(-5, 5, (2,))}),
}


class Tiny(gym.Env):
    """Random observations and rewards: nothing to learn, everything moves."""

    def __init__(self, observation="vector", action="box"):
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self._t = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self._t += 1
        reward = float(np.sum(action) * self.np_random.normal())
        return self.observation_space.sample(), reward, False, self._t >= 10, {}

    def action_masks(self):
        space = self.action_space
        if isinstance(space, spaces.MultiBinary):
            return np.ones(2 * space.n, dtype=bool)
        sizes = [space.n] if isinstance(space, spaces.Discrete) else space.nvec
        return np.concatenate([np.arange(n) < max(1, n - 1) for n in sizes])


def alias(observation):
    if observation.startswith("dict"):
        return "LipschitzMultiInputPolicy"
    return "LipschitzCnnPolicy" if observation == "image" else "LipschitzMlpPolicy"


def build(
    algorithm,
    *,
    observation="vector",
    action=None,
    policy=None,
    seed=0,
    env=None,
    arguments=(),
    **policy_kwargs,
):
    """A model of tiny networks."""
    cls, options, actions = ALGORITHMS[algorithm]
    kwargs = {"lipschitz_bound": 3.0, "net_arch": [8, 8], **policy_kwargs}
    if algorithm == "QRDQN":  # 200 each by default: a Jacobian has as many rows
        kwargs.setdefault("n_quantiles", 6)
    if kwargs["lipschitz_bound"] is None:  # a stock policy
        del kwargs["lipschitz_bound"]
    if "image" in observation:
        small = {"features_dim": 8} if observation == "image" else {"cnn_output_dim": 8}
        kwargs.setdefault("features_extractor_kwargs", small)
    return cls(
        policy or alias(observation),
        env or Tiny(observation, action or actions[0]),
        policy_kwargs=kwargs,
        seed=seed,
        device="cpu",
        **{**options, **dict(arguments)},
    )


def sample(space, n=32, seed=0):
    """A batch of observations as ``predict`` takes it."""
    if isinstance(space, spaces.Dict):
        return {key: sample(entry, n, seed) for key, entry in space.spaces.items()}
    space.seed(seed)
    return np.stack([np.asarray(space.sample()) for _ in range(n)])
