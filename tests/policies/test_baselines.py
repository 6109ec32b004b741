"""What others use for smoothness, and LipsNet++'s filter in the form that keeps a bound."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from torch import nn

import lipsrl
from lipsrl.policies.baselines import (
    FourierFilter,
    LipsNet,
    LipsNetPolicy,
    SACLipsNetPolicy,
    TorchSpectralNormPolicy,
    lipsnet_plus,
)
from lipsrl.policies.baselines.lipsnet import value_and_jacobian
from lipsrl.policies.fir_filter import FIRFilter

ON = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": 0}
OFF = {"learning_starts": 16, "batch_size": 16, "buffer_size": 200, "device": "cpu", "seed": 0}
WINDOW = spaces.Box(-np.inf, np.inf, (12,))


def stacked(n=4):
    return VecFrameStack(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), n)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_jacobian_is_autograds(activation):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(3, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 2)
    ).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    value, jacobian = value_and_jacobian(network, x)
    torch.testing.assert_close(value, network(x))
    torch.testing.assert_close(jacobian, torch.stack([torch.func.jacrev(network)(row) for row in x]))


def test_lipsnet_has_the_slope_k_where_it_is_smooth_and_jumps_elsewhere():
    torch.manual_seed(0)
    net = LipsNet(2, 1, (16,), k_init=7.0).eval()
    x = torch.randn(4, 2)
    value, jacobian = value_and_jacobian(net.f, x)
    expected = (
        nn.functional.softplus(net.k(x)) * value / (jacobian.flatten(1).norm(dim=1, keepdim=True) + 1e-4)
    )
    torch.testing.assert_close(net(x), expected)
    line = torch.stack([torch.linspace(-3, 3, 200_001), torch.full((200_001,), 0.3)], dim=1)
    with torch.no_grad():
        steps = net(line).diff(dim=0).abs() / 3e-5
    assert steps.max() > 1000  # no constant: it grows with the grid
    assert steps.median() < 20


def test_lipsnet_draws_k_down_by_its_own_loss():
    net = LipsNet(2, 1, (8,), weight=0.5).train()
    x = torch.randn(16, 2)
    net(x).sum().backward()
    with_loss = net.k[-1].bias.grad.clone()
    net.zero_grad()
    net.weight = 1e-12
    net(x).sum().backward()
    k = nn.functional.softplus(net.k(x))
    slope = torch.autograd.grad(0.5 * k.square().mean(), net.k[-1].bias)[0]
    torch.testing.assert_close(with_loss - net.k[-1].bias.grad, slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cls", "policy", "options"), [(PPO, LipsNetPolicy, ON), (SAC, SACLipsNetPolicy, OFF)]
)
def test_lipsnet_learns_saves_and_is_refused_by_certify(cls, policy, options, tmp_path):
    kwargs = {"net_arch": [16, 16], "activation_fn": nn.ReLU, "lipsnet": {"k_init": 5.0}}
    model = cls(policy, "Pendulum-v1", policy_kwargs=kwargs, **options).learn(64)
    model.save(tmp_path / "model.zip")
    observation = np.ones((1, 3), np.float32)
    action = model.predict(observation, deterministic=True)[0]
    for loaded in (
        cls.load(tmp_path / "model.zip"),
        lipsrl.load_agent(tmp_path / "model.zip", vec_normalize=None).model,
    ):
        np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)
    with pytest.raises(ValueError, match="it contains LipsNet"):
        lipsrl.certify(model)
    model.policy.save(tmp_path / "policy.pth")
    again = policy.load(tmp_path / "policy.pth")
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], action)
    copy.deepcopy(model.policy)


def test_old_zips_find_the_policy_that_moved():
    import lipsrl.policies.baselines as where

    assert where.TorchSpectralNormPolicy is TorchSpectralNormPolicy
    PPO(TorchSpectralNormPolicy, "Pendulum-v1", **ON).learn(32)


def test_fourier_filter_is_a_fir_filter_over_the_window():
    torch.manual_seed(0)
    module = FourierFilter(WINDOW, n_frames=4)
    with torch.no_grad():
        module.imaginary.normal_()
    x = torch.randn(5, 12)
    (linear,) = module.merge()
    torch.testing.assert_close(linear(x), module(x).detach(), rtol=1e-5, atol=1e-5)
    weight = linear.weight.detach().reshape(3, 4, 3)
    for c in range(3):  # no sensor sees another
        assert weight[c, :, [i for i in range(3) if i != c]].abs().max() < 1e-6
    # untrained (kernel of ones) the newest frame passes
    with torch.no_grad():
        module.imaginary.zero_()
    torch.testing.assert_close(module(x), x[:, -3:], rtol=1e-5, atol=1e-5)


def test_lipsnet_plus_learns_and_its_constant_is_measured(tmp_path):
    env = stacked()
    model = PPO("LipschitzMlpPolicy", env, policy_kwargs={"net_arch": [8], **lipsnet_plus(4)}, **ON)
    before = model.policy.features_extractor.real.detach().clone()
    model.learn(64)
    assert not torch.equal(before, model.policy.features_extractor.real)
    found = lipsrl.certify(model)
    assert 0 < found.lower_bound <= found.upper_bound  # behind the stack: all four frames move, √4
    model.save(tmp_path / "model.zip")
    agent = lipsrl.load_agent(tmp_path / "model.zip", vec_normalize=None)
    assert lipsrl.certify(agent.model, vec_normalize=None).upper_bound == pytest.approx(found.upper_bound / 2)


@pytest.mark.parametrize(("cls", "options"), [(PPO, ON), (SAC, OFF)])
def test_fir_in_front_of_sandwich_keeps_the_bound(cls, options, tmp_path):
    kwargs = {
        "lipschitz_bound": 3.0,
        "net_arch": [16],
        "features_extractor_class": FIRFilter,
        "features_extractor_kwargs": {"n_frames": 4},
    }
    model = cls("LipschitzMlpPolicy", stacked(), policy_kwargs=kwargs, learning_rate=1e-2, **options).learn(
        96
    )
    extractor = (model.policy if cls is PPO else model.actor).features_extractor
    assert not torch.equal(extractor.taps()[:-1], torch.zeros(3, 3))
    found = lipsrl.certify(model)
    assert found.lower_bound <= found.upper_bound <= 2 * 3.0 * (1 + 1e-9)  # all four frames move: √4
    model.save(tmp_path / "model.zip")
    agent = lipsrl.load_agent(tmp_path / "model.zip", vec_normalize=None)
    assert lipsrl.certify(agent.model, vec_normalize=None).upper_bound <= 3.0 * (1 + 1e-9)


def test_fir_norm_is_that_of_its_matrix_for_any_taps():
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        module = FIRFilter(WINDOW, n_frames=4, bound=2.0)
        with torch.no_grad():
            module.raw_taps.copy_(torch.as_tensor(scale * rng.normal(size=(4, 3))))
        (linear,) = module.merge()
        norm = np.linalg.norm(linear.weight.detach().double().numpy(), 2)
        assert norm <= module.lipschitz_bound() <= 2.0
        assert module.lipschitz_bound() <= norm * (1 + 1e-12)
        x = torch.randn(5, 12)
        torch.testing.assert_close(linear(x), module(x), rtol=1e-5, atol=1e-5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"FIRFilter needs a vector of n_frames=5 frames"):
        FIRFilter(WINDOW, n_frames=5)
    with pytest.raises(ValueError, match=r"FourierFilter needs a vector"):
        FourierFilter(spaces.Discrete(3), n_frames=1)
    with pytest.raises(ValueError, match=r"activation must be nn\.ReLU or nn\.Tanh"):
        LipsNet(2, 1, activation=nn.ELU)
    with pytest.raises(ValueError, match="no gSDE"):
        SAC(SACLipsNetPolicy, "Pendulum-v1", use_sde=True, **OFF)
