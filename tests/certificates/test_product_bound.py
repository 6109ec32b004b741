"""Product bound and rounding analysis of chains with residual blocks and activations that act on groups of units."""

from __future__ import annotations

import copy

import pytest
import torch
from stable_baselines3 import PPO
from torch import nn

import lipsrl
from lipsrl.actors._rounding import rounding_error
from lipsrl.certificates import product_bound
from lipsrl.layers._plain import Residual, plain_linear
from lipsrl.layers.activations import make_activation
from tests.families import FAMILIES, norm_of, steepest

JOINT = ["maxmin", "group_sort", "full_sort", "householder"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def times(factor, size=2):
    return plain_linear(factor * torch.eye(size), None)


def deep(activation, width=7):
    """Residual blocks in a row and inside each other, between linear layers."""
    inner = Residual([nn.Linear(width, width), make_activation(activation, width)], torch.eye(width))
    modules = [
        nn.Linear(3, width), make_activation(activation, width), inner, nn.LeakyReLU(0.5),
        Residual([nn.Linear(width, 9), make_activation(activation, 9), nn.Linear(9, width), copy.deepcopy(inner)],
                 torch.randn(width, width) / 3),
        nn.Linear(width, 2),
    ]  # fmt: skip
    return nn.Sequential(*modules)


def test_a_residual_block_counts_its_skip_and_its_branch():
    assert product_bound([Residual([times(2.0)], 3 * torch.eye(2))]) == pytest.approx(5.0, rel=1e-12)
    nested = Residual([Residual([times(2.0), nn.SiLU()], torch.eye(2)), times(0.5)], 3 * torch.eye(2))
    network = nn.Sequential(times(4.0), nested, nn.LeakyReLU(2.0), times(0.5))
    exact = 4 * (3 + 0.5 * (1 + 2 * 1.0998393)) * 2 * 0.5
    assert product_bound(network) == pytest.approx(exact, rel=1e-6)
    with pytest.raises(ValueError, match="Softshrink in the actor has no known Lipschitz constant"):
        product_bound([Residual([times(2.0), nn.Softshrink()], torch.eye(2))])


@pytest.mark.parametrize("activation", [*JOINT, "abs", "silu", "relu"])
def test_the_product_is_never_below_the_steepest_place(activation):
    network = deep(activation)
    bound = product_bound(network)
    assert 0.02 * bound < steepest(network, 3) <= bound
    scale = torch.tensor([0.1, 3.0])
    scaled = nn.Sequential(network, times(1.0))
    with torch.no_grad():
        scaled[1].weight.mul_(scale.unsqueeze(1))
    assert steepest(scaled, 3) <= product_bound(network, scale)


@pytest.mark.parametrize("activation", [*JOINT, "relu", "abs", "residual"])
def test_output_factors_pass_only_what_acts_unit_by_unit(activation):
    """Folded into the layer before it, 10 times the larger of (x₀/10, x₁) would count as slope 1."""
    first, factors = plain_linear(torch.tensor([[0.1, 0.0], [0.0, 1.0]]), None), torch.tensor([10.0, 1.0])
    if activation == "residual":
        tail = Residual([plain_linear(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), None)], torch.zeros(2, 2))
    else:
        tail = make_activation(activation, 2)
    network = nn.Sequential(first, tail)
    true = steepest(nn.Sequential(network, plain_linear(torch.diag(factors), None)), 2)
    assert true == pytest.approx(10.0 if activation in (*JOINT, "residual") else 1.0, rel=1e-6)
    assert product_bound(network, factors) == pytest.approx(true, rel=1e-6)


def test_output_factors_are_never_left_out():
    assert product_bound([nn.Tanh()], torch.tensor([3.0, 1.0])) >= 3.0


@pytest.mark.parametrize("activation", [*JOINT, "silu", "relu"])
@pytest.mark.parametrize("bias", [0.0, 1e3])
def test_rounding_is_not_underrated(activation, bias):
    """float32 against float64; large biases that cancel lose digits."""
    network = deep(activation)
    with torch.no_grad():
        network[0].bias.add_(bias)
        network[2].branch[0].bias.sub_(bias)
    exact = copy.deepcopy(network).double()
    x = torch.randn(300, 3)
    eps = torch.finfo(torch.float32).eps
    with torch.no_grad():
        y, error = rounding_error(exact, x.double(), torch.zeros(300, 3, dtype=torch.float64), eps)
        torch.testing.assert_close(y, exact(x.double()))
        wrong = (network(x).double() - y).abs()
    assert (wrong <= error).all()
    assert wrong.max() > 1e-4 * error.max(), "loose after so many layers, but not without use"


@pytest.mark.parametrize("activation", JOINT)
def test_an_error_reaches_every_unit_of_its_group(activation):
    x, error = torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    error[0, 0] = 1.0
    _, after = rounding_error([make_activation(activation, 4).double()], x, error, 1e-16)
    partner = 1 if activation in ("group_sort", "full_sort") else 2
    assert after[0, 0] >= 1.0
    assert after[0, partner] >= 1.0


@pytest.mark.parametrize("layer", FAMILIES)
def test_every_family_can_be_certified_by_its_plain_form(layer):
    model = PPO("LipschitzMlpPolicy", "Pendulum-v1", n_steps=64, batch_size=32, learning_rate=1e-2, seed=0,
                device="cpu", policy_kwargs={"lipschitz_bound": 3.0, "layer": layer, "net_arch": [9, 7],
                                             **norm_of(layer)})  # fmt: skip
    model.learn(64)
    product = lipsrl.certify(model, method="product", n_starts=64)
    assert steepest(lipsrl.actor_network(model), 3, rounds=5) <= product.network.upper_bound
