"""A policy with each activation through a life: trained, saved, copied, exported, certified."""

import copy

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from torch import nn

import lipsrl
from lipsrl.layers import ACTIVATIONS
from lipsrl.layers.activations import LEARNED, UNDIVIDED
from tests.families import FAMILIES, norm_of

K = 4.0


def policy_kwargs(activation):
    return {"lipschitz_bound": K, "layer": "spectral", "activation": activation, "net_arch": [9, 7]}


@pytest.fixture(scope="module", params=sorted(ACTIVATIONS))
def trained(request):
    torch.set_num_threads(1)
    model = PPO(
        "LipschitzMlpPolicy", "Pendulum-v1", n_steps=128, batch_size=32, learning_rate=1e-2, seed=0, device="cpu",
        policy_kwargs=policy_kwargs(request.param),
    )  # fmt: skip
    return request.param, model.learn(128)


def act(agent):
    space = np.array([1.0, 1.0, 8.0], np.float32)
    rows = np.random.default_rng(0).uniform(-space, space, (500, 3)).astype(np.float32)
    return agent.predict(rows, deterministic=True)[0]


def test_saved_and_copied_policies_act_alike(trained, tmp_path):
    name, model = trained
    expected = act(model)
    assert np.ptp(expected) > 0.01
    model.save(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model.zip", device="cpu")
    np.testing.assert_array_equal(act(loaded), expected)
    model.policy.save(tmp_path / "policy.pt")
    for policy in (copy.deepcopy(model.policy), type(model.policy).load(tmp_path / "policy.pt")):
        np.testing.assert_array_equal(act(policy), expected)
        assert policy.lipschitz_network.activation_name == name


def test_the_exported_policy_acts_alike_and_is_certified(trained, tmp_path):
    _, model = trained
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "policy.safetensors"))
    half_range = 2.0
    np.testing.assert_allclose(act(policy) / half_range, act(model) / half_range, rtol=0, atol=1e-6)
    certificate = policy.certificate
    assert 0 < certificate["lower_bound"] <= certificate["upper_bound"] <= K
    product = lipsrl.certify(model, method="product", n_starts=64)
    assert certificate["upper_bound"] <= product.upper_bound * (1 + 1e-9)


def test_the_critic_uses_the_same_activation_where_sb3_can_build_it(trained):
    name, model = trained
    _, critic, *_ = model.policy.mlp_extractor.value_net
    expected = nn.ReLU if name in LEARNED else UNDIVIDED.get(name, ACTIVATIONS[name])
    assert type(critic) is expected


def test_what_is_learned_is_trained_by_sb3(trained):
    name, model = trained
    angles = [p for n, p in model.policy.lipschitz_network.named_parameters() if n.endswith("angle")]
    assert len(angles) == (2 if name in LEARNED else 0)
    assert all(bool((angle != np.pi / 2).any()) for angle in angles)


@pytest.mark.parametrize("cls", sorted(UNDIVIDED.values(), key=lambda cls: cls.__name__))
def test_activation_fn_of_torch_stands_for_the_divided_form(cls):
    model = PPO("LipschitzMlpPolicy", "Pendulum-v1", device="cpu",
                policy_kwargs={"lipschitz_bound": K, "layer": "spectral", "activation_fn": cls})  # fmt: skip
    network = model.policy.lipschitz_network
    assert ACTIVATIONS[network.activation_name].__name__ == f"Divided{cls.__name__}"
    assert {type(m) for m in network.merge()} == {nn.Linear, ACTIVATIONS[network.activation_name]}
    assert type(model.policy.mlp_extractor.value_net[1]) is cls


@pytest.mark.parametrize("activation", ["householder", "maxmin"])
def test_sac_trains_them_too(activation, tmp_path):
    model = SAC(
        "LipschitzMlpPolicy", "Pendulum-v1", learning_starts=20, learning_rate=1e-2, seed=0, device="cpu",
        policy_kwargs=policy_kwargs(activation),
    ).learn(60)  # fmt: skip
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "policy.safetensors"))
    np.testing.assert_allclose(act(policy) / 2, act(model) / 2, rtol=0, atol=1e-6)
    assert policy.certificate["upper_bound"] <= K


@pytest.mark.parametrize("layer", FAMILIES)
def test_every_family_is_exported(layer, tmp_path):
    """Residual ones as residual blocks, under a certificate in l2 whatever the norm of the promise."""
    model = PPO(
        "LipschitzMlpPolicy", "Pendulum-v1", n_steps=64, batch_size=32, learning_rate=1e-2, seed=0, device="cpu",
        policy_kwargs={"lipschitz_bound": K, "layer": layer, "net_arch": [9, 7], **norm_of(layer)},
    ).learn(64)  # fmt: skip
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "policy.safetensors"))
    np.testing.assert_allclose(act(policy) / 2, act(model) / 2, rtol=0, atol=1e-6)
    kinds = {type(module).__name__ for module in model.policy.lipschitz_network.merge()}
    assert {described["kind"] for described in policy.description["layers"]} == kinds
    assert policy.certificate["lower_bound"] <= policy.certificate["upper_bound"]
