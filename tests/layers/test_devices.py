"""Layers and networks on a device: the same promise, and forward passes that never wait for numbers."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from stable_baselines3.common.utils import polyak_update
from torch.utils._python_dispatch import TorchDispatchMode

from lipsrl import LipschitzMLP
from lipsrl.layers import LAYERS, _same, project_after_step
from tests.families import L2_FAMILIES

K = 4.0


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Reads(TorchDispatchMode):
    """Counts what would wait for an accelerator: numbers that are read back, comparisons, copies to the CPU."""

    WAITING = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::item", "aten::is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in self.WAITING:
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def step(network, optimizer):
    x = torch.randn(16, network.in_features, device=network.head.bias.device)
    optimizer.zero_grad()
    (-network.train()(x).square().mean()).backward()
    optimizer.step()


@pytest.mark.parametrize("family", L2_FAMILIES)
def test_everything_on_the_device(family, device):
    net = LipschitzMLP(3, 2, (8, 8), K, family, budget="growing").to(device)
    net.cache_in_eval = True
    target = copy.deepcopy(net).eval()
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=1e-2), net)
    for _ in range(3):
        step(net, optimizer)
        net.eval()
        assert net.lipschitz_bound() <= K
        polyak_update(net.parameters(), target.parameters(), 0.3)
        assert target.lipschitz_bound() <= K
    x = torch.randn(5, 3, device=device)
    twins = (
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        LipschitzMLP(3, 2, (8, 8), K, family, budget="growing"),
    )
    twins[2].to(device).load_state_dict(net.state_dict())
    for twin in twins:
        assert torch.equal(twin.eval()(x), net(x))
        assert {p.device.type for p in twin.parameters()} == {device}
    assert net.merge()(x).device.type == device


@pytest.mark.parametrize("family", L2_FAMILIES)
def test_forward_passes_read_nothing_back(family):
    net = LipschitzMLP(3, 2, (8, 8), K, family)
    net.cache_in_eval = True
    x = torch.randn(4, 3)
    parametrised = not LAYERS[family].projected
    with Reads() as reads:
        net.train()(x).sum().backward()
    assert len(reads.found) <= (4 * 3 if parametrised else 0), reads.found  # limited() of free parameters
    net.eval()
    with Reads() as reads, torch.no_grad():
        net(x)
        net.latent(x)
    assert reads.found == []


@pytest.mark.parametrize("family", ["orthogonal", "sandwich"])
def test_weights_are_compared_in_one_read(family, monkeypatch):
    layer = LAYERS[family](6, 6)
    layer.keep_inside()
    monkeypatch.setattr(_same, "waits", lambda device: True)  # as on an accelerator
    with Reads() as reads:
        assert layer.is_as_left()
    assert len(reads.found) == 1
    for parameter in layer.parameters():
        before = parameter.detach().clone()
        parameter.data[(-1,) * parameter.dim()] += 1e-3
        assert not layer.is_as_left()
        parameter.data.copy_(before)
        assert layer.is_as_left()
    layer.bias.data[0] = math.nan
    assert not layer.is_as_left()
