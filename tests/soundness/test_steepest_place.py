"""Gradient ascent on the ratio ‖Δf‖/‖Δx‖ finds no pair above what is promised: layers, networks, policies."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC

import lipsrl
from lipsrl.certificates import steepest_pair
from lipsrl.networks import LipschitzMLP
from tests.families import COMBINATIONS, L2_FAMILIES, every_nth, in_turn

K = 3.0


class Arm(gym.Env):
    """Two actuators of unequal and shifted range."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, True, {}


def ascend(function, dim, seed=0):
    """Steepest slope that a short search finds."""
    starts = torch.randn(64, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2
    return steepest_pair(
        function, starts, torch.ones(dim, dtype=torch.float64), keep=12, rounds=4, steps=30
    ).ratio


def disturb(network, seed=0):
    """Weights as a careless optimizer leaves them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            step = torch.randn(parameter.shape, generator=generator)
            if "gains" in name:  # logarithms: past their ceiling, where a network is steepest
                step = step.abs() - parameter
            parameter.add_(step)


#: All of them are tried layer by layer in tests/layers; here some, in a network.
SOME = every_nth([(f, a) for f, a in COMBINATIONS if f in L2_FAMILIES], 3)


@pytest.mark.parametrize(("layer", "activation"), SOME)
def test_no_pair_of_a_network_is_steeper_than_its_bound(layer, activation):
    torch.manual_seed(0)
    network = LipschitzMLP(3, 2, (8, 8), K, layer, activation)
    disturb(network)
    loose = network.lipschitz_bound()
    assert ascend(network.merge().double(), 3) <= loose, "the bound holds for any weights"
    network.eval()
    assert network.lipschitz_bound() <= K
    slope = ascend(network.merge().double(), 3)
    assert 1e-3 * K < slope <= network.lipschitz_bound(), "or the test could not fail"


@pytest.mark.parametrize(
    ("layer", "algorithm", "activation"), in_turn(L2_FAMILIES, [A2C, PPO, SAC], ["relu", "tanh", "softplus"])
)
def test_no_pair_of_a_policy_is_steeper_than_its_promise(algorithm, activation, layer):
    options = {"buffer_size": 10} if algorithm is SAC else {}
    scale = np.array([0.1, 1.0, 5.0])
    model = algorithm("LipschitzMlpPolicy", Arm(), seed=0, device="cpu", **options,
                      policy_kwargs={"lipschitz_bound": K, "layer": layer, "net_arch": [8, 8],
                                     "activation": activation, "observation_scale": scale})  # fmt: skip
    model.policy.set_training_mode(True)
    disturb(model.policy.lipschitz_network)
    actor = lipsrl.actor_network(model).double()
    slope = ascend(lambda x: actor(x * torch.as_tensor(scale)), 3)
    assert 1e-4 * K < slope <= K
