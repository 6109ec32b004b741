"""``log_std_lipschitz_bound``: the sampled action of SAC, TQC and CrossQ has a pathwise constant."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import lipsrl
from tests.policies.test_matrix import jacobian_norm
from tests.policies.zoo import build

K, L = 3.0, 0.4
HALF_RANGE = torch.tensor([2.0, 5.0], dtype=torch.float64)


@pytest.fixture(params=["SAC", "TQC", "CrossQ"])
def model(request):
    model = build(
        request.param, lipschitz_bound=K, log_std_lipschitz_bound=L, observation_scale=[0.5, 1.0, 2.0]
    )
    network = model.policy.lipschitz_network
    with torch.no_grad():  # as steep as allowed, σ near its largest
        network.head.weight.copy_(torch.randn_like(network.head.weight))
        network.head.bias[2:] = 1.5 * network.output_scale[2:]
        for layer in network.layers:
            layer.bias.copy_(0.1 * torch.randn_like(layer.bias))
    network.project()
    return model


def mean_and_log_std(model):
    """Observation / observation_scale → (μ, log σ) in float64."""
    network = copy.deepcopy(model.policy.lipschitz_network).double().eval()

    def f(x):
        y = network(x * network.input_scale)
        return y[:, :2], y[:, 2:].clamp(-20, 2)

    return f


def climb(function, rounds=40):
    """Largest Jacobian norm that hill climbing finds, among 256 starting points."""
    x = torch.randn(256, 3, dtype=torch.float64) * torch.logspace(-2, 1, 256).unsqueeze(1).double()
    best = torch.zeros(256, dtype=torch.float64)
    for _ in range(rounds):
        moved = (x + torch.randn_like(x) * 10 ** float(torch.rand(()) * 3 - 2)).requires_grad_(True)
        y = function(moved)
        rows = [torch.autograd.grad(y[:, i].sum(), moved, retain_graph=True)[0] for i in range(y.shape[1])]
        slope = torch.linalg.matrix_norm(torch.stack(rows, 1), 2)
        better = slope > best
        x = torch.where(better.unsqueeze(1), moved.detach(), x)
        best = torch.where(better, slope, best)
    return float(best.max())


def test_the_sampled_action_keeps_its_constant_for_every_fixed_noise(model):
    f = mean_and_log_std(model)
    for noise in ([0.0, 0.0], [0.1, -0.1], [1.0, -2.0], [-4.0, 0.5]):
        draw = torch.tensor(noise, dtype=torch.float64)

        def sampled(x, draw=draw):
            mean, log_std = f(x)
            return HALF_RANGE * torch.tanh(mean + log_std.exp() * draw)

        bound = model.policy.actor.sampled_action_bound(noise)
        assert bound >= K
        assert climb(sampled) <= bound
        if max(map(abs, noise)) < 0.2:  # elsewhere tanh saturates
            assert climb(sampled) > 0.2 * bound
    np.testing.assert_allclose(model.policy.actor.sampled_action_bound([0.0, 0.0]), K)


def test_log_std_keeps_its_own_bound_and_the_mean_keeps_k(model):
    f = mean_and_log_std(model)
    assert 0.2 * L < climb(lambda x: f(x)[1]) <= L
    assert 0.2 * K < climb(lambda x: HALF_RANGE * torch.tanh(f(x)[0])) <= K
    parts = lipsrl.policies.actor_parts(model)
    assert parts.constrained.lipschitz_bound() <= K
    assert parts.network[-1].out_features == 2
    scaled = lipsrl.actor_network(model).double()
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert jacobian_norm(lambda x: scaled(x * scale), torch.randn(64, 3, dtype=torch.float64), 2) <= K


def test_what_sb3_samples_is_what_the_constant_speaks_of(model):
    """Same noise, two observations, through SB3's own ``predict``."""
    rng = np.random.default_rng(0)
    scale = np.array([0.5, 1.0, 2.0])
    for seed in range(20):
        a = rng.normal(size=(1, 3)).astype(np.float32)
        b = (a + rng.normal(size=(1, 3)) * scale * 0.1).astype(np.float32)
        torch.manual_seed(seed)
        noise = torch.randn(1, 2).numpy()[0]
        moved = []
        for obs in (a, b):
            torch.manual_seed(seed)
            moved.append(model.predict(obs, deterministic=False)[0])
        distance = np.linalg.norm((a - b) / scale)
        bound = model.policy.actor.sampled_action_bound(noise)
        assert np.linalg.norm(moved[0] - moved[1]) <= bound * distance + 1e-5


def test_training_saving_and_a_moving_bound_keep_both(model, tmp_path):
    model.learn(40, callback=lipsrl.policies.LipschitzSchedule("linear", end=1.0))
    model.policy.set_training_mode(False)
    f = mean_and_log_std(model)
    assert climb(lambda x: f(x)[1]) <= L
    assert model.policy.lipschitz_network.lipschitz_bound() <= 1.0
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip")
    x = torch.randn(16, 3, dtype=torch.float64)
    for ours, theirs in zip(f(x), mean_and_log_std(loaded)(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    model.policy.set_lipschitz_bound(50.0)
    f = mean_and_log_std(model)
    assert climb(lambda x: f(x)[1]) <= L


def test_what_has_no_constant_says_so(model):
    with pytest.raises(ValueError, match="one per action"):
        model.policy.actor.sampled_action_bound([1.0])
    with pytest.raises(ValueError, match="no Lipschitz constant here"):
        build("SAC").policy.actor.sampled_action_bound([1.0, 1.0])
