"""Models that would fool a certificate: refused with the reason, or bounded soundly."""

from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)
from torch import nn

import lipsrl


class Arm(gym.Env):
    def __init__(self, action_space=None, observation_space=None):
        self.action_space = action_space or spaces.Box(-2.0, 2.0, (2,))
        self.observation_space = observation_space or spaces.Box(-np.inf, np.inf, (3,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, True, {}


def stock(activation=nn.Tanh, algorithm=PPO, env=None, **policy):
    options = {} if algorithm in (PPO, A2C) else {"buffer_size": 10}
    kwargs = {"activation_fn": activation, "net_arch": [8, 8], **policy}
    return algorithm("MlpPolicy", env or Arm(), policy_kwargs=kwargs, device="cpu", seed=0, **options)


def certify(model, **kwargs):
    return lipsrl.certify(model, n_starts=64, **kwargs)


class TenfoldLeaky(nn.LeakyReLU):
    def forward(self, x):
        return 10 * x


class TenfoldLinear(nn.Linear):
    def forward(self, x):
        return 10 * super().forward(x)


class TenfoldSequential(nn.Sequential):
    def forward(self, x):
        return 10 * super().forward(x)


class TenfoldExtractor(MlpExtractor):
    def forward_actor(self, features):
        return 10 * self.policy_net(features)


class Square(nn.Module):
    def forward(self, x):
        return x**2


@pytest.mark.parametrize(
    "activation",
    [
        TenfoldLeaky, nn.PReLU, Square, nn.Dropout, functools.partial(nn.Softplus, threshold=0.5),
        functools.partial(nn.GELU, approximate="tanh"), functools.partial(nn.Threshold, 0.1, 5.0),
        lambda: nn.LayerNorm(8, elementwise_affine=False),
    ],
)  # fmt: skip
def test_activations_without_a_known_slope_are_refused(activation):
    with pytest.raises(ValueError, match=r"no known Lipschitz constant|cannot be turned into"):
        certify(stock(activation))


def test_celu_of_negative_alpha_has_no_bound():
    assert lipsrl.layers.max_slope(nn.CELU(alpha=-1.0)) is None
    assert lipsrl.layers.max_slope(nn.CELU(alpha=2.0)) == 1.0


@pytest.mark.parametrize(
    "activation",
    [
        functools.partial(nn.ELU, alpha=3.0), functools.partial(nn.Softplus, beta=5), nn.SELU, nn.GELU,
        functools.partial(nn.Hardtanh, -5.0, 0.5), functools.partial(nn.LeakyReLU, 3.0), nn.Hardswish,
        functools.partial(nn.CELU, alpha=0.1),
    ],
)  # fmt: skip
def test_arguments_of_activations_count(activation):
    model = stock(activation)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn_like(parameter))
    certificate = certify(model)  # raises if it finds a pair above its bound
    assert 0 < certificate.lower_bound <= certificate.upper_bound


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC, TD3, DDPG, DQN], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("net_arch", [[], [8, 8, 8]], ids=len)
def test_every_algorithm_is_accepted_and_its_predictions_are_not_steeper(algorithm, net_arch):
    env = Arm(
        spaces.Discrete(3) if algorithm is DQN else spaces.Box(np.float32([-1, 0]), np.float32([3, 10]))
    )
    model = stock(nn.ReLU, algorithm, env, net_arch=net_arch)
    certificate = certify(model)
    assert certificate.lower_bound <= certificate.upper_bound
    if algorithm is not DQN:
        x = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
        a, b = (model.predict(o, deterministic=True)[0] for o in (x, x[::-1].copy()))
        moved, gap = np.linalg.norm(a - b, axis=1), np.linalg.norm(x - x[::-1], axis=1)
        assert (moved <= certificate.upper_bound * gap * (1 + 1e-4) + 1e-5).all()


def replace_linear(policy):
    policy.action_net = TenfoldLinear(8, 2)


def replace_sequential(policy):
    policy.mlp_extractor.policy_net = TenfoldSequential(*policy.mlp_extractor.policy_net)


def replace_extractor(policy):
    policy.mlp_extractor.__class__ = TenfoldExtractor


def hook(policy):
    policy.action_net.register_forward_hook(lambda module, inputs, output: 10 * output)


def patch(policy):
    predict = policy.predict
    policy.predict = lambda *args, **kwargs: (10 * predict(*args, **kwargs)[0], None)


def patch_inside(policy):
    inner = policy._predict
    policy._predict = lambda *args, **kwargs: 10 * inner(*args, **kwargs)


@pytest.mark.parametrize(
    "fool", [replace_linear, replace_sequential, replace_extractor, hook, patch, patch_inside]
)
def test_policies_that_compute_something_else_are_refused(fool):
    model = stock()
    certify(model)
    fool(model.policy)
    with pytest.raises(ValueError, match="cannot be turned into"):
        certify(model)


class Louder(VecEnvWrapper):
    def reset(self):
        return 100 * self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        return 100 * observations, rewards, dones, infos


def normalised():
    return VecNormalize(DummyVecEnv([Arm]))


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (lambda: VecNormalize(normalised()), "a second VecNormalize"),
        (lambda: VecNormalize(Louder(normalised())), "a second VecNormalize"),
        (lambda: Louder(normalised()), "Louder"),
        (lambda: Louder(VecFrameStack(normalised(), 2)), "Louder"),
        (lambda: VecFrameStack(VecNormalize(VecFrameStack(DummyVecEnv([Arm]), 2)), 2), "of shape"),
    ],
)
def test_normalisation_that_is_not_the_whole_way_is_refused(env, named):
    with pytest.raises(ValueError, match=named):
        certify(stock(env=env()))


@pytest.mark.parametrize(
    "env",
    [
        lambda: VecMonitor(normalised()),
        lambda: VecNormalize(normalised(), norm_obs=False),
        lambda: VecNormalize(VecNormalize(DummyVecEnv([Arm]), norm_obs=False)),
    ],
)
def test_the_normalisation_below_harmless_wrappers_is_found(env):
    model = stock(env=env())
    layer = model.get_env()
    while not (isinstance(layer, VecNormalize) and layer.norm_obs):
        layer = layer.venv
    layer.obs_rms.var[:] = 1e-4
    assert certify(model).factors[0].gain == pytest.approx(100, rel=1e-3)


def test_a_normalisation_inside_the_environment_is_named():
    model = stock(env=NormalizeObservation(Arm()))
    assert "normalize_observation" in {factor.name for factor in certify(model).factors}
    envs = [NormalizeObservation(Arm()), NormalizeObservation(Arm())]
    envs[0].reset(seed=0)  # the statistics of one alone move on
    envs[0].obs_rms.var[:] = 4.0
    apart = stock(env=DummyVecEnv([lambda: envs[0], lambda: envs[1]]))
    assert any("NormalizeObservation" in text for text in certify(apart).warnings)
    assert not certify(stock()).warnings


def test_the_half_range_that_float32_rounds_is_counted():
    for high in np.linspace(0.3, 5, 6):
        env = Arm(spaces.Box(np.full(1, -0.1), np.full(1, high), dtype=np.float64))
        model = SAC("LipschitzMlpPolicy", env, device="cpu", seed=0, buffer_size=10,
                    policy_kwargs={"lipschitz_bound": 3.0, "net_arch": []})  # fmt: skip
        network = model.policy.lipschitz_network
        certificate = certify(model, method="construction")
        truth = float(network.merge()[0].weight.detach().double().norm()) * (high + 0.1) / 2
        assert truth * (1 - 1e-14) <= certificate.network.upper_bound


def test_rounding_of_numbers_that_cancel_is_no_lower_bound():
    model = stock(nn.ReLU, env=Arm(spaces.Box(-1e9, 1e9, (1,))), net_arch=[2])
    policy = model.policy
    with torch.no_grad():
        first = policy.mlp_extractor.policy_net[0]
        first.weight.fill_(1e-3)
        first.weight[1].mul_(0.9)
        first.bias.fill_(1e10)  # float64 leaves 1e-6 of it when the two units cancel
        policy.action_net.weight.copy_(torch.tensor([[1.0, -1.0]]))
        policy.action_net.bias.zero_()
    certificate = certify(model)
    assert certificate.lower_bound <= 1e-4 * 3**0.5 * (1 + 1e-5)


def test_an_actor_that_cannot_move_is_certified_with_zero():
    assert certify(stock(algorithm=TD3, env=Arm(spaces.Box(0.0, 0.0, (2,))))).upper_bound == 0.0


@pytest.mark.parametrize("space", [
    spaces.Box(-1.0, 1.0, (2, 3)), spaces.Box(-100, 100, (3,), dtype=np.int64),
    spaces.Box(-1e300, 1e300, (3,), dtype=np.float64), spaces.Box(np.zeros(3), np.full(3, np.inf), dtype=np.float64),
])  # fmt: skip
@pytest.mark.parametrize("shared", [True, False])
def test_unusual_observation_spaces(space, shared):
    model = PPO("LipschitzMlpPolicy", Arm(observation_space=space), device="cpu",
                policy_kwargs={"lipschitz_bound": 3.0, "net_arch": {"vf": [4]}, "share_features_extractor": shared,
                               "observation_scale": 0.1 * np.ones(space.shape)})  # fmt: skip
    certificate = certify(model)
    assert certificate.network.upper_bound <= 3.0
    assert (
        certificate.lower_bound
        <= certificate.upper_bound
        == pytest.approx(certificate.network.upper_bound * 10)
    )
