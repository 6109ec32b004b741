"""Convolutions: the bound is never below the truth, and the layer keeps it."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.utils import polyak_update
from torch import nn
from torch.nn import functional as F

from lipsrl.layers import ACTIVATIONS, project_after_step
from lipsrl.layers._convolution import (
    conv2d_norm,
    convolution_fits,
    convolution_norm,
    cut_norm,
    frequency_grid,
    gram_matrices,
    polyphase,
    random_paraunitary,
    transfer_matrices,
    waves,
)
from lipsrl.layers.activations import LEARNED
from lipsrl.layers.convolution import ELEMENT_WISE, SpectralConv2d

TOLERANCE = 1e-6
KERNELS = [(8, 4), (4, 2), (3, 1), (5, 2), (1, 1), (2, 3)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@torch.no_grad()
def dense_norm(function, channels, size):
    """Largest singular value of a linear map of images, from its matrix."""
    pixels = torch.eye(channels * size[0] * size[1], dtype=torch.float64).reshape(-1, channels, *size)
    return float(torch.linalg.matrix_norm(function(pixels).flatten(1), ord=2))


def outputs(size, kernel, stride, padding):
    return tuple((n + 2 * padding - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))


# -- the bound -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("padding", ["none", "one", "full"])
def test_bound_against_the_dense_matrix(kernel, stride, padding):
    padding = {"none": 0, "one": 1, "full": kernel - 1}[padding]
    size = (3 * stride + kernel, 2 * stride + kernel + 1)
    weight = torch.randn(3, 2, kernel, kernel, dtype=torch.float64)
    exact = dense_norm(lambda x: F.conv2d(x, weight, stride=stride, padding=padding), 2, size)
    pair = (stride, stride)
    own = convolution_norm(weight, pair, outputs(size, (kernel, kernel), pair, padding))
    assert exact <= own <= convolution_norm(weight, pair) * (1 + 1e-12)
    assert convolution_norm(weight, pair) <= 1.3 * exact


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    padding=st.integers(0, 4),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    scale=st.sampled_from([1e-200, 1e-20, 1.0, 1e20, 1e200]),
    seed=st.integers(0, 10_000),
)
def test_bound_is_never_below_the_dense_matrix(kernel, stride, extra, padding, channels, scale, seed):
    torch.manual_seed(seed)
    weight = torch.randn(*channels, *kernel, dtype=torch.float64)
    weight = weight.sign() if seed % 2 else weight  # many equal singular values, sums without cancellation
    size = tuple(k + e for k, e in zip(kernel, extra, strict=True))
    exact = dense_norm(lambda x: F.conv2d(x, weight, stride=stride, padding=padding), channels[1], size)
    own = convolution_norm(weight * scale, stride, outputs(size, kernel, stride, padding))
    assert own >= exact * scale * (1 - 1e-14)
    assert convolution_norm(weight * scale, stride) >= own * (1 - 1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 1), (5, 2)])
def test_bound_is_near_the_truth_on_large_images(kernel, stride):
    """Power iteration approaches the norm from below, and large images approach the infinite plane."""
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64)
    side = 48 * stride
    x = torch.randn(1, 3, side, side, dtype=torch.float64)
    for _ in range(150):
        y = F.conv2d(x, weight, stride=stride, padding=kernel - 1)
        x = torch.nn.grad.conv2d_input(x.shape, weight, y, stride=stride, padding=kernel - 1)
        x /= x.norm()
    found = float(F.conv2d(x, weight, stride=stride, padding=kernel - 1).norm())
    assert found <= convolution_norm(weight, (stride, stride)) <= 1.02 * found


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    output_size=st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    excess=st.sampled_from([-0.5, -1e-6, -1e-10, -1e-13, 0.0, 1e-13, 1e-10, 1e-6, 1.0]),
    scale=st.sampled_from([1e-20, 1.0, 1e20]),
    seed=st.integers(0, 10_000),
)
def test_the_fast_check_is_never_wrong_about_a_kernel_that_is_too_large(
    kernel, stride, channels, output_size, excess, scale, seed
):
    torch.manual_seed(seed)
    weight = torch.randn(*channels, *kernel, dtype=torch.float64)
    weight = (weight.sign() if seed % 2 else weight) * scale
    norm = convolution_norm(weight, stride, output_size)
    fits = convolution_fits(weight * (1 + excess), norm, stride, output_size)
    if fits:
        assert convolution_norm(weight * (1 + excess), stride, output_size) <= norm
    if abs(excess) >= 1e-6:
        assert fits is (excess < 0)


@pytest.mark.parametrize("grid", [(20, 30), (2, 3)], ids=["few taps", "few frequencies"])
@pytest.mark.parametrize("channels", [(2, 5), (5, 2)])
def test_gram_matrices_are_those_of_the_transfer_matrices(channels, grid):
    taps = torch.randn(2, 3, *channels, dtype=torch.float64)
    found = list(gram_matrices(taps, grid))
    assert len(found) == (2 if grid == (20, 30) else 1), "in chunks"
    matrices = transfer_matrices(taps, waves((2, 3), grid))
    expected = matrices @ matrices.mH if channels[0] < channels[1] else (matrices.mH @ matrices).conj()
    torch.testing.assert_close(torch.cat(found), expected.resolve_conj())


@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize("axis", [0, 1])
def test_peaks_between_grid_points_are_covered(taps, axis):
    """Rotations by qω* have their peak, of height ``taps``, at ω*: half way between two grid points."""
    points, factor = frequency_grid(taps, None)
    peak = 2 * math.pi * (points // 4 + 0.5) / points
    angles = peak * torch.arange(taps, dtype=torch.float64)
    rotations = torch.stack(
        [torch.stack([angles.cos(), -angles.sin()]), torch.stack([angles.sin(), angles.cos()])]
    )
    kernel = rotations.unsqueeze(3 if axis == 0 else 2)
    assert taps <= convolution_norm(kernel) <= taps * 1.004
    shape, grid = ((taps, 1), (points, 1)) if axis == 0 else ((1, taps), (1, points))
    on_grid = torch.linalg.matrix_norm(
        transfer_matrices(polyphase(kernel, (1, 1)), waves(shape, grid)), ord=2
    )
    assert float(on_grid.max()) < taps / math.sqrt(factor), "the factor is needed here"


def test_polyphase_is_the_same_convolution():
    weight, stride = torch.randn(2, 3, 5, 4, dtype=torch.float64), (2, 3)
    x = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    phases = x.reshape(1, 3, 6, 2, 4, 3).permute(0, 1, 3, 5, 2, 4).reshape(1, 18, 6, 4)
    taps = polyphase(weight, stride).permute(2, 3, 0, 1)
    expected = F.conv2d(x, weight, stride=stride)
    torch.testing.assert_close(
        F.conv2d(phases, taps)[..., : expected.shape[2], : expected.shape[3]], expected
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_groups_and_dilation_are_covered(groups, dilation, stride):
    conv = nn.Conv2d(4, 6, 3, stride, 2, dilation, groups, bias=False).double()
    exact = dense_norm(conv, 4, (9, 9))
    assert exact <= conv2d_norm(conv) <= 1.3 * exact


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_that_repeats_pixels_is_refused_for_a_reason(mode):
    conv = nn.Conv2d(1, 1, 3, padding=2, padding_mode=mode, bias=False).double()
    with pytest.raises(ValueError, match="padding_mode"):
        conv2d_norm(conv)
    with torch.no_grad():
        conv.weight.zero_()[0, 0, 1, 1] = 1.0  # copies the padded image: longer than the image
    assert dense_norm(conv, 1, (4, 4)) > 1.4 > convolution_norm(conv.weight)


def test_zero_and_nan_kernels():
    weight = torch.zeros(2, 2, 3, 3)
    assert convolution_norm(weight) == 0.0
    weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        convolution_norm(weight)


@pytest.mark.parametrize("shape", [(32, 4), (5, 3), (4, 40), (40, 4), (1, 1)])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((8, 8), (4, 4)), ((3, 3), (1, 1)), ((5, 4), (2, 1)), ((2, 2), (3, 3))]
)
def test_paraunitary_start(shape, kernel, stride):
    weight = random_paraunitary(*shape, kernel, stride)
    assert weight.shape == (*shape, *kernel)
    taps = polyphase(weight, stride)
    values = torch.linalg.svdvals(transfer_matrices(taps, waves(tuple(taps.shape[:2]), (7, 7))))
    rank = min(shape[0], shape[1] * math.prod(min(k, s) for k, s in zip(kernel, stride, strict=True)))
    torch.testing.assert_close(values[:, :rank], torch.ones_like(values[:, :rank]))


def test_cut_never_moves_away_from_a_feasible_kernel():
    for seed in range(20):
        torch.manual_seed(seed)
        feasible = torch.randn(6, 4, 4, 4, dtype=torch.float64)
        feasible /= convolution_norm(feasible, (2, 2))
        weight = feasible + 0.3 * torch.randn_like(feasible)
        directions, distance = None, float((weight - feasible).norm())
        for _ in range(5):
            excess, directions = cut_norm(weight, (2, 2), 1.0, directions)
            assert float((weight - feasible).norm()) <= distance
            distance = float((weight - feasible).norm())
        assert excess > 0, "nothing was cut"


@pytest.mark.parametrize(("kernel", "stride"), [((5, 4), (2, 3)), ((3, 3), (1, 1))])
def test_cut_lands_on_the_half_space(kernel, stride):
    """The mean of the violated half-spaces, weighted by their violation: Σ v·(Re u*F(ω)v - bound) = 0 afterwards."""
    weight = torch.randn(3, 2, *kernel, dtype=torch.float64)
    shape = tuple(polyphase(weight, stride).shape[:2])
    grid = waves(shape, tuple(3 * n if n > 1 else 1 for n in shape))
    before = transfer_matrices(polyphase(weight, stride), grid)
    _, right = cut_norm(weight, stride, 1.0, None)
    after = transfer_matrices(polyphase(weight, stride), grid)
    left = before @ right
    sizes = left.norm(dim=1, keepdim=True)
    values = ((left / sizes).conj() * (after @ right)).real.sum(dim=1, keepdim=True)
    violation = (sizes - 1.0).clamp_min(0.0)
    assert float((violation * (values - 1.0)).sum()) == pytest.approx(0.0, abs=1e-9)


def test_cut_where_the_transfer_matrix_vanishes():
    weight = torch.ones(3, 2, 3, 3)  # zero at ω = 2π/3, a point of the coarse grid
    directions = None
    for _ in range(3):
        _, directions = cut_norm(weight, (1, 1), 1.0, directions)
    assert torch.isfinite(weight).all()
    assert convolution_norm(weight) < 1.1


# -- the layer -----------------------------------------------------------------------------------------------


def make(bound=1.5, **options):
    return SpectralConv2d(3, 8, 4, 2, 1, bound=bound, **options)


def train(layer, optimizer, steps):
    """Push the layer to be as steep as it can."""
    for _ in range(steps):
        loss = -layer(torch.randn(4, 3, 9, 9)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def assert_sound(layer):
    assert layer.lipschitz_bound() <= layer.bound * (1 + TOLERANCE)
    weight = layer.weight.detach().double()
    exact = dense_norm(lambda x: F.conv2d(x, weight, None, layer.stride, layer.padding), 3, (9, 9))
    assert exact <= layer.lipschitz_bound()


@pytest.mark.parametrize("image_size", [None, (9, 9)])
@pytest.mark.parametrize("activation", [*sorted(ELEMENT_WISE), None])
def test_bound_holds_after_training(activation, image_size):
    layer = make(activation=activation, image_size=image_size)
    assert layer.lipschitz_bound() == pytest.approx(1.5, rel=1e-5)
    train(layer, project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer), 5)
    assert layer.project() or layer.lipschitz_bound() <= 1.5
    assert_sound(layer)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_that_mix_units_are_refused(name):
    """On images they would act along a row of pixels, or not at all."""
    function = ACTIVATIONS[name](8) if name in LEARNED else ACTIVATIONS[name]()
    jacobians = [torch.func.jacrev(function)(x) for x in torch.randn(20, 8)]
    alone = all(torch.equal(jacobian, jacobian.diag().diag()) for jacobian in jacobians)
    assert alone is (name in ELEMENT_WISE)
    if name not in ELEMENT_WISE:
        with pytest.raises(ValueError, match="act on each unit alone"):
            make(activation=name)


def test_training_keeps_the_norm_up():
    """Cuts take off what is too large and leave the rest: rescaling alone would lose most of it."""
    layer = make()
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer)
    train(layer, optimizer, 100)
    layer.project()
    assert layer.lipschitz_bound() >= 1.5 * 0.99
    taps = polyphase(layer.weight.detach().double(), layer.stride)
    values = torch.linalg.svdvals(transfer_matrices(taps, waves((2, 2), (8, 8))))
    assert float(values.mean()) >= 0.8 * 1.5


def test_projecting_what_is_feasible_changes_no_bit():
    layer = make()
    train(layer, project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer), 5)
    assert layer.project() is True
    before = copy.deepcopy(layer.state_dict())
    assert layer.project() is False
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
    with torch.no_grad():
        layer.weight.mul_(1.00001)
    assert layer.project() is True
    assert_sound(layer)


def test_projection_leaves_what_is_not_too_large():
    """One direction is three times too large. Rescaling would take two thirds of everything."""
    layer = make()
    with torch.no_grad():
        before = layer.weight.clone()
        layer.weight.add_(6.0 / layer.weight[0].numel())
    assert layer.lipschitz_bound() > 3.0 * 1.5
    layer.project()
    assert_sound(layer)
    assert float((layer.weight.detach() * before).sum()) >= 0.75 * float(before.square().sum())


def test_slack_leaves_room_for_small_steps():
    layer = make()
    layer.slack = 0.02
    train(layer, project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer), 5)
    assert layer.project() is True
    norm = layer.lipschitz_bound()
    assert 1.5 * 0.97 <= norm <= 1.5 * 0.995
    with torch.no_grad():
        layer.weight.mul_(1.49 / norm)
        assert layer.project() is False
        layer.weight.mul_(1.51 / 1.49)
        assert layer.project() is True
    assert_sound(layer)


@pytest.mark.parametrize("scale", [1e-20, 1e20, 0.0])
def test_extreme_weights(scale):
    layer = make()
    with torch.no_grad():
        layer.weight.mul_(scale)
    layer.project_cheaply()
    assert torch.isfinite(layer.weight).all()
    layer.project()
    assert (layer.lipschitz_bound() > 0) is (scale > 0)
    assert_sound(layer)


def test_nan_weights_are_refused_and_left():
    layer = make()
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = float("nan")
    before = layer.weight.detach().clone()
    for act in (layer.project, layer.lipschitz_bound):
        with pytest.raises(ValueError, match="NaN or infinite"):
            act()
    layer.project_cheaply()
    assert torch.equal(before.nan_to_num(), layer.weight.detach().nan_to_num())


def test_nan_gradient_is_refused_and_weights_kept():
    layer = make()
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer)
    before = copy.deepcopy(layer.state_dict())
    layer(torch.full((2, 3, 9, 9), float("nan"))).sum().backward()
    with pytest.raises(ValueError, match="gradient of"):
        optimizer.step()
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_joint_copies_train_their_own_layer():
    layer = make()
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-2), layer)
    train(layer, optimizer, 2)
    for twin, twin_optimizer in (
        copy.deepcopy((layer, optimizer)),
        pickle.loads(pickle.dumps((layer, optimizer))),
    ):
        before = copy.deepcopy(layer.state_dict())
        train(twin, twin_optimizer, 20)
        assert all(held is twin for held in twin_optimizer.projected_layers), (
            "the copy trained without projection"
        )
        assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
        twin.project()
        assert_sound(twin)


def test_polyak_average_keeps_the_bound():
    online, target = make(), make().eval()
    optimizer = project_after_step(torch.optim.Adam(online.parameters(), lr=1e-2), online, exact=True)
    x = torch.randn(2, 3, 9, 9)
    for _ in range(5):
        train(online, optimizer, 2)
        before = target(x)
        polyak_update(online.parameters(), target.parameters(), 0.3)
        assert not torch.equal(before, target(x)), "the target did not move"
        assert target.lipschitz_bound() <= 1.5 * (1 + TOLERANCE)


def test_state_dict_dtype_and_merge():
    layer, other = make(activation=None), make(activation=None)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 9, 7)
    assert torch.equal(layer(x), other(x))
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert list(layer.named_buffers()) == []
    merged = layer.merge()
    assert type(merged) is nn.Conv2d
    assert torch.equal(merged(x), layer(x))
    assert conv2d_norm(merged) == layer.lipschitz_bound()
    merged.weight.data.zero_()
    assert not torch.equal(merged(x), layer(x)), "merge() must give fresh modules"
    optimizer = project_after_step(torch.optim.SGD(layer.double().parameters(), lr=1.0), layer)
    layer(x.double()).square().sum().neg().backward()
    optimizer.step()
    layer.project()
    assert layer.weight.dtype == torch.float64
    assert_sound(layer)


def test_gradient():
    layer = SpectralConv2d(2, 2, 3, 2, 1, "tanh").double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(layer, {"weight": w, "bias": b}, (x,)),
        (x, *(p.detach().clone().requires_grad_(True) for p in (layer.weight, layer.bias))),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bound": 0.0}, "bound must be a finite number > 0"),
        ({"in_channels": 0}, "in_features must be an integer > 0"),
        ({"kernel_size": 0}, "kernel_size must be an integer ≥ 1 or a pair of them, received 0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be"),
        ({"stride": (1, 0.5)}, "stride must be"),
        ({"padding": -1}, "padding must be an integer ≥ 0"),
        ({"padding": "same"}, "padding must be"),
        ({"image_size": (2, 9)}, "smaller than kernel_size"),
        ({"activation": "rleu"}, "Did you mean 'relu'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpectralConv2d(**{"in_channels": 2, "out_channels": 3, "kernel_size": 3, **arguments})


def test_no_factors_and_no_other_image_size():
    layer = make(image_size=(9, 9))
    with pytest.raises(TypeError, match="no matrix factors"):
        layer.factors()
    with pytest.raises(ValueError, match=r"images of \(9, 9\), received \(9, 10\)"):
        layer(torch.randn(1, 3, 9, 10))
