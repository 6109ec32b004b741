"""LipschitzMLP: the bound, merging, and where weights may be remembered."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.utils import polyak_update
from torch import nn

from lipsrl import LipschitzMLP
from lipsrl.layers import BUDGETS, LAYERS, project_after_step
from lipsrl.layers._plain import Residual
from tests.families import FAMILIES, L2_FAMILIES, norm_of


def train(net, optimizer, steps=40):
    for _ in range(steps):
        x = torch.randn(32, net.in_features)
        y = net(x)
        loss = -(y[1:] - y[:-1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def worst_pair(net, n=20_000, scale=3.0):
    plain = copy.deepcopy(net).double()
    order = 2 if net.norm == "l2" else math.inf
    x = torch.randn(n, net.in_features, dtype=torch.float64) * scale
    d = torch.randn_like(x) * torch.logspace(-4, 1, n, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        moved = torch.linalg.vector_norm(plain(x + d) - plain(x), ord=order, dim=1)
    # the shortest pairs are 1e-4 apart: their float64 difference is up to 1e-11 (relative) wrong
    return float((moved / torch.linalg.vector_norm(d, ord=order, dim=1)).max()) * (1 - 1e-10)


@pytest.mark.parametrize(
    ("layer", "budget"), [(f, b) for f in FAMILIES for b in sorted(BUDGETS) if (f, b) != ("linf", "growing")]
)
def test_moving_the_bound_mends_what_was_written_into_a_network_in_evaluation_mode(layer, budget):
    """A target network is in evaluation mode for good: nothing else would project a layer whose share stays."""
    net = LipschitzMLP(3, 2, [8, 8], bound=2.0, layer=layer, budget=budget, **norm_of(layer)).eval()
    with torch.no_grad():
        for weight in [p for held in (*net.layers, net.head) for p in held.parameters() if p.ndim == 2]:
            weight.copy_(5.0 * torch.randn_like(weight))
    net.set_bound(1.5)
    assert worst_pair(net) <= 1.5
    assert net.lipschitz_bound() <= 1.5


@pytest.mark.parametrize(
    ("layer", "budget"),
    [(f, b) for f in FAMILIES for b in ("growing", "even") if (f, b) != ("linf", "growing")],
)
def test_a_bound_that_moves_a_little_moves_what_was_learned_a_little(layer, budget):
    """A schedule and a search for K move it a hundred times: what was learned has to survive each."""
    torch.manual_seed(0)
    net = LipschitzMLP(3, 2, [16, 16], bound=8.0, layer=layer, budget=budget, **norm_of(layer))
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=1e-2), net)
    teacher = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 2))
    for _ in range(150):
        x = torch.randn(64, 3)
        loss = (net(x) - 4 * teacher(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if layer == "sandwich":  # angles on both sides of 45°, where the same slope has two stacks
        for held in net.layers:
            with torch.no_grad():
                held.stack.copy_(0.999 * held.held * torch.linalg.qr(torch.randn_like(held.stack)).Q)
        sines = torch.linalg.svdvals(net.layers[1].stack.detach()[16:]) / net.layers[1].held
        assert sines.min() < 0.5
        assert sines.max() > 0.9
    net.eval()
    x = torch.randn(500, 3)
    with torch.no_grad():
        before = net(x)
        for factor in (1.02, 1 / 1.02, 0.98):
            net.set_bound(net.bound * factor)
            after = net(x)
            assert float((after - before).norm()) <= 0.03 * float(before.norm())
            assert net.lipschitz_bound() <= net.bound
            before = after


@settings(max_examples=25, deadline=None)
@given(
    layer=st.sampled_from(FAMILIES),
    budget=st.sampled_from(sorted(BUDGETS)),
    activation=st.sampled_from(["relu", "tanh", "softplus"]),
    hidden=st.lists(st.integers(1, 24), max_size=3),
    bound=st.floats(0.1, 50),
    lr=st.sampled_from([1e-3, 1e-1]),
    seed=st.integers(0, 10_000),
)
def test_no_pair_is_steeper_than_the_bound(layer, budget, activation, hidden, bound, lr, seed):
    torch.manual_seed(seed)
    assume(budget != "growing" or LAYERS[layer].norm == "l2")
    net = LipschitzMLP(4, 3, hidden, bound, layer, activation, **norm_of(layer), budget=budget)
    train(net, project_after_step(torch.optim.Adam(net.parameters(), lr=lr), net), 20)
    net.eval()
    assert net.lipschitz_bound() <= bound
    assert worst_pair(net, 2000) <= net.lipschitz_bound()


@pytest.mark.parametrize("layer", FAMILIES)
@pytest.mark.parametrize("budget", ["output", "learned"])
def test_merge_is_the_same_function(layer, budget):
    torch.manual_seed(0)
    net = LipschitzMLP(
        5, 2, (32, 32), 8.0, layer, "tanh", **norm_of(layer), budget=budget,
        input_scale=[1, 2, 3, 4, 5], output_scale=2.0,
    )  # fmt: skip
    train(net, project_after_step(torch.optim.Adam(net.parameters(), lr=1e-2), net))
    x = torch.randn(64, 5)
    torch.testing.assert_close(net.merge()(x), net(x), rtol=1e-5, atol=1e-6)
    net.eval()
    net.cache_in_eval = True
    merged = net.merge()
    kinds = [type(m) for m in merged]
    assert kinds in ([nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear], [Residual, Residual, nn.Linear])
    assert torch.equal(merged(x), net(x))
    assert torch.equal(net.output(net.latent(x)), net(x))
    next(merged.parameters()).data.zero_()
    assert not torch.equal(merged(x), net(x)), "merge() must give fresh modules"


@pytest.mark.parametrize("layer", L2_FAMILIES)
def test_scales_state_the_promise_in_other_units(layer):
    torch.manual_seed(0)
    scale = torch.tensor([0.1, 10.0, 1.0])
    half_range = torch.tensor([5.0, 0.5])
    net = LipschitzMLP(3, 2, (16, 16), 4.0, layer, input_scale=scale, output_scale=half_range)
    for _ in range(150):
        x = torch.randn(64, 3) * scale
        y = net(x) * half_range
        loss = -(y[1:] - y[:-1]).square().mean()
        optimizer = locals().get("optimizer") or project_after_step(
            torch.optim.Adam(net.parameters(), lr=1e-2), net
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval().double()
    assert net.lipschitz_bound() <= 4.0
    x = torch.randn(20_000, 3).double() * scale
    d = torch.randn_like(x) * scale * 1e-3
    with torch.no_grad():
        moved = ((net(x + d) - net(x)) * half_range).norm(dim=1)
    slope = float((moved / (d / scale).norm(dim=1)).max())
    assert 0.5 * 4.0 < slope <= net.lipschitz_bound()


def test_target_network_in_eval_mode_follows_polyak():
    """SB3 puts targets in eval mode once and then writes through .data: a cache there would never change."""
    torch.manual_seed(0)
    online = LipschitzMLP(4, 2, (16,), 3.0)
    target = copy.deepcopy(online).eval()
    train(online, project_after_step(torch.optim.Adam(online.parameters(), lr=1e-2), online, exact=True))
    assert online.lipschitz_bound() <= 3.0
    x = torch.randn(8, 4)
    before = target(x)
    for _ in range(30):
        polyak_update(online.parameters(), target.parameters(), 0.5)
    assert not torch.allclose(before, target(x))
    torch.testing.assert_close(target(x), online(x), rtol=1e-4, atol=1e-5)
    assert target.lipschitz_bound() <= 3.0


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["deepcopy", "pickle"]
)
def test_copies_have_no_cache(copier):
    net = LipschitzMLP(4, 2, (16,), 3.0).eval()
    net.cache_in_eval = True
    twin = copier(net)
    assert net.cache_in_eval
    assert not twin.cache_in_eval
    x = torch.randn(8, 4)
    assert torch.equal(net(x), twin(x))
    for parameter in twin.parameters():
        parameter.data.mul_(0.5)
    assert not torch.equal(net(x), twin(x))


def test_cache_follows_load_dtype_and_mode():
    torch.manual_seed(0)
    net, other = LipschitzMLP(4, 2, (16,), 3.0), LipschitzMLP(4, 2, (16,), 3.0)
    net.eval()
    net.cache_in_eval = True
    x = torch.randn(8, 4)
    net.load_state_dict(other.state_dict())
    assert torch.equal(net(x), other.eval()(x))
    net.double()
    assert net(x.double()).dtype == torch.float64
    net.train()
    net(x.double()).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_loading_weights_that_break_the_bound_projects_and_says_so():
    loose, tight = LipschitzMLP(4, 2, (16,), 30.0), LipschitzMLP(4, 2, (16,), 3.0)
    with pytest.warns(UserWarning, match="projected back"):
        tight.load_state_dict(loose.state_dict())
    assert tight.lipschitz_bound() <= 3.0


def test_saved_weights_keep_the_bound_in_the_middle_of_training():
    torch.manual_seed(0)
    net = LipschitzMLP(4, 2, (32, 32), 3.0, "spectral")
    train(net, project_after_step(torch.optim.Adam(net.parameters(), lr=5e-2), net))
    assert net.lipschitz_bound() > 3.0, "the cheap updates are expected to overstep here"
    saved = net.state_dict()
    twin = LipschitzMLP(4, 2, (32, 32), 3.0, "spectral")
    twin.load_state_dict(saved)  # no warning: nothing to project
    assert twin.lipschitz_bound() <= 3.0


@pytest.mark.parametrize("budget", sorted(BUDGETS))
@pytest.mark.parametrize("layer", FAMILIES)
def test_every_split_of_the_bound_keeps_it(layer, budget):
    torch.manual_seed(0)
    if budget == "growing" and layer == "linf":
        with pytest.raises(ValueError, match="norm='l2' only"):
            LipschitzMLP(4, 3, (16, 16), 5.0, layer, "relu", "linf", budget=budget)
        return
    net = LipschitzMLP(4, 3, (16, 16), 5.0, layer, **norm_of(layer), budget=budget)
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=1e-1), net)
    train(net, optimizer)
    gains = budget == "growing" and not LAYERS[layer].shrinks
    assert (net.shares is not None) == (budget == "learned" or gains)
    if budget == "learned":
        assert float(net.shares.logits.detach().abs().max()) > 0.1, "the shares were not learned"
    net.eval()
    assert worst_pair(net, 4000) <= net.lipschitz_bound() <= 5.0
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.data.mul_(0.5)
    assert twin.lipschitz_bound() <= 5.0, "an average with anything feasible is feasible"


@pytest.mark.parametrize("layer", FAMILIES)
def test_nan_gradients_of_any_part_leave_the_network_alone(layer):
    net = LipschitzMLP(4, 3, (8,), 5.0, layer, "tanh", **norm_of(layer), budget="learned")
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=1e-1), net)
    for name, parameter in net.named_parameters():
        optimizer.zero_grad()
        net(torch.randn(8, 4)).square().sum().backward()
        assert parameter.grad is not None, f"{name} is not trained"
        parameter.grad[(0,) * parameter.ndim] = float("nan")
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(ValueError, match="NaN or infinite"):
            optimizer.step()
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items()), name


def test_bound_covers_the_rounding_of_merged_weights():
    net = LipschitzMLP(4, 2, (64, 64, 64), 3.0)
    factors = math.prod(layer.lipschitz_bound() for layer in [*net.layers, net.head])
    with torch.no_grad():
        stages = list(zip(net.stages(), net.stages(acting=False), strict=True))
    off = [
        float((real.weight.double() - exact.weight).norm() / exact.weight.norm()) for real, exact in stages
    ]
    assert factors * (1 + sum(off)) < net.lipschitz_bound() < factors * (1 + 1e-4)
    assert sum(off) > 1e-9, "what float64 rounds would not show"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bound": 0}, "bound must be a finite number > 0, received 0"),
        ({"bound": float("nan")}, "bound must be"),
        ({"layer": "sandwitch"}, "Did you mean 'sandwich'"),
        ({"activation": "rleu"}, "Did you mean 'relu'"),
        ({"norm": "linf"}, "norm='linf' is not supported by layer='sandwich'"),
        ({"layer": "linf"}, "norm='l2' is not supported by layer='linf'"),
        ({"norm": "l3"}, "norm='l3' is not known"),
        ({"budget": "evn"}, "Did you mean 'even'"),
        ({"hidden": (8, 0)}, "hidden must be an integer > 0"),
        ({"input_scale": [1.0, 2.0]}, "input_scale must be one number > 0 or 4"),
        ({"input_scale": -1.0}, "input_scale must be finite and > 0"),
        ({"head_gain": 2.0}, "gain must be in"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LipschitzMLP(4, 2, **arguments)
