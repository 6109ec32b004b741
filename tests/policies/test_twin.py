"""A constrained policy starts as SB3's own would, and learns at its pace (docs/pace.md)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import lipsrl
from lipsrl.layers import LAYERS, GrowingGains, growing_bounds, start_norms
from tests.policies.zoo import ALGORITHMS, build, sample

CRITICS = ["PPO", "A2C", "TRPO", "MaskablePPO", "SAC", "TD3", "DDPG", "TQC", "CrossQ"]
K = 50.0


def critic_of(model):
    """Name → tensor of what is the critic's."""
    return {
        name: value
        for name, value in model.policy.state_dict().items()
        if name.startswith(("critic", "value_net", "mlp_extractor.value_net", "vf"))
    }


@pytest.mark.parametrize("algorithm", CRITICS)
def test_a_free_critic_is_the_stock_one_to_the_bit(algorithm):
    ours = build(algorithm, lipschitz_bound=K)
    stock = build(algorithm, policy="MlpPolicy", lipschitz_bound=None)
    expected, found = critic_of(stock), critic_of(ours)
    assert expected
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    if hasattr(stock.policy, "mlp_extractor"):
        assert str(ours.policy.mlp_extractor.value_net) == str(stock.policy.mlp_extractor.value_net)


@pytest.mark.parametrize("observation", ["image", "dict"])
@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "TRPO", "MaskablePPO", "SAC", "TD3", "DDPG", "TQC"])
def test_a_free_critic_behind_images_draws_what_the_stock_one_draws(algorithm, observation):
    """Its own layers to the bit; behind a shared extractor, which is constrained, they receive other features."""
    name = {"image": "CnnPolicy", "dict": "MultiInputPolicy"}[observation]
    share = {"share_features_extractor": algorithm in ("PPO", "A2C", "TRPO", "MaskablePPO")}
    ours = build(algorithm, observation=observation, lipschitz_bound=K, **share)
    stock = build(algorithm, observation=observation, policy=name, lipschitz_bound=None, **share)
    expected, found = (
        {key: value for key, value in critic_of(model).items() if not key.startswith("vf_features")}
        for model in (stock, ours)
    )
    assert expected
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert not [key for key in ours.policy.state_dict() if "stock_twin" in key]


@pytest.mark.parametrize("layer", ["spectral", "orthogonal"])
@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "MaskablePPO", "TRPO"])
def test_the_first_function_is_the_stock_one(algorithm, layer):
    ours = build(algorithm, lipschitz_bound=K, layer=layer)
    stock = build(algorithm, policy="MlpPolicy", lipschitz_bound=None)
    x = torch.as_tensor(np.asarray(sample(stock.observation_space)), dtype=torch.float32)
    with torch.no_grad():
        a, b = lipsrl.actor_network(ours)(x), lipsrl.actor_network(stock)(x)
    assert float(b.abs().max()) > 1e-4
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["PPO", "TRPO", "SAC", "DQN"])
def test_a_sandwich_network_starts_near_the_stock_function(algorithm):
    """A is (I - BBᵀ)^½: one over all directions only where B has one size. That is all the difference."""
    wide = {"net_arch": [64, 64]}
    ours = build(algorithm, lipschitz_bound=K, **wide)
    stock = build(algorithm, policy="MlpPolicy", lipschitz_bound=None, **wide)
    x = torch.as_tensor(np.asarray(sample(stock.observation_space)), dtype=torch.float32)
    with torch.no_grad():
        a, b = lipsrl.actor_network(ours)(x), lipsrl.actor_network(stock)(x)
    assert float((a - b).norm() / b.norm()) < 0.2


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DQN", "ARS"])
def test_the_ball_starts_as_the_stock_network_off_policy_too(algorithm):
    ours = build(algorithm, lipschitz_bound=K, layer="spectral")
    stock = build(algorithm, policy="MlpPolicy", lipschitz_bound=None)
    x = torch.as_tensor(np.asarray(sample(stock.observation_space)), dtype=torch.float32)
    with torch.no_grad():
        a, b = lipsrl.actor_network(ours)(x), lipsrl.actor_network(stock)(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_the_activation_is_the_stock_one_unless_said(algorithm):
    expected = "tanh" if algorithm in ("PPO", "A2C", "TRPO", "MaskablePPO") else "relu"
    assert build(algorithm).policy.lipschitz_network.activation_name == expected
    assert build(algorithm, activation="elu").policy.lipschitz_network.activation_name == "elu"


@pytest.mark.parametrize("layer", sorted(name for name in LAYERS if LAYERS[name].norm == "l2"))
def test_one_step_moves_the_first_function_as_far_as_it_moves_the_stock_one(layer):
    """Within a factor of 2.5, whatever K."""
    for bound in (20.0, 2000.0):
        moved = []
        for name in ("stock", layer):
            own = {} if name == "stock" else {"layer": layer, "activation": "tanh"}
            model = build(
                "PPO", policy="MlpPolicy" if name == "stock" else None, net_arch=[64, 64],
                lipschitz_bound=None if name == "stock" else bound, **own,
            )  # fmt: skip
            x = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
            target = x @ torch.tensor([[1.0, -1.0], [0.5, 1.0], [-1.0, 0.3]])

            def actions(model=model, x=x):
                return model.policy.get_distribution(x).distribution.mean

            model.policy.set_training_mode(True)
            before = actions().detach()
            for _ in range(30):
                model.policy.optimizer.zero_grad()
                (actions() - target).square().mean().backward()
                model.policy.optimizer.step()
            moved.append(float((actions().detach() - before).norm()))
        assert 1 / 2.5 < moved[1] / moved[0] < 2.5, (bound, moved)


@pytest.mark.parametrize("bound", [1e-6, 0.3, 2.0, 16.0, 1e6])
@pytest.mark.parametrize("start", ["orthogonal", "linear"])
def test_the_split_of_the_budget(bound, start):
    sizes = (4, 64, 64, 2)
    starts = start_norms(start, sizes)
    starts[-1] = 0.01
    found = growing_bounds(bound, sizes, starts)
    assert math.isclose(math.prod(found), bound, rel_tol=1e-12)
    assert all(a >= b for a, b in zip(found[:-1], starts[:-1], strict=True))


def test_start_norms_are_those_of_the_drawn_weights():
    torch.manual_seed(0)
    for n, m in ((3, 256), (256, 256), (256, 2)):
        weight = nn.Linear(n, m).weight.detach()
        (expected,) = start_norms("linear", (n, m))
        assert math.isclose(float(weight.norm()) / math.sqrt(min(n, m)), expected, rel_tol=0.1)


def test_gains_stop_at_one_and_find_back():
    gains = GrowingGains([0.5, 3.0])
    np.testing.assert_allclose(gains.factors().tolist(), [0.5, 1.0, 1.0], rtol=1e-6)
    with torch.no_grad():
        gains.log_gains.fill_(5.0)
    factors = gains.factors()
    assert factors.tolist() == [1.0, 1.0, 1.0]
    factors.sum().backward()
    assert float(gains.log_gains.grad.min()) > 0, "a gain past its ceiling would stay there for ever"
    assert gains.project()
    assert not gains.project()
    assert gains.log_gains.tolist() == [0.0, 0.0]
    with torch.no_grad():
        gains.log_gains.fill_(math.nan)
    with pytest.raises(ValueError, match="NaN"):
        gains.project()


@pytest.mark.parametrize(
    ("algorithm", "layer"),
    [(a, ("sandwich", "orthogonal", "spectral")[i % 3]) for i, a in enumerate(sorted(ALGORITHMS))],
)
def test_zips_from_before_act_as_they_did(tmp_path, algorithm, layer):
    """Saved with budget="output" and ReLU, which were the defaults, and without a word on either."""
    old = build(algorithm, layer=layer, budget="output", activation="relu")
    old.learn(40)
    for name in ("budget", "activation"):
        del old.policy_kwargs[name]
    path = tmp_path / "old.zip"
    old.save(path)
    loaded = type(old).load(path, env=old.get_env())
    rows = sample(old.observation_space)
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], old.predict(rows, deterministic=True)[0]
    )
    assert loaded.policy.lipschitz_network.lipschitz_bound() <= 3.0
    loaded.learn(40)
    assert loaded.policy.lipschitz_network.lipschitz_bound() <= 3.0
    loaded.save(tmp_path / "again.zip")
    again = type(old).load(tmp_path / "again.zip")
    np.testing.assert_array_equal(
        again.predict(rows, deterministic=True)[0], loaded.predict(rows, deterministic=True)[0]
    )


@pytest.mark.parametrize("algorithm", ["PPO", "SAC", "DQN"])
def test_what_is_saved_now_acts_the_same_when_loaded(tmp_path, algorithm):
    model = build(algorithm)
    model.learn(40)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip")
    rows = sample(model.observation_space)
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )
