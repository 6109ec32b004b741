"""LipSDP-Neuron without a solver: against Clarabel, against the truth, and where it must refuse."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from lipsrl.certificates import product_bound, steepest_pair
from lipsrl.certificates.bounds._chain import Chain, chain_of, slope_range
from lipsrl.certificates.bounds._folding import tightest_bound
from lipsrl.certificates.bounds._lipsdp import GAP, eclipse_fast_bound, lipsdp_bound, minimise, normalised
from lipsrl.certificates.bounds._problem import Problem
from lipsrl.certificates.bounds._verification import verified
from lipsrl.layers import ACTIVATIONS
from lipsrl.layers.activations import make_activation


def network(sizes, activation="relu", seed=0, scale=1.5):
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        if i:
            modules.append(make_activation(activation, n_in))
        linear = nn.Linear(n_in, n_out)
        nn.init.normal_(linear.weight, std=scale / math.sqrt(n_in))
        modules.append(linear)
    return nn.Sequential(*modules).requires_grad_(False).double()


def by_clarabel(chain: Chain) -> float:
    """The same semidefinite program, as a solver sees it, written down independently of ours."""
    import cvxpy as cp

    weights = [w.numpy() for w in chain.weights]
    sizes = [w.shape[1] for w in weights]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = starts[-1]

    def select(i):
        matrix = np.zeros((sizes[i], total))
        matrix[:, starts[i] : starts[i + 1]] = np.eye(sizes[i])
        return matrix

    rho = cp.Variable(nonneg=True)
    form = rho * (select(0).T @ select(0)) - (weights[-1] @ select(len(sizes) - 1)).T @ (
        weights[-1] @ select(len(sizes) - 1)
    )
    for i, (low, high) in enumerate(zip(chain.low, chain.high, strict=True)):
        multiplier = cp.Variable(sizes[i + 1], nonneg=True)
        u, v = weights[i] @ select(i), select(i + 1)
        a, b = float(low[0]), float(high[0])
        left, right = v - a * u, b * u - v
        term = left.T @ cp.diag(multiplier) @ right
        form = form - (term + term.T) / 2
    # Schur's symmetric part is all that counts
    problem = cp.Problem(cp.Minimize(rho), [(form + form.T) / 2 >> 0])
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == "optimal"
    return math.sqrt(float(rho.value))


def climbed(net, dim):
    starts = torch.randn(512, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    return steepest_pair(net, starts, torch.ones(dim, dtype=torch.float64), keep=16, rounds=6, steps=40).ratio


CASES = [
    ((3, 8, 2), "relu"),
    ((4, 6, 5, 3), "tanh"),
    ((2, 7, 7, 7, 1), "leaky_relu"),
    ((5, 5, 4), "silu"),
    ((3, 6, 6, 2), "abs"),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("sizes", "activation"), CASES)
def test_equals_clarabel(sizes, activation, seed):
    pytest.importorskip("cvxpy")
    chain = chain_of(network(sizes, activation, seed))
    optimum = by_clarabel(chain)
    ours = lipsdp_bound(chain).lipschitz
    assert ours >= optimum * (1 - 1e-5), "below the optimum by more than the solver's tolerance"
    assert ours <= optimum * (1 + 1e-3)


ELEMENTWISE = [a for a in ACTIVATIONS if slope_range(make_activation(a, 4)) is not None]
SIZES = [(3, 16, 2), (3, 12, 12, 4), (2, 9, 1, 9, 2)]


@pytest.mark.parametrize(
    ("sizes", "activation"),
    [
        (sizes, activation)
        for i, activation in enumerate(ELEMENTWISE)
        for j, sizes in enumerate(SIZES)
        if i % 3 == j or activation in ("relu", "silu")
    ],
)
def test_never_below_the_truth_and_never_above_the_product(sizes, activation):
    net = network(sizes, activation, seed=1)
    chain = chain_of(net)
    bound = lipsdp_bound(chain)
    assert climbed(net, sizes[0]) <= bound.lipschitz <= product_bound(net) * (1 + 1e-3)
    fast = eclipse_fast_bound(chain)
    assert (fast is None) == (activation in ("silu", "gelu", "mish", "abs"))
    if fast is not None:
        assert bound.lipschitz <= fast.lipschitz * (1 + 1e-3) <= product_bound(net) * (1 + 2e-3)


def rational(matrix):
    return [[Fraction(float(value)) for value in row] for row in matrix]


def in_rationals(problem, multipliers):
    """``M(λ, 0)`` without rounding, from its definition: minus the output's square, plus (v - αu)ᵀΛ(v - βu)."""
    m = [[Fraction(0)] * problem.size for _ in range(problem.size)]
    for units, own, columns, weight in problem.blocks:
        ranges = rational(torch.stack([multipliers[units], problem.low[units], problem.high[units]], dim=1))
        for k, (row, (multiplier, low, high)) in enumerate(zip(rational(weight), ranges, strict=True)):
            a = {columns.start + j: -low * w for j, w in enumerate(row)} | {own.start + k: Fraction(1)}
            b = {columns.start + j: -high * w for j, w in enumerate(row)} | {own.start + k: Fraction(1)}
            for i, j in itertools.product(a, a):
                m[i][j] += multiplier * (a[i] * b[j] + b[i] * a[j]) / 2
    for row in rational(problem.chain.weights[-1]):
        start = problem.size - len(row)
        for (i, x), (j, y) in itertools.product(enumerate(row), enumerate(row)):
            m[start + i][start + j] -= x * y
    return m


def is_definite(m):
    for k, pivot_row in enumerate(m):
        if pivot_row[k] <= 0:
            return False
        for row in m[k + 1 :]:
            factor = row[k] / pivot_row[k]
            row[k:] = [x - factor * y for x, y in zip(row[k:], pivot_row[k:], strict=True)]
    return True


@pytest.mark.parametrize(
    ("sizes", "activation"), [((2, 4, 4, 2), "tanh"), ((2, 5, 1), "relu"), ((3, 4, 3, 2), "tanh")]
)
def test_what_is_returned_is_proven_in_rational_numbers(sizes, activation):
    """Multipliers at the edge of what proves anything, where rounding decides: refused, or exactly right."""
    problem = Problem(normalised(chain_of(network(sizes, activation, seed=1)))[0])
    multipliers = minimise(problem, GAP)
    low, high = 0.0, 1.0  # of a factor at which they begin to prove something
    for _ in range(60):
        middle = (low + high) / 2
        try:
            problem.schur(middle * multipliers)
            high = middle
        except RuntimeError:
            low = middle
    returned = 0
    for beyond in (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-6, 1e-2):
        scaled = high * (1 + beyond) * multipliers
        found = verified(problem, scaled)
        if found is not None:
            m = in_rationals(problem, scaled)
            for (i, row), j in itertools.product(enumerate(rational(found.matrix)), range(problem.inputs)):
                m[i][j] += row[j]
            assert is_definite(m), f"{beyond} beyond the edge"
            returned += 1
    assert 1 <= returned < 9


@pytest.mark.parametrize("sizes", [(4, 8, 8, 2), (6, 24, 24, 24, 3)])
def test_rescaled_units_change_nothing(sizes):
    """ReLU is homogeneous: what scales a unit's row and its column's inverse scales λ, over twelve decades here."""
    net = network(sizes)
    before = lipsdp_bound(chain_of(net)).lipschitz
    layers = [module for module in net if isinstance(module, nn.Linear)]
    for layer, following in itertools.pairwise(layers):
        factor = 10.0 ** torch.empty(layer.out_features, dtype=torch.float64).uniform_(-3, 3)
        layer.weight.mul_(factor.unsqueeze(1))
        following.weight.div_(factor)
    assert lipsdp_bound(chain_of(net)).lipschitz == pytest.approx(before, rel=1e-3)


def test_ellipsoid_bounds_every_direction():
    net = network((3, 16, 16, 2), seed=3)
    bound = lipsdp_bound(chain_of(net))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, dtype=torch.float64, generator=generator)
    d = torch.randn(20_000, 3, dtype=torch.float64, generator=generator) * 0.01
    moved = (net(x + d) - net(x)).square().sum(1)
    allowed = torch.einsum("ni,ij,nj->n", d, bound.matrix, d)
    assert bool((moved <= allowed).all())
    for i, per_input in enumerate(bound.per_input):
        alone = lipsdp_bound(chain_of(net).of_inputs(torch.tensor([i])))
        assert alone.lipschitz <= per_input * (1 + 1e-3)


def test_gains_are_folded():
    chain = chain_of(network((3, 8, 2)))
    gain = torch.tensor([10.0, 0.1, 1.0])
    folded = lipsdp_bound(chain.scaled(gain, torch.tensor([1.0, 0.5]))).lipschitz
    assert folded <= 10.0 * lipsdp_bound(chain).lipschitz * (1 + 1e-6)
    doubled = lipsdp_bound(chain.scaled(2 * torch.ones(3), 3 * torch.ones(2))).lipschitz
    assert doubled == pytest.approx(6 * lipsdp_bound(chain).lipschitz, rel=1e-3)


def test_a_linear_network_has_its_spectral_norm():
    net = network((5, 3))
    exact = float(torch.linalg.svdvals(net[0].weight)[0])
    assert exact <= lipsdp_bound(chain_of(net)).lipschitz <= exact * (1 + 1e-9)


@pytest.mark.parametrize("activation", ["maxmin", "group_sort", "full_sort", "householder"])
def test_what_mixes_units_has_no_chain(activation):
    """LipSDP's constraint for slopes in [0, 1] is violated by MaxMin: using it would give a bound below the truth."""
    assert chain_of(network((3, 8, 2), activation)) is None


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_extreme_weights(scale):
    net = network((3, 8, 8, 2), scale=scale)
    bound = lipsdp_bound(chain_of(net))
    assert bound.lipschitz <= product_bound(net) * (1 + 1e-3)
    slope = climbed(net, 3) if scale > 1 else 0.0  # differences of 1e-24 drown in the biases' rounding
    assert slope <= bound.lipschitz


@pytest.mark.parametrize("scale", [1e-165, 1e165])
def test_one_layer_whose_squares_float64_does_not_hold(scale):
    """Its bound is the product's, not zero."""
    network = nn.Sequential(nn.Linear(3, 2)).double()
    with torch.no_grad():
        network[0].weight.copy_(scale * torch.eye(2, 3, dtype=torch.float64))
    assert lipsdp_bound(chain_of(network)) is None
    assert tightest_bound(network) >= scale


def test_dead_units_and_zero_weights():
    net = network((3, 8, 8, 2))
    net[0].weight[2:5] = 0.0
    net[2].weight[:, 3] = 0.0
    assert climbed(net, 3) <= lipsdp_bound(chain_of(net)).lipschitz
    net[2].weight.zero_()
    bound = lipsdp_bound(chain_of(net))
    assert bound is None or bound.lipschitz < 1e-3


@pytest.mark.parametrize("name", [a for a in ACTIVATIONS if slope_range(make_activation(a, 4)) is not None])
def test_slope_ranges(name):
    module = make_activation(name, 1).double()
    low, high = slope_range(module)
    x = torch.linspace(-12, 12, 400_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(module(x).sum(), x)
    assert low - 1e-12 <= float(slope.min())
    assert float(slope.max()) <= high + 1e-12
    assert float(slope.min()) - low < 0.11
    if name in ("silu", "gelu", "mish"):
        assert float(slope.min()) < -0.09


@pytest.mark.parametrize("module", [nn.SiLU(), nn.GELU(), nn.Mish(), nn.Hardswish(), nn.SELU()])
def test_slope_ranges_of_torch_activations(module):
    low, high = slope_range(module)
    x = torch.linspace(-12, 12, 400_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(module.double()(x).sum(), x)
    assert low <= float(slope.min()) < low + 1e-3 or (low == 0 and float(slope.min()) >= 0)
    assert float(slope.max()) <= high
