"""The mathematics of the constraint families: what the contract, which looks at layers from outside, cannot see."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy.linalg import logm
from torch.autograd import gradcheck

from lipsrl.layers import LAYERS, Rescaled, SandwichCayley
from lipsrl.layers import sll as sll_module
from lipsrl.layers._linalg import random_orthonormal
from lipsrl.layers._maps import dominating_diagonal, unit_scaled
from lipsrl.layers.aol import almost_orthogonal
from lipsrl.layers.bjorck import ITERATIONS, bjorck, norm_bound
from lipsrl.layers.cayley import cayley
from lipsrl.layers.expm import exponential
from lipsrl.layers.rescaled import power_step
from lipsrl.layers.sll import SLL, sll_contraction
from tests.families import steepest

DOUBLE = torch.float64


def sll_part(weight):
    """The contraction of SLL with unequal q, for tall weights as the others."""
    log_q = torch.linspace(-3, 3, weight.shape[1], dtype=weight.dtype)
    return sll_contraction(weight.mT, log_q)[0].mT


ORTHOGONAL = {"cayley": cayley, "expm": exponential}
SCALE_FREE = {"bjorck": bjorck, "aol": almost_orthogonal}
MAPS = {**ORTHOGONAL, **SCALE_FREE, "sll": sll_part}
SHAPES = [(1, 1), (5, 5), (9, 4), (40, 33)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def gaussian(m, n):
    return torch.randn(m, n, dtype=DOUBLE) / m**0.5


def below(m, n, lower):
    """A Gaussian whose rows under the square block are ``lower``."""
    weight = gaussian(m, n)
    weight[n:] = lower
    return weight


WEIGHTS = {
    "gaussian": gaussian,
    "1e-20": lambda m, n: 1e-20 * gaussian(m, n),
    "1e3": lambda m, n: 1e3 * gaussian(m, n),
    "1e20": lambda m, n: 1e20 * gaussian(m, n),
    "zero": lambda m, n: torch.zeros(m, n, dtype=DOUBLE),
    "duplicate rows": lambda m, n: 10 * gaussian(1, n).repeat(m, 1),
    "duplicate columns": lambda m, n: 10 * gaussian(m, 1).repeat(1, n),
    "duplicate rows 1e3": lambda m, n: 1e3 * gaussian(1, n).repeat(m, 1),
    "rank 2": lambda m, n: 1e3 * gaussian(m, 2) @ gaussian(2, n),
    "large V": lambda m, n: below(m, n, 1e3 * torch.randn(m - n, n)),
    "large V of rank 1": lambda m, n: below(m, n, 1e3 * torch.randn(1, n)),
    "rows of all sizes": lambda m, n: gaussian(m, n) * torch.logspace(-15, 15, m, dtype=DOUBLE).unsqueeze(1),
    "columns of all sizes": lambda m, n: gaussian(m, n) * torch.logspace(-15, 15, n, dtype=DOUBLE),
}


def norm(matrix):
    return float(torch.linalg.matrix_norm(matrix.double(), 2))


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("name", MAPS)
def test_contractions_whatever_the_weight_in_both_precisions(name, kind):
    for shape in SHAPES:
        weight = WEIGHTS[kind](*shape).float()
        exact, rounded = MAPS[name](weight.double()), MAPS[name](weight)
        assert exact.shape == rounded.shape == shape
        assert norm(exact) <= 1 + 1e-8
        assert norm(rounded) <= 1 + 1e-5, "layers leave 3e-5 for this"
        # each Björck step multiplies what rounding left of a vanishing singular value by 3/2
        atol = 1.5**ITERATIONS * 2**-23 if name == "bjorck" else 1e-5
        torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=atol)
        if name in ORTHOGONAL:
            identity = torch.eye(shape[1], dtype=DOUBLE)
            torch.testing.assert_close(exact.mT @ exact, identity, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", MAPS)
def test_float32_gradients_are_finite(name):
    for kind in ["gaussian", "1e-20", "zero", "1e20", "duplicate rows", "duplicate columns"]:
        weight = WEIGHTS[kind](9, 4).float().requires_grad_(True)
        (MAPS[name](weight) * torch.randn(9, 4)).sum().backward()
        assert bool(torch.isfinite(weight.grad).all())


@pytest.mark.parametrize("name", MAPS)
def test_gradients(name):
    for shape in [(1, 1), (4, 4), (6, 3), (3, 1)]:
        weight = (3 * gaussian(*shape)).requires_grad_(True)
        assert gradcheck(MAPS[name], (weight,))


def test_float32_gradient_of_the_cayley_map_where_float64_takes_over():
    weight = WEIGHTS["large V of rank 1"](9, 4) * 0.05
    mixing, gradients = torch.randn(9, 4), []
    for dtype in (torch.float32, DOUBLE):
        leaf = weight.to(dtype).requires_grad_(True)
        (cayley(leaf) * mixing).sum().backward()
        gradients.append(leaf.grad)
    assert gradients[0].dtype == torch.float32
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", MAPS)
def test_no_map_of_nan(name, value):
    weight = gaussian(4, 3)
    weight[1, 2] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        MAPS[name](weight)


@pytest.mark.parametrize("name", ["log_q", "log_psi"])
def test_no_bound_of_nan_outside_the_weight(name):
    layer = LAYERS["sll" if name == "log_q" else "sandwich-cayley"](3, 4, "tanh")
    getattr(layer, name).data[1] = float("nan")
    for check in (layer.project, layer.lipschitz_bound):
        with pytest.raises(ValueError, match="NaN or infinite"):
            check()


@pytest.mark.parametrize("name", SCALE_FREE)
def test_maps_that_ignore_the_scale(name):
    weight = gaussian(7, 5)
    torch.testing.assert_close(SCALE_FREE[name](1e6 * weight), SCALE_FREE[name](weight))


def test_tiny_weights_are_not_scaled_up():
    assert unit_scaled(torch.full((2, 2), 1e-35)).max() < 1e-30
    assert unit_scaled(torch.full((2, 2), 1e-20)).max() == 1


# -- what a map can reach --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 5), (9, 4)])
def test_cayley_reaches_every_orthonormal_matrix_without_eigenvalue_minus_one(shape):
    n, identity = shape[1], torch.eye(shape[1], dtype=DOUBLE)
    target = random_orthonormal(*shape)
    if shape[0] == n:
        target[:, 0] *= torch.linalg.det(target).sign()
    inverse = torch.linalg.inv(identity + target[:n])
    weight = torch.cat([(inverse - inverse.mT) / 2, -target[n:] @ inverse])
    torch.testing.assert_close(cayley(weight), target)


def test_exponential_reaches_every_rotation():
    target = random_orthonormal(5, 5)
    target[:, 0] *= torch.linalg.det(target).sign()
    logarithm = torch.as_tensor(logm(target.numpy()).real)
    torch.testing.assert_close(exponential(logarithm / 2), target)


@pytest.mark.parametrize("shape", [(5, 5), (9, 4)])
@pytest.mark.parametrize("name", SCALE_FREE)
def test_orthonormal_weights_are_kept(name, shape):
    target = random_orthonormal(*shape)
    torch.testing.assert_close(SCALE_FREE[name](target), target)


# -- Cayley ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 5), (9, 4)])
def test_cayley_is_the_formula_of_the_paper(shape):
    n = shape[1]
    weight = gaussian(*shape)
    u, v, identity = weight[:n], weight[n:], torch.eye(n, dtype=DOUBLE)
    a = u - u.mT + v.mT @ v
    inverse = torch.linalg.inv(identity + a)
    expected = torch.cat([(identity - a) @ inverse, -2 * v @ inverse])
    torch.testing.assert_close(cayley(weight), expected)


def test_cayley_refuses_a_second_derivative():
    weight = gaussian(4, 4).requires_grad_(True)
    (gradient,) = torch.autograd.grad(cayley(weight).square()[0, 0], weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_penalties_on_input_gradients_go_through_a_cayley_layer():
    """‖∂y/∂x‖² needs one derivative of the map only."""
    layer = LAYERS["cayley"](4, 3, "tanh")
    x = torch.randn(5, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert float(layer.weight.grad.abs().max()) > 0


# -- matrix exponential ----------------------------------------------------------------------------------


def test_exponential_is_a_rotation_and_its_first_columns():
    weight = gaussian(6, 2)
    square = torch.cat([weight, torch.zeros(6, 4, dtype=DOUBLE)], dim=1)
    rotation = exponential(square)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0)
    torch.testing.assert_close(exponential(weight), rotation[:, :2])
    torch.testing.assert_close(rotation, torch.linalg.matrix_exp(square - square.mT))


# -- Björck ----------------------------------------------------------------------------------------------


def test_bjorck_acts_on_singular_values_and_stays_below_one_at_every_iterate():
    weight = gaussian(9, 5)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    s = s / float(norm_bound(unit_scaled(weight)) * weight.abs().max())
    for iterations in range(20):
        torch.testing.assert_close(bjorck(weight, iterations), (u * s) @ vh)
        assert float(s.max()) <= 1
        s = 1.5 * s - 0.5 * s**3
    torch.testing.assert_close(bjorck(weight, 40), u @ vh, msg="the polar factor")


@pytest.mark.parametrize("weight", [gaussian(30, 12), random_orthonormal(30, 12), torch.ones(4, 4).double()])
def test_norm_bound(weight):
    assert norm(weight) <= float(norm_bound(weight)) * (1 + 1e-12)
    assert float(norm_bound(weight)) <= weight.shape[1] ** 0.125 * norm(weight) * (1 + 1e-12)


def test_fifteen_iterations_are_enough_for_ill_conditioned_weights():
    u, v = random_orthonormal(64, 64), random_orthonormal(64, 64)
    weight = (u * torch.logspace(0, -1.9, 64, dtype=DOUBLE)) @ v  # down to 1/80
    assert float(torch.linalg.svdvals(bjorck(weight)).min()) > 1 - 1e-3


# -- AOL and SLL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_q", [None, torch.zeros(6).double(), torch.linspace(-8, 8, 6).double()])
@pytest.mark.parametrize("rank", [0, 1, 6])
def test_dominating_diagonal_dominates(log_q, rank):
    factor = gaussian(6, rank) if rank else torch.zeros(6, 1, dtype=DOUBLE)
    gram = factor @ factor.mT
    diagonal = dominating_diagonal(gram, log_q)
    scaled = torch.diag(diagonal) - gram
    root = diagonal.rsqrt()  # judged relative to the diagonal, which spans many decades
    assert float(torch.linalg.eigvalsh(root.unsqueeze(1) * scaled * root).min()) >= -1e-12


def test_aol_keeps_orthonormal_columns_whatever_their_lengths():
    q = random_orthonormal(8, 5)
    torch.testing.assert_close(almost_orthogonal(q * torch.logspace(-3, 3, 5, dtype=DOUBLE)), q)


def test_aol_is_the_formula_of_the_paper():
    weight = gaussian(6, 4)
    gram = (weight.mT @ weight).abs()
    torch.testing.assert_close(almost_orthogonal(weight), weight @ torch.diag(gram.sum(dim=1) ** -0.5))


def test_sll_without_q_normalises_as_aol():
    weight = gaussian(8, 5)
    ours, _ = sll_contraction(weight.mT, torch.zeros(5, dtype=DOUBLE))
    torch.testing.assert_close(ours.mT, almost_orthogonal(weight))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("n_in", "n_out"), [(5, 5), (3, 7), (7, 3)])
def test_sll_is_the_residual_block_of_the_paper(n_in, n_out, activation):
    """Padded at the entrance or cut at the exit; with ReLU in the units where Ψ is the bias's."""
    layer = SLL(n_in, n_out, activation, bound=2.0).double()
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.3, 3, n_out).unsqueeze(1))
        layer.log_q.uniform_(-1, 1)
        layer.bias.normal_()
    w, q, size = layer.weight.detach(), layer.log_q.detach().exp(), max(n_in, n_out)
    t = 1 / ((w @ w.mT).abs() @ q / q)
    bias = layer.bias.detach() * (t.rsqrt() if activation == "relu" else 1)
    x = torch.randn(11, n_in, dtype=DOUBLE)
    padded = torch.cat([x, torch.zeros(11, size - n_in, dtype=DOUBLE)], dim=1)
    block = padded - 2 * (layer.activation(padded @ w.mT + bias) * t) @ w
    expected = 2.0 * (1 - layer.margin) * block[:, :n_out]
    torch.testing.assert_close(layer(x).detach(), expected)


def test_sll_with_extreme_scales_is_sound():
    layer = SLL(5, 7, "tanh", bound=2.0)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-20, 20, 7).unsqueeze(1))
        layer.log_q.uniform_(-1e4, 1e4)
    assert 1.0 < steepest(layer, 5) <= layer.lipschitz_bound() <= 2.0
    unit = layer.factors(DOUBLE).unit_scale
    assert float(unit.detach().max() / unit.detach().min()) <= sll_module.MAX_ROOT**2 * (1 + 1e-9)


@pytest.mark.parametrize("excess", [1.05, 1.5])
def test_the_bound_of_sll_does_not_take_the_contraction_for_granted(monkeypatch, excess):
    """With ‖V‖ = s the block is max(1, 2s² - 1)-Lipschitz, and reaches it where all units are active."""
    orthonormal = random_orthonormal(4, 4)
    monkeypatch.setattr(sll_module, "sll_contraction", lambda w, q: (excess * orthonormal, torch.ones(4)))
    layer = SLL(4, 4, "relu").double()
    with torch.no_grad():
        layer.bias.fill_(100.0)
    truth = (2 * excess**2 - 1) * (1 - layer.margin)
    assert steepest(layer, 4) == pytest.approx(truth)
    assert truth <= layer.lipschitz_bound() <= truth * (1 + 1e-12)


def test_a_fresh_sll_network_tells_x_from_minus_x():
    """An orthogonal W would make each block ``-Wᵀ|Wx|``, an even function."""
    layer = SLL(8, 8, "relu")
    x = torch.randn(100, 8)
    odd, even = layer(x) - layer(-x), layer(x) + layer(-x)
    assert bool(odd.norm() > even.norm())


# -- Sandwich --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 17), (17, 3), (8, 8)])
def test_sandwich_factors_share_one_isometry(size):
    layer = SandwichCayley(*size, "tanh").double()
    with torch.no_grad():
        layer.weight.normal_(std=3.0)
        layer.log_psi.uniform_(-2, 2)
    factors = layer.factors()
    a_transposed = factors.output / factors.unit_scale / 2**0.5
    b = factors.input * factors.unit_scale.unsqueeze(1) / 2**0.5
    expected = torch.eye(size[1], dtype=DOUBLE) * (1 - layer.margin) ** 2
    torch.testing.assert_close(a_transposed.mT @ a_transposed + b @ b.mT, expected)


@pytest.mark.parametrize("size", [(3, 17), (17, 3), (8, 8)])
def test_a_fresh_sandwich_layer_is_at_its_bound(size):
    factors = SandwichCayley(*size, "relu", bound=2.0).factors(DOUBLE)
    slopes = torch.linalg.svdvals((factors.output @ factors.input).detach())
    torch.testing.assert_close(slopes, torch.full_like(slopes, 2.0), rtol=1e-4, atol=0)


def test_sandwich_with_any_psi_is_sound():
    layer = SandwichCayley(5, 7, "tanh", bound=2.0)
    with torch.no_grad():
        layer.weight.normal_(std=3.0)
        layer.log_psi.copy_(torch.linspace(-500, 500, 7))
    assert 0 < steepest(layer, 5) <= layer.lipschitz_bound() <= 2.0


def test_sandwich_needs_an_activation():
    with pytest.raises(ValueError, match="use layer='cayley'"):
        SandwichCayley(3, 3, None)


# -- the rescaled ball -----------------------------------------------------------------------------------


def test_rescaling_keeps_the_direction_of_the_weight():
    layer = Rescaled(6, 9, "relu", bound=2.0)
    with torch.no_grad():
        layer.weight.normal_(std=5.0)
    before = copy.deepcopy(layer.weight.detach())
    assert layer.project()
    assert 2.0 * (1 - 1e-5) < layer.lipschitz_bound() <= 2.0
    torch.testing.assert_close(layer.weight.detach() / layer.weight.norm(), before / before.norm())


def test_power_steps_approach_the_norm_from_below():
    weight, direction = torch.randn(9, 6), torch.nn.functional.normalize(torch.randn(6), dim=0)
    estimates = []
    for _ in range(60):
        sigma, direction = power_step(weight, direction)
        estimates.append(sigma)
    assert max(estimates) <= norm(weight) * (1 + 1e-6)
    assert estimates[-1] == pytest.approx(norm(weight), rel=1e-3)


def test_cheap_rescaling_follows_the_norm():
    layer = Rescaled(6, 9, "relu", bound=2.0)
    for _ in range(40):
        with torch.no_grad():
            layer.weight.add_(0.05 * torch.randn(9, 6))
        layer.project_cheaply()
    assert layer.lipschitz_bound() < 2.1


@pytest.mark.parametrize("start", [0.0, 1e-30])
def test_cheap_rescaling_recovers_from_a_weight_without_direction(start):
    layer = Rescaled(6, 9, "relu", bound=2.0)
    with torch.no_grad():
        layer.weight.fill_(start)
        assert layer.project_cheaply() == 0.0
        layer.weight.normal_(std=5.0)
    assert layer.project_cheaply() > 1
    assert layer.lipschitz_bound() < 2 * 2.0
