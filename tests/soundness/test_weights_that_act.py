"""Every door through which weights can come: what acts afterwards keeps its bound."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from torch import nn

import lipsrl
from lipsrl.layers import LipschitzLayer, project_after_step
from lipsrl.networks import LipschitzMLP

K = 3.0


class Arm(gym.Env):
    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(-50.0, 50.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, True, {}


@pytest.fixture(params=[PPO, SAC], ids=lambda cls: cls.__name__)
def model(request):
    options = {"buffer_size": 10} if request.param is SAC else {}
    built = request.param("LipschitzMlpPolicy", Arm(), seed=0, device="cpu", **options,
                          policy_kwargs={"lipschitz_bound": K, "net_arch": [8, 8]})  # fmt: skip
    built.policy.set_training_mode(False)
    return built


def act(policy, observation=1.0):
    return policy.predict(np.full(3, observation, np.float32), deterministic=True)[0]


def slope_of(policy):
    """Steepest pair of predictions nearby; 1e-3 of float32 rounding."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3)).astype(np.float32)
    moved = x + 0.1 * rng.normal(size=x.shape).astype(np.float32)
    gap = np.linalg.norm(x - moved, axis=1)
    a, b = (policy.predict(o, deterministic=True)[0] for o in (x, moved))
    return float((np.linalg.norm(a - b, axis=1) / gap).max()) / (1 + 1e-3)


def load_vector(policy):
    policy.load_from_vector(policy.parameters_to_vector() * 100)


def vector_to_parameters(policy):
    nn.utils.vector_to_parameters(torch.as_tensor(policy.parameters_to_vector() * 100), policy.parameters())


def in_place(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(100)


def foreign_optimizer(policy):
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(policy.parameters(), lr=30.0).step()


def sublayer(policy):
    head = policy.lipschitz_network.head
    head.load_state_dict({key: 1000 * value for key, value in head.state_dict().items()})


DOORS = [load_vector, vector_to_parameters, in_place, foreign_optimizer, sublayer]


@pytest.mark.parametrize("copied", [False, True], ids=["original", "copy"])
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_writes_in_eval_mode_act_and_keep_the_bound(model, door, copied):
    policy = copy.deepcopy(model.policy) if copied else model.policy
    before = act(policy)
    door(policy)
    assert not np.allclose(act(policy), before), "a stale cache would go on acting"
    assert slope_of(policy) <= K
    assert policy.lipschitz_network.lipschitz_bound() <= K


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_of_weights_that_left_their_set_are_projected_before_they_act(model, duplicate):
    model.policy.lipschitz_network.head.weight.data.mul_(1000)  # leaves no trace that torch counts
    twin = duplicate(model.policy)
    assert slope_of(twin) <= K
    assert twin.lipschitz_network.lipschitz_bound() <= K


def test_saved_weights_keep_the_bound_in_eval_mode_too(model):
    network = model.policy.lipschitz_network
    network.head.weight.data.mul_(1000)
    fresh = copy.deepcopy(network)
    fresh.load_state_dict(network.state_dict())  # would warn about weights above the bound
    assert fresh.lipschitz_bound() <= K


@pytest.mark.parametrize("factor", [0.01, 1000.0])
def test_bound_and_certificate_speak_of_the_weights_that_act(model, factor):
    network = model.policy.lipschitz_network
    network.head.weight.data.mul_(30)
    network.project()
    act(model.policy)
    network.head.weight.data.mul_(factor)
    certificate = lipsrl.certify(model, n_starts=64, method="construction")
    assert (
        slope_of(model.policy)
        <= lipsrl.certify(model, n_starts=64).upper_bound
        <= certificate.upper_bound
        <= K
    )
    network.head.weight.data.mul_(0.5)
    bound = network.lipschitz_bound()
    assert slope_of(model.policy) <= bound < certificate.upper_bound * 0.51


def test_a_failed_projection_does_not_count_as_eval_mode():
    network = LipschitzMLP(3, 2, (8,), K)
    with torch.no_grad():
        network.head.weight.mul_(100)
        network.layers[0].stack[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        network.eval()
    with torch.no_grad():
        network.layers[0].stack.nan_to_num_()
    network.eval()
    assert network.lipschitz_bound() <= K


@pytest.mark.parametrize("size", [40.0, 90.0, 1000.0])
def test_extreme_log_psi(size):
    network = LipschitzMLP(3, 2, (8, 8), K, "sandwich", "tanh")
    with torch.no_grad():
        for layer in network.layers:
            layer.log_psi.uniform_(-size, size)
    network.eval()
    assert network.lipschitz_bound() <= K
    assert bool(torch.isfinite(network(torch.randn(5, 3))).all())


def test_overflow_gives_infinity_not_nan():
    network = LipschitzMLP(3, 2, (8,) * 10, 1.0, "spectral")
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.mul_(1e37)
    assert network.lipschitz_bound() == float("inf")


def test_half_precision_is_refused_and_changes_nothing():
    network = LipschitzMLP(3, 2, (8,), K).eval()
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match="float32 and float64 only"):
            network.to(dtype)
    assert network.head.weight.dtype == torch.float32
    assert network.double().lipschitz_bound() <= K
    network(torch.zeros(1, 3).double())


@pytest.mark.parametrize("argument", ["input_scale", "output_scale", "bound"])
@pytest.mark.parametrize("value", [1e-45, 1e30])
def test_magnitudes_that_float32_cannot_hold_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must lie between"):
        LipschitzMLP(3, 2, (8,), **{argument: value})


def test_functional_call_sees_its_own_weights():
    network = LipschitzMLP(3, 2, (8,), K)
    network.cache_in_eval = True
    network.eval()
    zeros = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    assert not torch.func.functional_call(network, zeros, torch.ones(1, 3)).any()


def test_a_scheduler_made_too_early_is_refused():
    network = LipschitzMLP(3, 2, (8,), K)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="project_after_step first"):
        project_after_step(optimizer, network)


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, nesterov=True),
    "decay": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=10.0),
    "fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=1.0, max_iter=3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("exact", [False, True])
def test_user_optimizers_closures_and_frozen_layers(name, exact):
    torch.manual_seed(0)
    network = LipschitzMLP(3, 2, (8, 8), K)
    network.layers[0].requires_grad_(False)
    optimizer = OPTIMIZERS[name]([p for p in network.parameters() if p.requires_grad])
    project_after_step(optimizer, network, exact=exact)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    x = torch.randn(32, 3)

    def closure():
        optimizer.zero_grad()
        loss = -torch.tanh(network(x)).mean()  # bounded: the biases must not diverge
        loss.backward()
        return loss

    for _ in range(8):
        optimizer.step(closure)
        scheduler.step()
        if exact:
            assert network.lipschitz_bound() <= K
    assert any(isinstance(m, LipschitzLayer) for m in optimizer.projected_layers)
    network.eval()
    assert network.lipschitz_bound() <= K
