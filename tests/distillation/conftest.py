"""A cart to be parked, and teachers whose parking law is written into their weights."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
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


class SteppedCart(Cart):
    """The same cart with one motor of three settings."""

    FORCES = np.array([-1.5, 0.0, 1.5])
    action_space = spaces.Discrete(3)

    def step(self, action):
        return super().step(np.array([self.FORCES[int(action)], 0.0]))

    def action_masks(self):
        return np.ones(3, dtype=bool)


class TwoLeverCart(Cart):
    """Two such motors, each with a lever of its own."""

    action_space = spaces.MultiDiscrete([3, 2])

    def step(self, action):
        return super().step(np.array([SteppedCart.FORCES[action[0]], 0.2 * (2 * action[1] - 1.0)]))


class ButtonCart(Cart):
    """A button for each direction."""

    action_space = spaces.MultiBinary(2)

    def step(self, action):
        return super().step(np.array([1.5 * (float(action[0]) - float(action[1])), 0.0]))


@pytest.fixture(scope="session")
def cart():
    return Cart


@pytest.fixture(scope="session")
def stepped_cart():
    return SteppedCart


@pytest.fixture(scope="session")
def make_cart():
    """The cart that an algorithm's teacher drives."""
    return {"box": Cart, "discrete": SteppedCart, "multi-discrete": TwoLeverCart, "multi-binary": ButtonCart}


ON_POLICY = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "learning_rate": 3e-3, "gamma": 0.97}
OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 300, "gamma": 0.97, "tau": 0.1}
OPTIONS = {
    PPO: ON_POLICY,
    MaskablePPO: ON_POLICY,
    A2C: {"learning_rate": 3e-3, "gamma": 0.97},
    TRPO: {"n_steps": 64, "batch_size": 32, "gamma": 0.97},
    SAC: OFF_POLICY,
    TQC: OFF_POLICY,
    TD3: OFF_POLICY,
    DDPG: OFF_POLICY,
    CrossQ: {key: value for key, value in OFF_POLICY.items() if key != "tau"},
    DQN: OFF_POLICY,
    QRDQN: OFF_POLICY,
}
ACTORS = (SAC, TQC, TD3, DDPG, CrossQ)


def build_teacher(algorithm, env=None, scripted=True, **options):
    """An agent that parks the cart: clipped, squashed or greedy linear feedback, critics as they came."""
    policy_kwargs = {"net_arch": {"pi": [], "vf": [12, 8]}, "activation_fn": nn.Tanh, "log_std_init": -1.0}
    if algorithm in ACTORS:
        policy_kwargs = {"net_arch": {"pi": [4], "qf": [12]}}
    elif algorithm in (DQN, QRDQN):
        policy_kwargs = {"net_arch": []} | ({"n_quantiles": 3} if algorithm is QRDQN else {})
    elif algorithm is MaskablePPO:
        del policy_kwargs["log_std_init"]
    policy_kwargs |= options.pop("policy_kwargs", {})
    env = DummyVecEnv([lambda: Monitor(Cart())] * 2) if env is None else env
    given = {"seed": 3, "device": "cpu", "policy_kwargs": policy_kwargs} | OPTIONS[algorithm] | options
    model = algorithm("MlpPolicy", env, **given)
    if scripted:
        with torch.no_grad():
            write_law(model)
    return model


def write_law(model):
    law = torch.as_tensor(LAW, dtype=torch.float32)
    policy = model.policy
    if isinstance(model, ACTORS):
        if isinstance(model, CrossQ):
            return  # behind its normalisation layers there is no simple law
        # two pairs of ReLUs carry ± the law; tanh(force / half range)
        half = torch.tensor([2.0, 1.0])
        if hasattr(policy.actor, "latent_pi"):
            hidden, mu = policy.actor.latent_pi[0], policy.actor.mu
            mu = mu[0] if isinstance(mu, nn.Sequential) else mu
        else:
            hidden, mu = policy.actor.mu[0], policy.actor.mu[2]
        hidden.weight.copy_(torch.cat([law, -law]))
        hidden.bias.zero_()
        mu.weight.copy_(torch.cat([torch.diag(1 / half), -torch.diag(1 / half)], dim=1))
        mu.bias.zero_()
    elif isinstance(model.action_space, spaces.Box):
        policy.action_net.weight.copy_(law)
    elif isinstance(model.action_space, spaces.Discrete):
        # -(wanted - force)²: linear in the observation up to what all three share
        forces = torch.as_tensor(SteppedCart.FORCES, dtype=torch.float32)
        weight, bias = 2 * forces[:, None] * law[1], -(forces**2)
        if isinstance(model, QRDQN):
            head, n = policy.quantile_net.quantile_net[0], policy.quantile_net.n_quantiles
            weight, bias = weight.repeat(n, 1), bias.repeat(n)
        else:
            head = policy.q_net.q_net[0] if isinstance(model, DQN) else policy.action_net
        head.weight.copy_(weight)
        head.bias.copy_(bias + 40.0)  # a level that says nothing
    else:
        rows = [[-2, 0, 2, -1, 1], [1, -1]][isinstance(model.action_space, spaces.MultiBinary)]
        policy.action_net.weight.copy_(torch.tensor(rows, dtype=torch.float32)[:, None] * law[1])


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
