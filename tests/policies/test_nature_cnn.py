"""LipschitzNatureCNN: the bound on images, merging, copies, and life inside a stock SB3 algorithm."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.utils import polyak_update
from torch import nn

from lipsrl.layers import project_after_step
from lipsrl.layers._float32_gram import worth_it
from lipsrl.policies.nature_cnn import LipschitzNatureCNN

SPACE = spaces.Box(0, 255, (2, 36, 40), np.uint8)
BOUND = 3.0
TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(**options):
    return LipschitzNatureCNN(SPACE, **{"features_dim": 32, "lipschitz_bound": BOUND, **options})


def train(net, optimizer, steps=5, space=SPACE):
    """Push the network to be as steep as it can."""
    for _ in range(steps):
        y = net(torch.rand(8, *space.shape))
        loss = -(y[1:] - y[:-1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def trained(steps=5, **options):
    net = make(**options)
    train(net, project_after_step(torch.optim.Adam(net.parameters(), lr=1e-3), net), steps)
    return net


def steepest(net, steps=30):
    """Slope of the steepest pair that gradient ascent finds in float64: never above a sound bound."""
    net = copy.deepcopy(net).double()
    x = torch.rand(4, *SPACE.shape, dtype=torch.float64)
    d = 1e-3 * torch.randn_like(x)
    pair = [x.requires_grad_(), d.requires_grad_()]
    optimizer, best = torch.optim.Adam(pair, lr=1e-2), 0.0
    for _ in range(steps):
        slope = (net(x + d) - net(x)).norm(dim=1) / d.flatten(1).norm(dim=1)
        best = max(best, float(slope.detach().max()))
        optimizer.zero_grad()
        slope.log().sum().neg().backward()
        optimizer.step()
    return best


def test_fresh_network_stands_on_its_bound():
    net = make()
    assert BOUND * (1 - 1e-4) <= net.lipschitz_bound() <= BOUND
    assert 0.1 * BOUND <= steepest(net) <= net.lipschitz_bound()
    assert net(torch.rand(3, *SPACE.shape)).shape == (3, 32)
    assert net.features_dim == 32


@pytest.mark.parametrize("activation", ["relu", "tanh", nn.ELU, "silu"])
def test_eval_mode_keeps_the_bound_exactly(activation):
    net = trained(activation=activation)
    assert net.lipschitz_bound() > BOUND, "the cheap updates are expected to overstep here"
    net.eval()
    assert net.lipschitz_bound() <= BOUND * (1 + TOLERANCE)
    assert steepest(net) <= net.lipschitz_bound()
    before = copy.deepcopy(list(net.parameters()))
    assert net.project() is False
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("index", range(4))
def test_bound_counts_every_layer(index):
    net = make()
    with torch.no_grad():
        net.layers[index].weight.mul_(2.0)
    assert net.lipschitz_bound() == pytest.approx(2 * BOUND, rel=1e-4)


def test_merge_is_the_same_function():
    net = trained().eval()
    merged = net.merge()
    kinds = [nn.Conv2d, nn.ReLU] * 3 + [nn.Flatten, nn.Linear, nn.ReLU]
    assert [type(module) for module in merged] == kinds
    x = torch.rand(4, *SPACE.shape)
    assert torch.equal(merged(x), net(x))
    stock = NatureCNN(SPACE, 32)
    assert [p.shape for p in merged.parameters()] == [p.shape for p in stock.parameters()]
    assert not set(merged.modules()) & set(net.modules()), "merge() must give fresh modules"
    merged[0].weight.data.zero_()
    assert not torch.equal(merged(x), net(x)), "merge() must give fresh weights"


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["deepcopy", "pickle"]
)
def test_copies_live_on_their_own(copier):
    net = trained()
    twin = copier(net)
    assert twin.training
    x = torch.rand(2, *SPACE.shape)
    assert torch.equal(twin(x), net(x))
    before = [p.detach().clone() for p in net.parameters()]
    twin.eval()
    assert twin.lipschitz_bound() <= BOUND * (1 + TOLERANCE)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_all_state_is_in_parameters():
    net = make()
    assert list(net.buffers()) == []
    assert len(list(net.parameters())) == 8


def test_saved_weights_keep_the_bound_and_load_as_they_are():
    net = trained()
    saved = net.state_dict()
    twin = make()
    twin.load_state_dict(saved)  # no warning: nothing to project
    assert twin.lipschitz_bound() <= BOUND * (1 + TOLERANCE)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    tight = make(lipschitz_bound=0.5)
    with pytest.warns(UserWarning, match="projected back"):
        tight.load_state_dict(saved)
    assert tight.lipschitz_bound() <= 0.5 * (1 + TOLERANCE)


def test_target_network_in_eval_mode_follows_polyak():
    """SB3 puts targets in eval mode once and then writes through .data."""
    online = make()
    target = copy.deepcopy(online).eval()
    optimizer = project_after_step(torch.optim.Adam(online.parameters(), lr=1e-3), online, exact=True)
    x = torch.rand(2, *SPACE.shape)
    for _ in range(3):
        train(online, optimizer, 1)
        before = target(x)
        polyak_update(online.parameters(), target.parameters(), 0.3)
        assert not torch.equal(before, target(x)), "the target did not move"
        assert target.lipschitz_bound() <= BOUND * (1 + TOLERANCE)


def double_in_place(net):
    net.linear.weight.mul_(2.0)


def double_by_vector(net):
    """As SB3's ``load_from_vector`` does."""
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(net.parameters()) * 2, net.parameters())


@pytest.mark.parametrize("act", [lambda net, x: net(x), lambda net, x: net.merge()], ids=["forward", "merge"])
@pytest.mark.parametrize("write", [double_in_place, double_by_vector])
def test_writes_in_eval_mode_are_projected_before_acting(write, act):
    net, x = trained().eval(), torch.rand(2, *SPACE.shape)
    before = copy.deepcopy(net.state_dict())
    act(net, x)
    assert all(torch.equal(before[k], v) for k, v in net.named_parameters()), "nothing was written"
    with torch.no_grad():
        write(net)
    assert net.lipschitz_bound() > 1.9 * BOUND
    act(net, x)
    assert net.lipschitz_bound() <= BOUND


def test_the_first_forward_of_a_copy_in_eval_mode_projects():
    net = trained().eval()
    net.linear.weight.data.mul_(2.0)  # leaves no trace
    net(torch.rand(2, *SPACE.shape))
    assert net.lipschitz_bound() > 1.9 * BOUND
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.deepcopy(net).double()):
        twin(torch.rand(2, *SPACE.shape, dtype=twin.linear.weight.dtype))
        assert twin.lipschitz_bound() <= BOUND


def test_weights_in_the_place_of_its_own_are_left_alone():
    net, x = trained().eval(), torch.rand(2, *SPACE.shape)
    others = {name: 2 * p.detach() for name, p in net.named_parameters()}
    before = copy.deepcopy(dict(net.named_parameters()))
    torch.func.functional_call(net, others, (x,))
    assert all(torch.equal(before[k], v) for k, v in net.named_parameters())


def test_not_every_transition_moves_the_weights():
    """Small optimizer steps fit into the slack; the bound holds all the same."""
    net = trained(10)
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=3e-4), net)
    moved = []
    for _ in range(10):
        net.eval()
        assert net.lipschitz_bound() <= BOUND
        net.train()
        train(net, optimizer, 1)
        moved.append(net.project())
    assert any(moved)
    assert not all(moved)


@pytest.mark.parametrize("lr", [1e-3, 1e4])
def test_every_network_that_acts_is_inside_whatever_the_optimizer_did(lr):
    """Large enough that float32 Gram matrices decide (tests/layers/test_float32_gram.py); norms by an SVD."""
    space = spaces.Box(0, 255, (1, 64, 64), np.uint8)
    net = LipschitzNatureCNN(space, features_dim=128, lipschitz_bound=BOUND)
    assert worth_it(net.linear.weight, net.linear.radius, net.linear.slack)
    target = copy.deepcopy(net).eval()
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=lr), net)

    def assert_inside(one, excess=0.0):
        assert float(torch.linalg.svdvals(one.linear.weight.detach().double())[0]) <= BOUND * (1 + excess)
        for conv in one.convolutions:
            assert conv.lipschitz_bound() <= 1 + excess

    for _ in range(2):
        train(net.train(), optimizer, 1, space)
        net.eval()
        assert_inside(net)
        polyak_update(net.parameters(), target.parameters(), 0.3)
        assert_inside(target, TOLERANCE)
    x = torch.rand(1, *space.shape)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net.train())).eval()):
        assert torch.equal(twin(x), net.eval()(x))
        assert_inside(twin)
    small = copy.deepcopy(net).bfloat16().eval()
    small(torch.rand(1, *space.shape, dtype=torch.bfloat16))
    assert_inside(small)


def test_layers_are_left_alone_where_nothing_was_learned(monkeypatch):
    """TD3 and DQN act more often than they learn."""
    net = trained().eval()
    for layer in net.layers:
        monkeypatch.setattr(type(layer), "project", None)
        monkeypatch.setattr(type(layer), "project_roughly", None)
    net.train().eval()
    net.train()
    with torch.no_grad():
        net.linear.weight.data.mul_(2.0)  # no version counter sees it
    with pytest.raises(TypeError):
        net.eval()


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        (spaces.Box(-1, 1, (4,)), {}, "needs an image"),
        (spaces.Discrete(3), {}, "needs an image"),
        (spaces.Box(0, 1, (3, 36, 36)), {}, "needs an image"),
        (spaces.Box(0, 255, (3, 35, 84), np.uint8), {}, "at least 36×36"),
        (SPACE, {"lipschitz_bound": 0}, "lipschitz_bound must be a finite number > 0"),
        (SPACE, {"features_dim": 0}, "features_dim must be an integer > 0"),
        (SPACE, {"activation": "maxmin"}, "act on each unit alone"),
        (SPACE, {"activation": None}, "activation=None is not known"),
    ],
)
def test_bad_arguments(space, arguments, message):
    with pytest.raises(ValueError, match=message):
        LipschitzNatureCNN(space, **arguments)


def test_float_images_need_normalized_image():
    assert LipschitzNatureCNN(spaces.Box(0, 1, (3, 36, 36)), 8, normalized_image=True).features_dim == 8


class Images(gym.Env):
    """Reward for naming the brighter half of a random image."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def _image(self):
        return self.np_random.integers(0, 256, (36, 36, 1), dtype=np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._seen = self._image()
        return self._seen, {}

    def step(self, action):
        brighter = int(self._seen[:, :18].mean() > self._seen[:, 18:].mean())
        self._seen = self._image()
        return self._seen, float(action == brighter), bool(self.np_random.random() < 0.1), False, {}


class BoundAtRollouts(BaseCallback):
    """Collects the bound of the extractor that acts."""

    def __init__(self):
        super().__init__()
        self.bounds = []

    def _on_rollout_start(self):
        self.bounds.append(self.model.policy.features_extractor.lipschitz_bound())

    def _on_step(self):
        return True


def test_inside_a_stock_ppo(tmp_path):
    model = PPO(
        "CnnPolicy",
        Images(),
        n_steps=16,
        batch_size=16,
        n_epochs=4,
        learning_rate=3e-3,
        policy_kwargs={
            "features_extractor_class": LipschitzNatureCNN,
            "features_extractor_kwargs": {"features_dim": 32, "lipschitz_bound": BOUND},
        },
        seed=0,
        device="cpu",
    )
    project_after_step(model.policy.optimizer, model.policy)
    extractor = model.policy.features_extractor
    before = extractor.convolutions[0].weight.detach().clone()
    seen = BoundAtRollouts()
    model.learn(48, callback=seen)
    assert not torch.equal(before, extractor.convolutions[0].weight), "the extractor was not trained"
    assert extractor.lipschitz_bound() > BOUND, "the cheap updates are expected to overstep here"
    assert len(seen.bounds) == 3
    assert max(seen.bounds) <= BOUND * (1 + TOLERANCE)
    observation = model.observation_space.sample()[None]
    action = model.predict(observation, deterministic=True)[0]
    assert extractor.lipschitz_bound() <= BOUND * (1 + TOLERANCE)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    assert loaded.policy.features_extractor.lipschitz_bound() <= BOUND * (1 + TOLERANCE)
    assert loaded.predict(observation, deterministic=True)[0] == action
