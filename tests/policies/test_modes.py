"""Changing mode without torch's walk, and merged weights that serve on in training: never a stale flag or weight."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.utils import polyak_update
from torch import nn

import lipsrl  # noqa: F401  (registers the policies)
from lipsrl import LipschitzMLP
from lipsrl.layers import project_after_step
from lipsrl.networks._tree import set_mode


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3, DQN], ids=lambda cls: cls.__name__)
def test_every_module_has_the_mode_that_stock_has(algorithm):
    env = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    options = {} if algorithm is PPO else {"buffer_size": 10}
    kwargs = {"net_arch": [8, 8]}
    stock = algorithm("MlpPolicy", env, policy_kwargs=kwargs, device="cpu", **options).policy
    ours = algorithm(
        "LipschitzMlpPolicy", env, policy_kwargs={**kwargs, "lipschitz_bound": 3.0}, device="cpu", **options
    ).policy
    for mode in (True, False, False, True, True):
        stock.set_training_mode(mode)
        ours.set_training_mode(mode)
        flags = {name.split(".")[0]: module.training for name, module in stock.named_modules()}
        for name, module in ours.named_modules():
            assert module.training == flags[name.split(".")[0]], (name, mode)


def test_a_module_that_comes_later_changes_mode_too():
    root = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    set_mode(root, False)
    root[1].append(nn.Dropout())
    set_mode(root, True)
    set_mode(root, False)
    assert not root[1][1].training
    root[1][0] = nn.BatchNorm1d(2)
    set_mode(root, False)
    assert not root[1][0].training
    with pytest.raises(ValueError, match="True or False"):
        set_mode(root, 1)


@pytest.mark.parametrize("write", ["one entry behind every counter", "step", "bias", "bound", "load"])
def test_weights_of_the_last_eval_mode_never_outlive_a_write(write):
    torch.manual_seed(0)
    network, x = LipschitzMLP(4, 2, (8, 8), 3.0, "sandwich"), torch.randn(5, 4)
    network.cache_in_eval = True
    network.eval()
    acted = network(x)
    network.train()
    with torch.no_grad():
        assert torch.equal(network(x), acted)
        assert network._still_kept() is not None
        if write == "one entry behind every counter":
            network.layers[1].stack.data[3, 2] += 0.01
        elif write == "step":
            network.head.weight.add_(0.01)
        elif write == "bias":
            network.layers[0].bias.data[1] += 0.1
        elif write == "bound":
            network.set_bound(2.0)
        else:
            network.load_state_dict(LipschitzMLP(4, 2, (8, 8), 3.0, "sandwich").state_dict())
        now = network(x)
        fresh = network.output(network.latent(x))
    assert not torch.equal(now, acted)
    assert torch.equal(now, fresh)
    assert torch.equal(now, network(x).detach())  # with a graph: merged anew
    assert network._left is None


def make_network():
    torch.manual_seed(0)
    network = LipschitzMLP(4, 2, (8, 8), 3.0, "sandwich")
    network.cache_in_eval = True
    return network.eval()


def test_merged_weights_serve_again_where_nothing_was_learned():
    network, x = make_network(), torch.randn(5, 4)
    acted = network(x)
    network.train().eval()
    kept = network._kept
    network.train().eval()
    assert network._kept is kept
    assert torch.equal(network(x), acted)
    network.train()
    network.layers[1].stack.data[3, 2] += 0.01
    network.eval()
    assert not torch.equal(network(x), acted)
    network._kept = None
    assert torch.equal(network(x), network.train().eval()(x))


@pytest.mark.parametrize("how", ["load", "project"])
def test_weights_that_come_back_are_not_taken_for_what_was_between(how):
    """What is kept may be of other weights than those that a layer remembers."""
    network, x = make_network(), torch.randn(5, 4)
    network.train().eval()
    acted, first = network(x), {name: value.clone() for name, value in network.state_dict().items()}
    if how == "load":
        network.load_state_dict(LipschitzMLP(4, 2, (8, 8), 3.0, "sandwich").state_dict())
    else:
        network.head.weight.data.mul_(-1.0)
        network.project()
    assert not torch.equal(network(x), acted)
    network.train()
    for name, parameter in network.named_parameters():
        parameter.data.copy_(first[name])  # behind every counter
    with torch.no_grad():
        assert torch.equal(network(x), acted)
    network.eval()
    assert torch.equal(network(x), acted)


@pytest.mark.parametrize("exact", [True, False])
def test_merged_weights_of_before_a_step_never_act_after_it(exact):
    """With ``exact=True`` (TD3's actor) the step itself leaves every layer as the next transition finds it."""
    network, x = make_network(), torch.randn(5, 4)
    optimizer = project_after_step(torch.optim.Adam(network.parameters(), lr=0.03), network, exact=exact)
    acted = network(x).detach()
    for _ in range(3):
        network.train()
        network(x).sum().backward()
        optimizer.step()
        with torch.no_grad():
            learned = network(x)
        assert not torch.allclose(learned, acted)
        acted = network.eval()(x).detach()
        assert torch.equal(acted, copy.deepcopy(network)(x))
        assert torch.allclose(acted, learned, atol=0.2)


def test_td3_acts_with_the_weights_that_it_has():
    model = TD3(
        "LipschitzMlpPolicy", "Pendulum-v1", learning_starts=4, batch_size=4, buffer_size=99, device="cpu", seed=0,
        policy_kwargs={"lipschitz_bound": 3.0, "net_arch": [8, 8]}, learning_rate=0.03,
    )  # fmt: skip
    observations = np.float32([[1.0, 0.0, 0.5], [0.0, 1.0, -2.0]])
    seen = []

    def looked(*_):
        actions, _ = model.predict(observations, deterministic=True)
        seen.append(actions)
        assert np.array_equal(
            actions, copy.deepcopy(model.policy).predict(observations, deterministic=True)[0]
        )
        return True

    model.learn(20, callback=looked)
    assert len({actions.tobytes() for actions in seen}) > 5


@torch.no_grad()
@pytest.mark.parametrize("layer", ["spectral", "orthogonal", "sandwich"])
def test_a_target_computes_what_averaging_leaves_in_it(layer):
    """SB3 averages through ``.data``, in evaluation mode, behind every counter (trap 1)."""
    model = TD3(
        "LipschitzMlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu", seed=0,
        policy_kwargs={"lipschitz_bound": 3.0, "net_arch": [8, 8], "layer": layer},
    )  # fmt: skip
    model.policy.set_training_mode(False)
    online, target = model.actor, model.actor_target
    x = torch.randn(16, 3)
    before = target(x)
    for parameter in online.parameters():
        parameter.data.mul_(-0.5)
    online.lipschitz_network.project()
    polyak_update(online.parameters(), target.parameters(), 1.0)
    assert (target(x) - before).abs().max() > 1e-3
    torch.testing.assert_close(target(x), online(x))
