"""Folded gains, single sensors, units of the datasheet, other norms and balls: each against what a search finds."""

from __future__ import annotations

import contextlib
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

import lipsrl
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import Certificate
from lipsrl.certificates.bounds._chain import chain_of


class Plant(gym.Env):
    """Three sensors of very different spread, two actuators."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
    spread = np.array([0.1, 1.0, 20.0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        return self._draw(), float(np.sum(action)), False, False, {}

    def _draw(self):
        return (3 + self.spread * self.np_random.normal(size=3)).astype(np.float32)


class Choice(Plant):
    action_space = spaces.Discrete(3)


def build(algorithm=PPO, env=Plant, normalised=True, **policy):
    venv = DummyVecEnv([env])
    if normalised:
        venv = VecNormalize(venv)
        venv.reset()
        for _ in range(300):
            venv.step(np.stack([venv.action_space.sample()]))
    name = "LipschitzMlpPolicy" if "lipschitz_bound" in policy else "MlpPolicy"
    torch.manual_seed(0)
    model = algorithm(name, venv, seed=0, device="cpu", policy_kwargs={"net_arch": [16, 16], **policy})
    model.policy.set_training_mode(True)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.policy.set_training_mode(False)
    return model


MODELS = {
    "PPO tanh": (PPO, {}),
    "PPO relu": (PPO, {"activation_fn": nn.ReLU}),
    "SAC": (SAC, {}),
    "TD3 silu": (TD3, {"activation_fn": nn.SiLU}),
    "PPO sandwich": (PPO, {"lipschitz_bound": 4.0}),
    "SAC orthogonal maxmin": (SAC, {"lipschitz_bound": 4.0, "layer": "orthogonal", "activation": "maxmin"}),
    "PPO sll": (PPO, {"lipschitz_bound": 4.0, "layer": "sll"}),
}


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    algorithm, policy = MODELS[request.param]
    return build(algorithm, **policy)


def actor(model):
    return Pipeline.of(model, model.get_vec_normalize_env())


def raw_pairs(n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    x = 3 + rng.normal(size=(n, 3)) * Plant.spread
    return torch.as_tensor(x), torch.as_tensor(rng.normal(size=(n, 3)) * Plant.spread * 0.1)


def test_methods_agree_on_the_truth_and_auto_is_the_smallest(model):
    bounds = {}
    for method in ("product", "lipsdp", "eclipse-fast", "construction"):
        with contextlib.suppress(ValueError):  # where the method does not fit the network
            bounds[method] = lipsrl.certify(model, method=method, n_starts=512)
    auto = lipsrl.certify(model, n_starts=512)
    assert auto.upper_bound <= min(c.upper_bound for c in bounds.values()) * (1 + 1e-9)
    assert all(c.lower_bound <= c.upper_bound for c in bounds.values())
    assert len(bounds) >= 2
    assert np.prod([f.gain for f in auto.factors]) == pytest.approx(auto.upper_bound, rel=1e-9)


def test_one_sensor_alone(model):
    certificate = lipsrl.certify(model, n_starts=512)
    pipeline = actor(model)
    x, _ = raw_pairs()
    for i, bound in enumerate(certificate.per_sensor):
        moved = x.clone()
        moved[:, i] += 0.05 * Plant.spread[i]
        slope = (pipeline.act(moved) - pipeline.act(x)).norm(dim=1) / (0.05 * Plant.spread[i])
        assert float(slope.max()) <= bound <= certificate.upper_bound
    assert min(certificate.per_sensor) < 0.2 * max(certificate.per_sensor), "the sensors differ by 200"


def test_sensor_scale_is_the_unit_of_the_numbers(model, full_searches):
    certificate = lipsrl.certify(model, sensor_scale=Plant.spread, n_starts=512)
    pipeline = actor(model)
    x, d = raw_pairs()
    moved = (pipeline.act(x + d) - pipeline.act(x)).norm(dim=1)
    slope = float((moved / (d / torch.as_tensor(Plant.spread)).norm(dim=1)).max())
    assert slope <= certificate.upper_bound
    assert slope <= certificate.lower_bound * 1.02
    assert certificate.sensor_scale == tuple(Plant.spread)
    raw = lipsrl.certify(model, n_starts=512)
    assert certificate.upper_bound < raw.upper_bound, "the steep sensor has the smallest unit"
    twice = lipsrl.certify(model, sensor_scale=2.0, n_starts=512)
    assert twice.upper_bound == pytest.approx(2 * raw.upper_bound, rel=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_other_norms(model, norm):
    certificate = lipsrl.certify(model, norm=norm, n_starts=512)
    pipeline = actor(model)
    order = np.inf if norm == "linf" else 1
    x, d = raw_pairs()
    moved = torch.linalg.vector_norm(pipeline.act(x + d) - pipeline.act(x), ord=order, dim=1)
    slope = float((moved / torch.linalg.vector_norm(d, ord=order, dim=1)).max())
    assert slope <= certificate.lower_bound * 1.05
    assert certificate.lower_bound <= certificate.upper_bound
    assert certificate.norm == norm
    assert certificate.promise is None


def test_a_promise_in_linf_is_certified_in_linf():
    model = build(PPO, lipschitz_bound=4.0, layer="linf", norm="linf")
    certificate = lipsrl.certify(model, norm="linf", n_starts=512)
    assert certificate.promise == 4.0
    assert certificate.network.upper_bound <= 4.0
    assert certificate.lower_bound <= certificate.upper_bound
    assert lipsrl.certify(model, n_starts=512).promise is None


@pytest.mark.parametrize("radius", [1e-3, 0.1, 3.0])
def test_local_bounds_hold_in_their_balls(model, radius):
    rng = np.random.default_rng(1)
    states = 3 + rng.normal(size=(2, 3)) * Plant.spread * [1, 1, 3]
    certificate = lipsrl.certify(model, states=states, radius=radius, n_starts=512)
    pipeline = actor(model)
    assert certificate.local.radius == radius
    for state, bound in zip(states, certificate.local.upper_bounds, strict=True):
        directions = rng.normal(size=(2, 4000, 3)) * [1, 1, 1]
        directions /= np.linalg.norm(directions, axis=2, keepdims=True)
        lengths = radius * rng.uniform(size=(2, 4000, 1)) ** (1 / 3)
        a, b = (
            torch.as_tensor(state + direction * length)
            for direction, length in zip(directions, lengths, strict=True)
        )
        slope = (pipeline.act(a) - pipeline.act(b)).norm(dim=1) / (a - b).norm(dim=1)
        assert float(slope.max()) <= bound * (1 + 1e-7)
        assert bound <= certificate.upper_bound
    if radius == 1e-3 and chain_of(pipeline.network) is not None:
        assert min(certificate.local.upper_bounds) < 0.9 * certificate.upper_bound


def test_local_bound_is_near_the_jacobian_in_a_small_ball():
    model = build(PPO, activation_fn=nn.Tanh)
    state = np.array([3.0, 3.0, 3.0])
    certificate = lipsrl.certify(model, states=state, radius=1e-5, n_starts=512)
    pipeline = actor(model)
    jacobian = torch.func.jacrev(lambda x: pipeline.act(x.unsqueeze(0)).squeeze(0))(torch.as_tensor(state))
    exact = float(torch.linalg.matrix_norm(jacobian, 2))
    assert exact <= certificate.local.largest <= exact * 1.15


def test_discrete_models():
    for algorithm, policy in ((DQN, {}), (PPO, {"lipschitz_bound": 4.0})):
        certificate = lipsrl.certify(build(algorithm, Choice, **policy), n_starts=512)
        assert certificate.lower_bound <= certificate.upper_bound


def test_json_round_trip_with_everything():
    certificate = lipsrl.certify(
        build(), sensor_scale=[0.1, 1.0, 2.0], states=np.zeros((2, 3)), radius=0.5, n_starts=512
    )
    again = Certificate.from_dict(json.loads(json.dumps(certificate.to_dict())))
    assert again == certificate
    assert "sensor_scale" in str(again)
    assert "within 0.5" in str(again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l3"}, "norm='l3' is not known"),
        ({"method": "lipsdpp"}, "Did you mean 'lipsdp'"),
        ({"method": "construction"}, "needs a Lipschitz policy"),
        ({"method": "lipsdp", "norm": "linf"}, "needs the l2 norm"),
        ({"states": np.zeros((2, 3))}, "belong together"),
        ({"states": np.zeros((2, 4)), "radius": 0.1}, r"shape \(n, 3\)"),
        ({"states": np.full((2, 3), np.nan), "radius": 0.1}, "finite"),
        ({"states": np.zeros((2, 3)), "radius": -1}, "radius must be"),
        ({"states": np.zeros((2, 3)), "radius": 0.1, "norm": "linf"}, "l2 only"),
        ({"sensor_scale": [1.0, 2.0]}, "sensor_scale must be one number > 0 or 3"),
        ({"sensor_scale": -1.0}, "sensor_scale must be finite and > 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lipsrl.certify(build(normalised=False), **arguments)
