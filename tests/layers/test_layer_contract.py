"""One contract suite that every constrained layer passes; a new one joins through LAYERS."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from stable_baselines3.common.utils import polyak_update

from lipsrl.layers import LAYERS, LipschitzLayer, project_after_step, spectral_norm
from tests.families import COMBINATIONS, FAMILIES, PROJECTED, matrices, push, steepest

SIZES = [(1, 1), (3, 17), (17, 3), (64, 64)]
TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=FAMILIES)
def layer_class(request):
    return LAYERS[request.param]


def make(
    layer_class: type[LipschitzLayer], size: tuple[int, int], bound: float = 1.5, activation: str = "relu"
):
    return layer_class(*size, activation, bound=bound)


def check(layer: LipschitzLayer, rounds: int = 5) -> None:
    """The bound is kept, and is no number below the truth."""
    bound = layer.lipschitz_bound()
    assert bound <= layer.bound * (1 + TOLERANCE)
    assert steepest(layer, layer.in_features, layer.norm, rounds) <= bound * (1 + 1e-9)


@pytest.mark.parametrize(("family", "activation"), COMBINATIONS)
def test_every_activation_keeps_the_bound(family, activation):
    size = (3, 17) if COMBINATIONS.index((family, activation)) % 2 else (9, 6)
    layer = make(LAYERS[family], size, activation=activation)
    check(layer, 1)
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-1), layer)
    push(layer, optimizer, size[0], 20)
    layer.project()
    check(layer, 3)


@pytest.mark.parametrize("size", SIZES)
def test_bound_holds_after_training(layer_class, size):
    layer = make(layer_class, size)
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-1), layer)
    push(layer, optimizer, size[0], 20)
    layer.project()
    rounds = 1 if size == (64, 64) else 4  # one looks at the slope in 256 places
    check(layer, rounds)
    check(layer.eval(), rounds)


def test_float32_weights_of_a_training_forward_keep_the_bound(layer_class):
    """A parametrised layer's float32 map leaves room for its own rounding."""
    layer = make(layer_class, (17, 64))
    push(layer, project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-1), layer), 17, 40)
    layer.project()
    with torch.no_grad():
        exact, rounded = layer.factors(torch.float64), layer.factors()
    for a, b in zip(exact, rounded, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            size = max(1.0, float(a.detach().abs().max()))
            assert float((a - b.double()).detach().abs().max()) <= 1e-5 * size


def test_bound_is_reached(layer_class):
    """The bound is no empty promise: training for steepness comes near it."""
    layer = make(layer_class, (8, 8))
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer)
    push(layer, optimizer, 8, 600)
    layer.project()
    assert steepest(layer, 8, layer.norm) >= 0.9 * layer.lipschitz_bound()


def test_projecting_what_is_feasible_changes_no_bit(layer_class):
    layer = make(layer_class, (17, 64))
    push(layer, project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer), 17, 5)
    layer.project()
    before = copy.deepcopy(layer.state_dict())
    assert layer.project() is False
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_extreme_weights_are_bounded_and_projected(layer_class, scale):
    layer = make(layer_class, (17, 9))
    with torch.no_grad():
        for parameter in matrices(layer):
            parameter.mul_(scale)
            exact = float(torch.linalg.svdvals(parameter.double())[0])
            assert spectral_norm(parameter) >= exact > 0
    layer.project()
    assert layer.lipschitz_bound() > 0
    check(layer)
    check(layer.eval())


@pytest.mark.parametrize("kind", ["zero", "duplicate rows", "duplicate columns"])
def test_degenerate_weights(layer_class, kind):
    layer = make(layer_class, (9, 9))
    with torch.no_grad():
        for parameter in matrices(layer):
            if kind == "zero":
                parameter.zero_()
            elif kind == "duplicate rows":
                parameter.copy_(10 * parameter[:1].clone().expand_as(parameter))
            else:
                parameter.copy_(10 * parameter[:, :1].clone().expand_as(parameter))
    layer.project()
    check(layer)
    layer(torch.randn(4, 9)).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters())


def test_nan_weights_are_refused_and_left(layer_class):
    layer = make(layer_class, (4, 4))
    weight = matrices(layer)[0]
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        layer.project()
    with pytest.raises(ValueError, match="NaN or infinite"):
        layer.lipschitz_bound()


def test_nan_gradient_is_refused_and_weights_kept(layer_class):
    layer = make(layer_class, (4, 4))
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer)
    before = copy.deepcopy(layer.state_dict())
    layer(torch.full((2, 4), float("nan"))).sum().backward()
    with pytest.raises(ValueError, match="gradient of"):
        optimizer.step()
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.Adam, {"foreach": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_optimizers(layer_class, optimizer_class, options):
    layer = make(layer_class, (6, 5))
    optimizer = optimizer_class(layer.parameters(), lr=3e-2, **options)
    assert project_after_step(optimizer, layer) is optimizer
    assert isinstance(optimizer, optimizer_class)
    push(layer, optimizer, 6, 30)
    layer.project()
    assert 0.1 < layer.lipschitz_bound() <= 1.5 * (1 + TOLERANCE)


@pytest.mark.parametrize("family", PROJECTED)
def test_joint_deepcopy_trains_its_own_layers(family):
    """An optimizer hook would be lost, or project the original's weights (torch keeps no hooks in copies)."""
    layer = make(LAYERS[family], (6, 5))
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-1), layer)
    push(layer, optimizer, 6, 2)
    for twin, twin_optimizer in (
        copy.deepcopy((layer, optimizer)),
        pickle.loads(pickle.dumps((layer, optimizer))),
    ):
        # a layer projects what others have written, so the bound alone would not tell
        assert type(twin_optimizer) is type(optimizer)
        before = copy.deepcopy(layer.state_dict())
        push(twin, twin_optimizer, 6, 30)
        assert all(held is twin for held in twin_optimizer.projected_layers), (
            "the copy trained without projection"
        )
        assert twin.lipschitz_bound() <= 1.5 * 1.3
        assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
        twin.project()
        assert twin.lipschitz_bound() <= 1.5 * (1 + TOLERANCE)


def test_steps_are_counted_once_per_copy(layer_class):
    """Optimizer.__setstate__ wraps `step` again unless told not to; Adam would then step twice."""
    layer = make(layer_class, (6, 5))
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-3), layer)
    calls = []
    _, twin_optimizer = copy.deepcopy((layer, optimizer))
    twin_optimizer.register_step_post_hook(lambda *_: calls.append(1))
    twin_optimizer.step()
    assert calls == [1]


@pytest.mark.parametrize("how", ["data", "sb3"])
def test_polyak_average_keeps_the_bound(layer_class, how):
    online, target = make(layer_class, (6, 5)), make(layer_class, (6, 5))
    target.eval()
    optimizer = project_after_step(torch.optim.Adam(online.parameters(), lr=1e-1), online)
    x = torch.randn(8, 6)
    for _ in range(10):
        push(online, optimizer, 6, 3)
        online.project()
        before = target(x)
        if how == "sb3":
            polyak_update(online.parameters(), target.parameters(), 0.3)
        else:
            for source, copied in zip(online.parameters(), target.parameters(), strict=True):
                copied.data.mul_(0.7).add_(source.data, alpha=0.3)
        assert not torch.equal(before, target(x)), "the target did not move"
        assert target.lipschitz_bound() <= 1.5 * (1 + TOLERANCE)


def test_gradient(layer_class):
    layer = make(layer_class, (4, 3), activation="tanh").double()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    # away from the start, where AOL's absolute values have their kinks
    values = [(p + 0.1 * torch.randn_like(p)).detach().requires_grad_(True) for p in layer.parameters()]
    assert torch.autograd.gradcheck(function, (x, *values))


@pytest.mark.parametrize("training", [False, True])
def test_torch_func_sees_the_same_derivatives(layer_class, training):
    """What users take Jacobians with; an autograd.Function has to be written for it."""
    layer = make(layer_class, (4, 3), activation="tanh").double().train(training)
    x = torch.randn(5, 4, dtype=torch.float64)
    by_torch = torch.stack([torch.autograd.functional.jacobian(layer, one) for one in x])
    assert torch.allclose(torch.func.vmap(torch.func.jacrev(layer))(x), by_torch)
    if training and layer_class.projected:
        return  # their backward keeps the part of the gradient along the set alone
    layer(x).square().sum().backward()
    gradients = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,)).square().sum())(
        dict(layer.named_parameters())
    )
    for name, parameter in layer.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(gradients[name], parameter.grad), name


def test_state_dict_and_dtype(layer_class):
    layer, other = make(layer_class, (6, 5)), make(layer_class, (6, 5))
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), other(x))
    assert {name for name, _ in layer.named_buffers()} == set()
    assert layer.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize(("argument", "value"), [("bound", 0.0), ("bound", float("nan")), ("in_features", 0)])
def test_bad_arguments(layer_class, argument, value):
    arguments = {"in_features": 3, "out_features": 2, "activation": "relu", argument: value}
    with pytest.raises(ValueError, match=argument):
        layer_class(**arguments)


def test_sandwich_with_any_psi_is_sound():
    """Ψ drops out of the bound: two Ψ may be averaged, and tanh nets may learn extreme ones."""
    layer = LAYERS["sandwich"](5, 7, "tanh", bound=2.0)
    with torch.no_grad():
        layer.log_psi.copy_(torch.linspace(-3, 3, 7))
    assert steepest(layer, 5) <= layer.lipschitz_bound() <= 2.0


def test_sandwich_above_its_set_is_bounded_by_the_square():
    layer = LAYERS["sandwich"](5, 7, "relu", bound=1.0)
    with torch.no_grad():
        layer.stack.mul_(1.3)
    assert layer.lipschitz_bound() == pytest.approx(1.69, rel=1e-4)
    assert steepest(layer, 5) <= layer.lipschitz_bound()
