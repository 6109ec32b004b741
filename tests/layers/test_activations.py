"""Every activation is 1-Lipschitz where it is said to be, and what proofs rely on is true of it."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import polyak_update
from torch import nn

import lipsrl
from lipsrl import LipschitzMLP
from lipsrl.layers import ACTIVATIONS, LAYERS, activation_name, max_slope, project_after_step
from lipsrl.layers._activation_modules import Grouped, Householder
from lipsrl.layers.activations import (
    L2_ONLY,
    LEARNED,
    MAX_SLOPE,
    POSITIVELY_HOMOGENEOUS,
    UNDIVIDED,
    UNIT_SLOPE,
    make_activation,
)
from tests.families import matrix_norm, push, steepest

NAMES = sorted(ACTIVATIONS)
JOINT = ["full_sort", "group_sort", "householder", "maxmin"]
WIDTHS = [1, 2, 3, 4, 7, 8, 13]
ORDER = {"l2": 2.0, "linf": math.inf}
NORMS = [(name, norm) for name in NAMES for norm in ORDER if norm == "l2" or name not in L2_ONLY]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(name, features):
    """In float64; a learned one somewhere on its way."""
    module = make_activation(name, features).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-7, 7)
    return module


def points(n, features):
    """(n, features) from tiny to far out, so that kinks, curves and tails are met."""
    return torch.randn(n, features, dtype=torch.float64) * torch.logspace(-3, 1, n).double().unsqueeze(1)


def jacobians(module, x):
    """(n, features, features)."""
    leaf = x.clone().requires_grad_(True)
    y = module(leaf)
    rows = [torch.autograd.grad(y[:, i].sum(), leaf, retain_graph=True)[0] for i in range(y.shape[1])]
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_no_jacobian_is_larger_than_one(name, norm):
    for width in WIDTHS:
        sizes = matrix_norm(jacobians(make(name, width), points(2000, width)), norm)
        assert sizes.max() <= 1 + 1e-12
        assert sizes.max() >= (0.2499 if name == "sigmoid" else 0.99), "or the test could not fail"


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_no_pair_is_carried_apart(name, norm):
    for width in WIDTHS:
        module, x = make(name, width), points(4000, width)
        moved = x + points(4000, width)[torch.randperm(4000)]
        gap = torch.linalg.vector_norm(moved - x, ord=ORDER[norm], dim=1)
        with torch.no_grad():
            after = torch.linalg.vector_norm(module(moved) - module(x), ord=ORDER[norm], dim=1)
        assert (after <= gap * (1 + 1e-12) + 1e-14).all()


def test_what_is_kept_to_l2_is_steeper_elsewhere():
    assert {"householder"} == L2_ONLY
    module = make("householder", 8)
    assert matrix_norm(jacobians(module, points(500, 8)), "linf").max() > 1.2
    with pytest.raises(ValueError, match=r"'householder' is 1-Lipschitz in l2 only .* norm='linf'"):
        make_activation("householder", 8, norm="linf")
    with pytest.raises(ValueError, match="l2 only"):
        LAYERS["linf"](3, 4, "householder")


@pytest.mark.parametrize("name", NAMES)
def test_unit_slope_means_slopes_between_0_and_1_unit_by_unit(name):
    jacobian = jacobians(make(name, 4), points(20_000, 4))
    slopes = jacobian.diagonal(dim1=1, dim2=2)
    alone = bool((jacobian == torch.diag_embed(slopes)).all())
    assert alone == (name not in JOINT)
    assert (name in UNIT_SLOPE) == (alone and bool(((slopes >= 0) & (slopes <= 1 + 1e-12)).all()))


@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_ones_let_a_positive_diagonal_pass(name):
    module, x = make(name, 8), points(100, 8)
    scale = torch.rand(8, dtype=torch.float64) * 3 + 0.1
    passes = torch.allclose(module(x * scale), module(x) * scale, rtol=1e-12, atol=0)
    assert passes == (name in POSITIVELY_HOMOGENEOUS)


@pytest.mark.parametrize("name", JOINT)
def test_joint_ones_keep_the_norm_of_every_gradient(name):
    for width in WIDTHS:
        jacobian = jacobians(make(name, width), points(200, width))
        identity = torch.eye(width, dtype=torch.float64).expand_as(jacobian)
        torch.testing.assert_close(jacobian @ jacobian.mT, identity, rtol=0, atol=1e-12)


def test_sorting_ones_sort_their_groups():
    x = torch.tensor([[5.0, 1.0, 4.0, 2.0, 8.0, 7.0, 9.0, 3.0, 6.0, 0.0, -1.0]])
    assert make_activation("maxmin", 11)(x).tolist() == [[7, 9, 4, 6, 8, 5, 1, 3, 2, 0, -1]]
    # groups of the units i, i + 2, i + 4, i + 6; the three that are left form their own
    assert make_activation("group_sort", 11)(x).tolist() == [[4, 1, 5, 2, 8, 3, 9, 7, -1, 0, 6]]
    assert make_activation("full_sort", 11)(x).tolist() == [sorted(x[0].tolist())]
    assert make_activation("group_sort", 2)(x[:, :2]).tolist() == [[1, 5]]


@pytest.mark.parametrize("name", ["maxmin", "householder"])
def test_a_single_unit_left_over_passes_unchanged(name):
    x = points(50, 7)
    assert torch.equal(make(name, 7)(x)[:, 6], x[:, 6])
    assert torch.equal(make(name, 1)(x[:, :1]), x[:, :1])


@pytest.mark.parametrize("name", NAMES)
def test_any_leading_dimensions(name):
    module, x = make(name, 7), points(12, 7)
    expected = module(x)
    for shape in ((3, 4, 7), (12, 7), (1, 12, 1, 7)):
        torch.testing.assert_close(module(x.reshape(shape)), expected.reshape(shape), rtol=1e-12, atol=0)
    torch.testing.assert_close(module(x[0]), expected[0], rtol=1e-12, atol=0)
    assert module(x[:0]).shape == (0, 7)


def test_clipped_relu_and_abs():
    x = torch.tensor([-2.0, -0.0, 0.3, 1.0, 5.0])
    assert torch.equal(make_activation("clipped_relu", 5)(x), torch.tensor([0.0, 0.0, 0.3, 1.0, 1.0]))
    assert torch.equal(make_activation("abs", 5)(x), torch.tensor([2.0, 0.0, 0.3, 1.0, 5.0]))


def test_householder_is_the_reflection_of_the_paper():
    """Singla et al. 2021: z, or (I - 2vvᵀ)z = [[cos θ, sin θ], [sin θ, -cos θ]] z where vᵀz ≤ 0."""
    module, x = make("householder", 6), points(300, 6)
    for i, angle in enumerate(module.angle.detach()):
        z = x[:, [i, i + 3]]
        sin, cos = torch.sin(angle), torch.cos(angle)
        reflected = z @ torch.stack([torch.stack([cos, sin]), torch.stack([sin, -cos])])
        kept = z[:, 0] * torch.sin(angle / 2) > z[:, 1] * torch.cos(angle / 2)
        assert 0 < kept.sum() < 300
        expected = torch.where(kept.unsqueeze(1), z, reflected)
        torch.testing.assert_close(module(x)[:, [i, i + 3]], expected, rtol=1e-12, atol=1e-12)


def test_householder_starts_as_maxmin_and_keeps_its_state_in_one_parameter():
    module, x = make_activation("householder", 9), torch.randn(100, 9)
    torch.testing.assert_close(module(x), make_activation("maxmin", 9)(x))
    assert [(name, tuple(p.shape)) for name, p in module.named_parameters()] == [("angle", (4,))]
    assert not list(module.buffers())
    with torch.no_grad():
        module.angle.uniform_(-3, 3)
    expected = module(x)
    assert not torch.allclose(expected, make_activation("maxmin", 9)(x))
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), expected)
    target = Householder(9)
    polyak_update(module.parameters(), target.parameters(), 1.0)
    assert torch.equal(target(x), expected)
    with pytest.raises(ValueError, match="features must be an integer > 0, received 0"):
        Householder(0)


def test_householder_learns_within_its_bound():
    layer = LAYERS["spectral"](5, 9, "householder", bound=2.0)
    before = layer.activation.angle.detach().clone()
    push(layer, project_after_step(torch.optim.Adam(layer.parameters(), lr=3e-2), layer), 5, 30)
    layer.project()
    assert not torch.equal(layer.activation.angle, before)
    assert 1.0 < steepest(layer, 5) <= layer.lipschitz_bound() * (1 + 1e-9)
    angle = make("householder", 4)
    assert torch.autograd.gradcheck(angle, (points(3, 4) * 100).requires_grad_())


@pytest.mark.parametrize("activation", JOINT + sorted(UNDIVIDED))
@pytest.mark.parametrize("budget", ["output", "learned"])
def test_networks_of_odd_widths_keep_their_bound(activation, budget):
    net = LipschitzMLP(3, 2, (7, 5, 1), 4.0, "spectral", activation, budget=budget)
    push(net, project_after_step(torch.optim.Adam(net.parameters(), lr=1e-1), net), 3, 15)
    assert steepest(net.eval(), 3, rounds=5) <= net.lipschitz_bound() <= 4.0
    x = torch.randn(20, 3)
    torch.testing.assert_close(net.merge()(x), net(x))


# -- divided by the steepest slope --------------------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + (-x).exp())


def _silu_slope(x):
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


def _gelu_slope(x):
    """Φ(x) + x·φ(x), with erf's series."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    z = x / Decimal(2).sqrt()
    total, term, k = Decimal(0), z, 0
    while abs(term) > Decimal("1e-55"):
        total += term / (2 * k + 1)
        k += 1
        term *= -z * z / k
    return (1 + 2 * total / pi.sqrt()) / 2 + x * (-z * z).exp() / (2 * pi).sqrt()


def _mish_slope(x):
    square = (1 + x.exp()) ** 2
    tanh = (square - 1) / (square + 1)  # of log(1 + exp x)
    return tanh + x * (1 - tanh * tanh) * _sigmoid(x)


SLOPES = {"silu": _silu_slope, "gelu": _gelu_slope, "mish": _mish_slope}


def _maximum(function, low, high):
    """Golden section search; the place is found to half of the digits, the value to all."""
    ratio = (Decimal(5).sqrt() - 1) / 2
    for _ in range(140):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (left, high) if function(left) < function(right) else (low, right)
    return function(low)


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_divisors_are_the_steepest_slopes_rounded_up_to_float32(name):
    with localcontext() as context:
        context.prec = 60
        exact = _maximum(SLOPES[name], Decimal(1), Decimal(4))
        divisor = ACTIVATIONS[name].divisor
        assert exact < Decimal(divisor)
        below = float(torch.nextafter(torch.tensor(divisor), torch.tensor(0.0)))
        assert float(torch.tensor(divisor)) == divisor, "float32 must divide by the very same number"
        assert exact > Decimal(below)
    assert max_slope(UNDIVIDED[name]()) == divisor


@pytest.mark.parametrize("name", sorted(UNDIVIDED))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divided_ones_are_those_of_torch_divided(name, dtype):
    x = torch.linspace(-10, 10, 1001, dtype=dtype)
    module = make_activation(name, 1)
    torch.testing.assert_close(module(x) * module.divisor, UNDIVIDED[name]()(x))
    assert module(x).dtype == dtype


# -- names and refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_names_and_classes_are_understood(name):
    assert activation_name(name) == name
    assert activation_name(ACTIVATIONS[name]) == name
    assert type(make_activation(name, 4)) is ACTIVATIONS[name]
    assert (name in LEARNED) == bool(list(make_activation(name, 4).parameters()))


def test_steep_classes_of_torch_stand_for_the_divided_ones():
    assert {cls: activation_name(cls) for cls in UNDIVIDED.values()} == {
        nn.SiLU: "silu",
        nn.GELU: "gelu",
        nn.Mish: "mish",
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rellu", "activation='rellu' is not known. Did you mean 'relu'"),
        ("max_min", "Did you mean 'maxmin'"),
        (nn.Hardswish, r"activation_fn=Hardswish has slope 1\.5 > 1 and would break the bound"),
        (nn.SELU, r"activation_fn=SELU has slope 1\.758 > 1 .* Accepted: 'relu', .* 'householder'"),
        (nn.Softshrink, "activation='Softshrink' is not known"),
        (nn.PReLU, "activation='PReLU' is not known"),
        (3, "activation=3 is not known"),
    ],
)
def test_what_is_refused_is_told_why(given, words):
    with pytest.raises(ValueError, match=words):
        activation_name(given)
    with pytest.raises(ValueError, match=words):
        LAYERS["spectral"](2, 2, given)


@pytest.mark.parametrize("name", NAMES)
def test_sandwich_refuses_what_its_proof_does_not_cover(name):
    if name in UNIT_SLOPE:
        assert LAYERS["sandwich"](3, 4, name).activation_name == name
        return
    words = rf"'sandwich' cannot be used with activation='{name}': its proof needs slopes between 0 and 1"
    with pytest.raises(ValueError, match=words):
        LAYERS["sandwich"](3, 4, name)


# -- slopes that certificates rely on -----------------------------------------------------------------------

ELEMENTWISE = [cls for cls in MAX_SLOPE if not issubclass(cls, Grouped)]


@pytest.mark.parametrize("cls", sorted(ELEMENTWISE, key=lambda c: c.__name__))
def test_max_slope_is_never_below_the_steepest_place_and_close_to_it(cls):
    x = torch.linspace(-30, 30, 600_001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(cls()(x).sum(), x)[0].abs().max().item()
    assert slope <= max_slope(cls()) * (1 + 1e-12)
    assert slope >= 0.999 * max_slope(cls())


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.LeakyReLU(2.0), 2.0),
        (nn.ELU(3.0), 3.0),
        (nn.CELU(3.0), 1.0),
        (nn.Softshrink(), None),
        (nn.GELU("tanh"), None),
        (Householder(3), 1.0),
        (make_activation("maxmin", 3), 1.0),
        (type("TenfoldSort", (ACTIVATIONS["full_sort"],), {})(), None),
    ],
)
def test_max_slope_of_instances(module, expected):
    assert max_slope(module) == expected


@pytest.mark.parametrize("name", JOINT)
def test_spread_bounds_what_an_error_of_the_inputs_does(name):
    for width in WIDTHS:
        module, x = make(name, width), points(500, width)
        error = torch.rand_like(x) * torch.logspace(-3, 1, 500).double().unsqueeze(1)
        error[:, ::2] *= 0.01  # a small error next to a large one
        bound, worst = module.spread(error), torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(50):
                signs = torch.randint(-1, 2, x.shape)
                worst = torch.maximum(worst, (module(x + signs * error) - module(x)).abs())
        assert (worst <= bound + 1e-12).all()
        assert (bound <= math.sqrt(2) * error.amax(dim=1, keepdim=True)).all()
        if width > 1:
            assert (worst > 2 * error).any(), "unit by unit the error would be underrated"


# -- with arguments -----------------------------------------------------------------------------------------

PARTIALS = [
    (functools.partial(nn.LeakyReLU, negative_slope=0.2), "leaky_relu(negative_slope=0.2)"),
    (functools.partial(nn.ReLU, inplace=True), "relu"),
    (functools.partial(nn.ELU, alpha=0.5), "elu(alpha=0.5)"),
    (functools.partial(nn.Softplus, beta=3, threshold=25), "softplus(beta=3.0, threshold=25.0)"),
]


@pytest.mark.parametrize(
    ("given", "name", "layer"),
    [(*case, ("sandwich", "orthogonal", "sll")[i % 3]) for i, case in enumerate(PARTIALS)],
)
def test_a_partial_is_the_activation_with_its_arguments(given, name, layer, tmp_path):
    assert activation_name(given) == name == activation_name(name)
    kwargs = {"lipschitz_bound": 6.0, "layer": layer, "activation_fn": given, "net_arch": [16, 16]}
    model = PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, device="cpu", seed=0)
    free = {"activation_fn": given, "net_arch": [16, 16]}
    plain = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs=free, device="cpu", seed=0)
    x = torch.randn(5, 3)
    torch.testing.assert_close(model.policy.predict_values(x), plain.policy.predict_values(x), rtol=0, atol=0)
    assert lipsrl.certify(model).upper_bound <= 6 * (1 + 1e-12)
    model.save(tmp_path / "m")
    again = PPO.load(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(
        again.predict(x.numpy(), deterministic=True)[0], model.predict(x.numpy(), deterministic=True)[0]
    )
    model.policy.save(tmp_path / "p")
    assert type(model.policy).load(tmp_path / "p").options.activation == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (functools.partial(nn.ELU, alpha=2.0), "slope above 1"),
        (functools.partial(nn.LeakyReLU, negative_slope=3.0), "slope above 1"),
        (functools.partial(nn.LeakyReLU, slope=0.1), "does not take slope"),
        (functools.partial(nn.LeakyReLU, 0.1), "keyword arguments only"),
        ("leaky_relu(negative_slope=x)", "no numbers"),
        (functools.partial(nn.Softplus, threshold=1), "slope above 1, or one that is not known"),
    ],
)
def test_a_partial_that_would_break_the_bound_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        activation_name(given)


def test_a_negative_slope_is_no_slope_in_0_1():
    given = "leaky_relu(negative_slope=-0.5)"
    with pytest.raises(ValueError, match="slopes between 0 and 1"):
        LipschitzMLP(3, 1, (8,), 1.0, "sandwich", given)
    LipschitzMLP(3, 1, (8,), 1.0, "orthogonal", given)
