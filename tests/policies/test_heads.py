"""The last layer belongs to SB3's head module: names, owners, freezing, saving."""

import copy

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, TRPO
from stable_baselines3 import A2C, PPO, SAC, TD3

import lipsrl
from lipsrl.layers import project_after_step
from lipsrl.layers.optimizer import constrained_modules, projected_layers

ON_POLICY, SQUASHED = [PPO, A2C, TRPO], [SAC, TQC]


def made(algorithm, policy="LipschitzMlpPolicy", **kwargs):
    if policy.startswith("L"):
        kwargs = {"lipschitz_bound": 8.0} | kwargs
    sizes = {} if algorithm in ON_POLICY else {"buffer_size": 100, "learning_starts": 10}
    if algorithm in (PPO, TRPO):
        sizes = {"n_steps": 64, "batch_size": 32}
    kwargs = {"net_arch": [16, 16]} | kwargs
    return algorithm(policy, "Pendulum-v1", policy_kwargs=kwargs, seed=0, device="cpu", **sizes)


def names(model):
    return [name for name, _ in model.policy.named_parameters()]


@pytest.mark.parametrize("algorithm", ON_POLICY)
def test_the_extractor_has_the_trunk_and_the_head_its_own(algorithm):
    model, stock = made(algorithm, layer="spectral"), made(algorithm, "MlpPolicy")
    for part in ("mlp_extractor", "action_net", "value_net"):
        ours = [p.shape for p in getattr(model.policy, part).parameters()]
        theirs = [p.shape for p in getattr(stock.policy, part).parameters()]
        assert sorted(ours) == sorted(theirs)
    head = model.policy.lipschitz_network.head
    assert model.policy.action_net.weight is head.weight
    assert model.policy.action_net.bias is head.bias
    assert names(model).count("action_net.weight") == 1
    assert len(list(model.policy.parameters())) == len(list(stock.policy.parameters()))


@pytest.mark.parametrize("algorithm", SQUASHED)
@pytest.mark.parametrize("options", [{}, {"use_sde": True}, {"log_std_lipschitz_bound": 2.0}])
def test_the_mean_has_a_weight(algorithm, options):
    sde = options.get("use_sde", False)
    model = algorithm(
        "LipschitzMlpPolicy", "Pendulum-v1", buffer_size=10, seed=0, device="cpu", use_sde=sde,
        policy_kwargs={"lipschitz_bound": 8.0, "net_arch": [16]} | ({} if sde else options),
    )  # fmt: skip
    actor = model.policy.actor
    mean = actor.mu[0] if sde else actor.mu
    assert mean.weight is actor.lipschitz_network.head.weight
    assert (mean.in_features, mean.out_features) == (16, 1)
    if "log_std_lipschitz_bound" in options:
        torch.testing.assert_close(actor.log_std.weight, actor.lipschitz_network.head.weight[1:])
        assert not list(actor.log_std.parameters())
    stepped = {id(p) for group in actor.optimizer.param_groups for p in group["params"]}
    assert id(mean.weight) in stepped
    assert not {id(p) for p in actor.latent_pi.parameters()} & {id(mean.weight)}


@pytest.mark.parametrize("layer", ["sandwich", "orthogonal", "spectral"])
def test_a_frozen_extractor_leaves_the_head_to_be_tuned(layer):
    model = made(PPO, layer=layer)
    observation = np.array([[0.3, -0.2, 1.0]], np.float32)
    before = model.policy.lipschitz_network.latent(torch.as_tensor(observation)).detach().clone()
    action = model.predict(observation, deterministic=True)[0]
    for p in model.policy.mlp_extractor.parameters():
        p.requires_grad_(False)
    model.learn(512)
    after = model.policy.lipschitz_network.latent(torch.as_tensor(observation)).detach()
    torch.testing.assert_close(after, before)
    assert np.abs(model.predict(observation, deterministic=True)[0] - action).max() > 1e-3
    assert model.policy.lipschitz_network.lipschitz_bound() <= 8


def test_the_head_is_projected_by_every_way_to_ask_for_it():
    model = made(PPO)
    head = model.policy.lipschitz_network.head
    assert head in projected_layers(model.policy)
    assert head in constrained_modules(model.policy)
    assert head in model.policy.optimizer.projected_layers
    fresh = project_after_step(torch.optim.SGD(model.policy.parameters(), lr=1.0), model.policy)
    model.policy.set_training_mode(True)
    for _ in range(3):
        fresh.zero_grad()
        model.policy.get_distribution(torch.randn(8, 3)).mode().sum().backward()
        fresh.step()
    model.policy.set_training_mode(False)
    assert model.policy.lipschitz_network.lipschitz_bound() <= 8


def test_copies_devices_and_dtypes_keep_them_one():
    policy = copy.deepcopy(made(PPO).policy)
    assert policy.action_net.weight is policy.lipschitz_network.head.weight
    policy.double()
    assert policy.action_net.weight is policy.lipschitz_network.head.weight
    assert policy.action_net.weight.dtype == torch.float64
    policy.float().share_memory()
    assert policy.action_net.weight is policy.lipschitz_network.head.weight


@pytest.mark.parametrize("algorithm", [*ON_POLICY, *SQUASHED, TD3])
def test_states_are_those_of_before(algorithm, tmp_path):
    """One key per weight, the network in one piece; the optimizer's states in the order of the modules."""
    model = made(algorithm)
    keys = set(model.policy.state_dict())
    assert not {key for key in keys if "action_net" in key or "mu.weight" in key or "mu.bias" in key}
    steps = 128 if algorithm in ON_POLICY else 30
    model.learn(steps)
    model.save(tmp_path / "m")
    again = algorithm.load(tmp_path / "m", device="cpu", env=model.get_env())
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        again.predict(x, deterministic=True)[0], model.predict(x, deterministic=True)[0]
    )
    owner, twin = ((m.policy if hasattr(m.policy, "action_net") else m.policy.actor) for m in (model, again))
    for group, other in zip(owner.optimizer.param_groups, twin.optimizer.param_groups, strict=True):
        for p, q in zip(group["params"], other["params"], strict=True):
            assert p.shape == q.shape
            for key, value in owner.optimizer.state.get(p, {}).items():
                torch.testing.assert_close(twin.optimizer.state[q][key], value)
    again.learn(steps)
    shapes = [p.shape for p in owner.optimizer.param_groups[0]["params"]]
    network = [p.shape for p in model.policy.lipschitz_network.parameters()] if algorithm is not TD3 else []
    at = next((i for i in range(len(shapes)) if shapes[i : i + len(network)] == network), None)
    assert at is not None


def test_functional_calls_reach_the_head():
    policy = made(PPO).policy
    x = torch.randn(4, 3)
    values = dict(policy.named_parameters())
    zeros = {
        name: 0 * p.detach() if name.startswith("action_net") else p.detach() for name, p in values.items()
    }
    found = torch.func.functional_call(policy, zeros, (x,), {"deterministic": True})[0]
    assert not found.any()
    assert policy._predict(x, deterministic=True).any()


def test_the_certificate_speaks_of_the_tuned_head():
    model = made(PPO)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)
    model.policy.set_training_mode(False)
    found = lipsrl.certify(model)
    assert 0 < found.lower_bound <= found.upper_bound <= 8 * (1 + 1e-9)


@pytest.mark.parametrize("algorithm", [PPO, *SQUASHED, TD3])
def test_the_bound_is_in_the_units_of_the_action_space(algorithm):
    """Its half range is 2; weights far above the bound are projected onto it."""
    model = made(algorithm, layer="spectral", activation="tanh")
    network = model.policy.lipschitz_network
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.mul_(100 if name.endswith("weight") else 0)
    network.project()
    model.policy.set_training_mode(False)
    found = lipsrl.certify(model)
    assert 2 < found.lower_bound <= found.upper_bound <= 8 * (1 + 1e-9)
