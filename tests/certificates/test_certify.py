"""The certificate: never below the truth, in raw units, for constrained and stock models."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lipsrl
from lipsrl.certificates import Certificate, product_bound, steepest_pair
from tests.families import L2_FAMILIES


class Plant(gym.Env):
    """Sensors of very different size, actuators of unequal and shifted range."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))
    spread = np.array([0.1, 1.0, 20.0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        return self._draw(), {}

    def step(self, action):
        self._t += 1
        return self._draw(), -float(np.square(action - 1.0).sum()), False, self._t >= 25, {}

    def _draw(self):
        return (self.np_random.normal(size=3) * self.spread + 3).astype(np.float32)


def normalised_env():
    return VecNormalize(DummyVecEnv([Plant]), gamma=0.9)


def steepen(model, factor=30.0):
    """Make an untrained policy react: its last layer starts at 1 % of what it may reach."""
    network = getattr(model.policy, "lipschitz_network", None)
    model.policy.set_training_mode(True)
    with torch.no_grad():
        if network is not None:
            network.head.weight.mul_(factor)
        else:
            model.policy.action_net.weight.mul_(factor)
    model.policy.set_training_mode(False)
    return model


def env_action(model, vec_normalize, raw):
    """What reaches the environment, computed by SB3 itself."""
    seen = raw.astype(np.float64) if vec_normalize is None else vec_normalize.normalize_obs(raw)
    return model.predict(seen.astype(np.float32), deterministic=True)[0]


@pytest.mark.parametrize("layer", [None, *L2_FAMILIES])
def test_no_pair_of_the_real_pipeline_is_steeper(layer):
    """Raw observations through VecNormalize, SB3's predict and its clip, against the raw bound."""
    policy = {"net_arch": [16, 16]} | ({} if layer is None else {"lipschitz_bound": 5.0, "layer": layer})
    model = PPO("MlpPolicy" if layer is None else "LipschitzMlpPolicy", normalised_env(), n_steps=256, seed=0,
                policy_kwargs=policy, device="cpu")  # fmt: skip
    model.learn(512)
    steepen(model, 60.0)
    statistics = model.get_vec_normalize_env()
    certificate = lipsrl.certify(model)
    rng = np.random.default_rng(1)
    raw = 3 + rng.normal(size=(20_000, 3)) * Plant.spread
    moved = raw + rng.normal(size=raw.shape) * Plant.spread * np.logspace(-2, 0.5, len(raw))[:, None]
    da = np.linalg.norm(env_action(model, statistics, raw) - env_action(model, statistics, moved), axis=1)
    slope = float((da / np.linalg.norm(raw - moved, axis=1)).max())
    # predict computes in float32: its rounding over the shortest distances is not the policy's slope
    assert slope <= certificate.upper_bound * (1 + 1e-3)
    assert slope <= certificate.lower_bound * 1.02, "the search must find what random pairs find"
    assert 0 < certificate.tightness <= 1
    assert certificate.promise == (None if layer is None else 5.0)
    if layer is not None:
        assert certificate.network.upper_bound <= 5.0
    # each sensor alone
    for i in range(3):
        moved = raw.copy()
        moved[:, i] += Plant.spread[i] * 0.1
        da = np.linalg.norm(env_action(model, statistics, raw) - env_action(model, statistics, moved), axis=1)
        assert da.max() / (Plant.spread[i] * 0.1) <= certificate.per_sensor[i] * (1 + 1e-3)


def test_witness_can_be_replayed():
    model = PPO(
        "LipschitzMlpPolicy", normalised_env(), n_steps=64, policy_kwargs={"lipschitz_bound": 5.0}, seed=0
    )
    model.learn(64)
    steepen(model)
    certificate = lipsrl.certify(model)
    statistics = model.get_vec_normalize_env()
    network = lipsrl.actor_network(model).double()
    low, high = (torch.as_tensor(b).double() for b in (Plant.action_space.low, Plant.action_space.high))

    def replay(key):
        raw = np.array(certificate.witness[key])
        seen = np.clip((raw - statistics.obs_rms.mean) / np.sqrt(statistics.obs_rms.var + 1e-8), -10, 10)
        with torch.no_grad():
            return network(torch.as_tensor(seen)).clamp(low, high).numpy(), raw

    (a, x), (b, y) = replay("observation"), replay("observation_prime")
    assert np.linalg.norm(a - b) / np.linalg.norm(x - y) == pytest.approx(certificate.lower_bound, rel=1e-6)


def test_factors_multiply_to_the_bound_and_are_named():
    model = SAC(
        "LipschitzMlpPolicy", normalised_env(), policy_kwargs={"lipschitz_bound": 5.0, "net_arch": [16, 16]},
        learning_starts=50,
    )  # fmt: skip
    model.learn(60)
    certificate = lipsrl.certify(model)
    names = [f.name for f in certificate.factors]
    assert names in (
        ["vec_normalize", "network", "action"],
        ["vec_normalize", "network", "action", "folding"],
    )
    assert np.prod([f.gain for f in certificate.factors]) == pytest.approx(certificate.upper_bound, rel=1e-12)
    statistics = model.get_vec_normalize_env()
    gain = 1 / np.sqrt(statistics.obs_rms.var + statistics.epsilon)
    assert certificate.factors[0].gain == pytest.approx(gain.max())
    assert certificate.factors[2].gain == 5.0
    assert np.all(certificate.per_sensor <= gain * certificate.network.upper_bound * (1 + 1e-12))


def test_linear_policy_is_exact():
    """No hidden layer: the constant is the norm of one matrix, and the search must find it."""
    model = PPO("MlpPolicy", Plant(), n_steps=8, batch_size=8, policy_kwargs={"net_arch": []}, seed=0)
    weight = torch.tensor([[0.3, 0.0, 0.1], [0.0, 0.2, 0.05]])
    with torch.no_grad():
        model.policy.action_net.weight.copy_(weight)
        model.policy.action_net.bias.fill_(1.0)
    exact = float(torch.linalg.svdvals(weight.double())[0])
    certificate = lipsrl.certify(model)
    assert exact <= certificate.upper_bound <= exact * (1 + 1e-12)
    assert certificate.lower_bound == pytest.approx(exact, rel=1e-6)


def test_model_with_vec_normalize_is_never_certified_without_it():
    model = PPO("MlpPolicy", normalised_env(), n_steps=64, seed=0)
    model.learn(64)
    assert lipsrl.certify(model).factors[0].name == "vec_normalize"


def test_given_file_and_given_object_agree(tmp_path):
    model = PPO("MlpPolicy", normalised_env(), n_steps=64, seed=0, device="cpu")
    model.learn(64)
    expected = lipsrl.certify(model).upper_bound
    model.save(tmp_path / "model.zip")
    model.get_vec_normalize_env().save(str(tmp_path / "vn.pkl"))
    loaded = PPO.load(tmp_path / "model.zip", device="cpu")
    assert lipsrl.certify(loaded, vec_normalize=tmp_path / "vn.pkl").upper_bound == expected
    assert lipsrl.certify(loaded).factors[0].name == "network"


def test_constant_sensor_is_named():
    venv = normalised_env()
    model = PPO("MlpPolicy", venv, n_steps=64, seed=0)
    venv.obs_rms.var[1] = 0.0
    certificate = lipsrl.certify(model)
    assert "observation[1] hardly varied" in certificate.warnings[0]
    assert "WARNING" in str(certificate)


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC, TD3])
def test_stock_models(algorithm):
    model = algorithm("MlpPolicy", Plant(), seed=0, policy_kwargs={"net_arch": [16, 16]}, device="cpu")
    certificate = lipsrl.certify(model)
    assert certificate.method == "lipsdp"
    assert 0 < certificate.lower_bound <= certificate.upper_bound
    obs = 3 + np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    network = lipsrl.actor_network(model)
    with torch.no_grad():
        plain = network(torch.as_tensor(obs)).numpy()
    space = model.action_space
    np.testing.assert_allclose(
        plain.clip(space.low, space.high), model.predict(obs, deterministic=True)[0], atol=1e-5
    )


def test_discrete_stock_model_bounds_the_q_values():
    model = DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    certificate = lipsrl.certify(model)
    assert "logits or Q-values" in certificate.factors[-1].detail


def test_json_round_trip(tmp_path):
    model = PPO(
        "LipschitzMlpPolicy", Plant(), n_steps=8, batch_size=8, policy_kwargs={"lipschitz_bound": 2.0}
    )
    certificate = lipsrl.certify(model)
    path = certificate.save(tmp_path / "certificate.json")
    assert Certificate.load(path) == certificate
    data = json.loads(path.read_text())
    assert data["tightness"] == certificate.tightness
    with pytest.raises(ValueError, match="schema_version=99"):
        Certificate.from_dict({**data, "schema_version": 99})


def test_hash_speaks_of_the_weights():
    model = PPO(
        "LipschitzMlpPolicy", Plant(), n_steps=8, batch_size=8, policy_kwargs={"lipschitz_bound": 2.0}
    )
    before = lipsrl.certify(model).weights_sha256
    assert before == lipsrl.certify(model).weights_sha256
    steepen(model, 2.0)
    assert before != lipsrl.certify(model).weights_sha256


def test_errors():
    model = PPO("MlpPolicy", Plant(), n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(ValueError, match="norm='l3'"):
        lipsrl.certify(model, norm="l3")
    with pytest.raises(ValueError, match="Did you mean 'product'"):
        lipsrl.certify(model, method="produkt")
    with pytest.raises(ValueError, match="needs a Lipschitz policy"):
        lipsrl.certify(model, method="construction")
    with pytest.raises(TypeError, match="must be a Stable-Baselines3 model"):
        lipsrl.certify(model.policy)
    with pytest.raises(FileNotFoundError, match="is not a file"):
        lipsrl.certify(model, vec_normalize="nowhere.pkl")
    with pytest.raises(ValueError, match=r"received shape \(0, 3\)"):
        lipsrl.certify(model, states=np.zeros((0, 3)), radius=0.1)
    with pytest.raises(ValueError, match="n_starts must be an integer > 0"):
        lipsrl.certify(model, n_starts=-5)
    other = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    other.obs_rms.mean = np.zeros(7)
    with pytest.raises(ValueError, match="belongs to another task"):
        lipsrl.certify(model, vec_normalize=other)
    with torch.no_grad():
        model.policy.action_net.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        lipsrl.certify(model)


def test_unknown_parts_are_named():
    model = PPO(
        "MlpPolicy", Plant(), n_steps=8, batch_size=8, policy_kwargs={"activation_fn": torch.nn.Softshrink}
    )
    with pytest.raises(ValueError, match="Softshrink"):
        lipsrl.certify(model)
    model = PPO("MlpPolicy", Plant(), n_steps=8, batch_size=8, device="cpu")
    model.policy.mlp_extractor.policy_net.append(torch.nn.LayerNorm(64))
    with pytest.raises(ValueError, match="LayerNorm, a normalisation layer"):
        lipsrl.certify(model)


def test_product_bound_counts_steep_activations():
    linear = torch.nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(2))
    network = torch.nn.Sequential(linear, torch.nn.SiLU())
    assert product_bound(network) >= 1.0998
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64).unsqueeze(1).repeat(1, 2)
    pair = steepest_pair(network.double(), x, torch.ones(2).double())
    assert 1.09 < pair.ratio <= product_bound(network)


def test_search_finds_a_known_constant():
    """|x| against a corner: the largest slope of a max of linear functions is known."""
    slopes = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]], dtype=torch.float64)

    def function(x):
        return (x @ slopes.T).max(dim=1, keepdim=True).values

    starts = torch.randn(512, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert steepest_pair(function, starts, torch.ones(2).double()).ratio == pytest.approx(3.0, rel=1e-6)


def test_constant_policy_has_bound_zero():
    model = PPO("MlpPolicy", Plant(), n_steps=8, batch_size=8, device="cpu")
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
    certificate = lipsrl.certify(model)
    assert certificate.upper_bound == certificate.lower_bound == 0.0
    assert certificate.tightness == 1.0


def test_matrix_shaped_observations_are_normalised_entry_by_entry():
    class Matrix(Plant):
        observation_space = spaces.Box(-np.inf, np.inf, (2, 3))

        def _draw(self):
            return self.np_random.normal(size=(2, 3)).astype(np.float32)

    model = PPO("LipschitzMlpPolicy", VecNormalize(DummyVecEnv([Matrix])), n_steps=64, seed=0,
                policy_kwargs={"lipschitz_bound": 2.0}, device="cpu")  # fmt: skip
    model.learn(64)
    certificate = lipsrl.certify(model)
    assert len(certificate.per_sensor) == 6
    assert 0 < certificate.lower_bound <= certificate.upper_bound
