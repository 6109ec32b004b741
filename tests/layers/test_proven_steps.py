"""Projections that prove instead of factorise: tried with what should break the proof."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipsrl.layers import LAYERS, Orthogonal, Sandwich, Spectral, project_after_step, spectral_norm
from lipsrl.layers import _leading as leading
from lipsrl.layers import _polar as polar
from lipsrl.layers import _precision as precision
from lipsrl.layers import orthogonal as orthogonal_module
from lipsrl.layers._linalg import random_orthonormal, smaller_gram
from lipsrl.layers.orthogonal import retract_exactly

SHAPES = [(1, 1), (1, 7), (7, 1), (3, 3), (64, 3), (64, 64), (128, 64), (40, 150)]


def norm(weight):
    """By an SVD, which none of the projections here uses."""
    return float(torch.linalg.svdvals(weight.detach().double())[0])


def disturbed(shape, distance, kind, radius, dtype):
    """An orthonormal matrix times ``radius``, off by about ``distance`` (‖WᵀW - I‖_F)."""
    exact = random_orthonormal(*shape)
    if kind == "noise":
        noise = torch.randn(shape, dtype=torch.float64)
        exact += noise / noise.norm() * distance / 2
    elif kind == "one direction":
        exact += distance / 2 * torch.outer(exact[:, 0], torch.eye(shape[1], dtype=torch.float64)[0])
    else:
        exact *= 1 + (distance if kind == "larger" else -distance) / (2 * min(shape) ** 0.5)
    return (exact * radius).to(dtype)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", ["noise", "one direction", "larger", "smaller"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_distance_leads_out_of_the_ball(dtype, kind):
    """From all sides: each degree of the series, the edges between them, and too far for any."""
    for shape in SHAPES:
        for distance in (
            0,
            1e-7,
            1e-5,
            1e-4,
            1.3e-3,
            1.4e-3,
            1e-2,
            1.3e-2,
            2e-2,
            5e-2,
            0.0999,
            0.1001,
            0.4,
            1.0,
        ):
            for radius in (1.0, 3.7e-6, 2.9e6):
                weight = disturbed(shape, distance, kind, radius, dtype)
                found = retract_exactly(weight, radius)
                kept = weight if found is None else found
                assert norm(kept) <= radius
                gap = smaller_gram(kept.double() / radius) - torch.eye(min(shape), dtype=torch.float64)
                assert float(gap.abs().max()) <= 1.1e-5
                if found is not None:
                    assert retract_exactly(found, radius) is None, "what is projected is inside"


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    exponent=st.floats(-8, 1),
    radius=st.floats(-12, 12),
    seed=st.integers(0, 10_000),
)
def test_any_size_distance_and_radius(rows, columns, exponent, radius, seed):
    torch.manual_seed(seed)
    weight = disturbed((rows, columns), 10**exponent, "noise", 10**radius, torch.float32)
    found = retract_exactly(weight, 10**radius)
    assert norm(weight if found is None else found) <= 10**radius


def test_the_proven_step_is_the_one_that_is_taken(monkeypatch):
    """The others would hide a mistake in it: they verify their result."""
    monkeypatch.setattr(orthogonal_module, "_retract_from_afar", None)
    for shape in ((128, 64), (512, 256)):
        for distance in (1e-4, 1e-3, 1e-2, 2e-2):
            weight = disturbed(shape, distance, "noise", 2.0, torch.float32)
            assert norm(retract_exactly(weight, 2.0)) <= 2.0


def test_the_margin_covers_the_worst_rounding():
    """A product whose every entry is as wrong as the analysis allows, in the direction that grows the norm most."""
    for shape in ((64, 64), (512, 256)):
        weight = disturbed(shape, 5e-3, "noise", 1.0, torch.float32)
        gap = torch.eye(shape[1], dtype=torch.float64) - smaller_gram(weight.double())
        distance = float(gap.norm())
        step = polar.proven_polar_step(weight, gap, distance, 1.0, matrix=weight.double())
        u, _, v = torch.linalg.svd(step.double(), full_matrices=False)
        push = torch.outer(u[:, 0], v[0]).sign()
        wrong = precision.UNIT32 * step.double().abs() + precision.gamma(shape[1]) * (
            weight.double().abs() @ (gap.abs() / 2)
        )
        assert norm(step.double() + push * wrong) <= 1.0


@pytest.fixture(params=["bf16", "tf32"])
def reduced_precision(request):
    torch.backends.mkldnn.matmul.fp32_precision = request.param
    yield
    torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_reduced_precision_is_not_trusted(reduced_precision):
    assert not precision.multiplies_in_float32(torch.device("cpu"))
    for distance in (1e-3, 2e-2):
        weight = disturbed((256, 256), distance, "noise", 1.0, torch.float32)
        assert norm(retract_exactly(weight, 1.0)) <= 1.0


def test_precision_switches_of_onednn_are_seen(monkeypatch):
    assert precision.multiplies_in_float32(torch.device("cpu"))
    assert not precision.multiplies_in_float32(torch.device("cuda"))
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert not precision.multiplies_in_float32(torch.device("cpu"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("family", ["orthogonal", "sandwich", "spectral"])
def test_nan_and_infinity_are_refused_and_left(family, value):
    layer = LAYERS[family](64, 64) if family != "spectral" else spread((64, 64), 3)
    layer.keep_inside()
    weight = layer.stack if family == "sandwich" else layer.weight
    with torch.no_grad():
        weight.mul_(1.1)
        layer.project()
        assert family != "spectral" or layer._followed is not None
        weight.mul_(1.001)[3, 5] = value
    before = weight.detach().clone()
    with pytest.raises(ValueError, match="NaN or infinite"):
        layer.keep_inside()
    assert torch.equal(
        before,
        weight.detach(),
    ) or math.isnan(value)
    with torch.no_grad():
        weight[3, 5] = 0.0
    layer.keep_inside()
    assert layer.lipschitz_bound() <= layer.bound


# -- leading directions -----------------------------------------------------------------------------------


def spread(shape, n_near, radius=1.5):
    """A spectral layer with ``n_near`` singular values at its radius and the others well below."""
    layer = Spectral(*shape[::-1], bound=radius)
    k = min(shape)
    sigma = torch.cat([torch.ones(n_near), torch.linspace(0.8, 0.0, k - n_near)]).double() * radius
    left, right = random_orthonormal(shape[0], k), random_orthonormal(k, shape[1])
    with torch.no_grad():
        layer.weight.copy_((left * sigma) @ right)
    return layer


@pytest.mark.parametrize("step", [1e-4, 1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("shape", [(64, 64), (256, 100), (100, 256)])
def test_followed_directions_never_hide_one_that_is_not(shape, step):
    """Steps along one slow direction and in new ones: proven, or factorised."""
    for n_near in [1, 10, 30, 60]:
        layer = spread(shape, n_near)
        slow = torch.randn(shape)
        for i in range(8):
            new = torch.outer(torch.randn(shape[0]), torch.randn(shape[1]))  # nobody follows it
            with torch.no_grad():
                layer.weight.add_(slow / norm(slow) * step).add_(new / norm(new) * step * (i % 3))
            layer.project()
            assert norm(layer.weight) <= 1.5
            before = layer.weight.detach().clone()
            assert layer.project() is False
            assert torch.equal(before, layer.weight.detach()), "feasible weights keep every bit"


def test_a_large_value_orthogonal_to_all_that_is_followed_is_found():
    layer = spread((128, 128), 10)
    with torch.no_grad():
        layer.weight.mul_(1.001)
    layer.project()
    assert layer._followed is not None
    image = layer._followed.basis.double()
    direction = torch.linalg.qr(torch.cat([image, torch.randn(128, 1).double()], 1)).Q[:, -1]
    with torch.no_grad():
        layer.weight.mul_(1.001).add_(3.0 * torch.outer(torch.randn(128) / 11, direction.float()))
    assert norm(layer.weight) > 2.0
    layer.project()
    assert norm(layer.weight) <= 1.5


def test_a_wrong_basis_is_never_believed():
    """Whatever the warm start says, what comes out is verified."""
    for basis in (torch.zeros(128, 12), torch.randn(128, 12) * 1e20, torch.full((128, 12), math.nan)):
        layer = spread((128, 128), 20)
        with torch.no_grad():
            layer.weight.mul_(1.01)
        layer._followed = leading.Leading(basis, 0.9)
        layer.project()
        assert norm(layer.weight) <= 1.5 * (1 + 1e-12)
        assert norm(layer.weight) >= 1.5 * (1 - 2e-4)


def test_following_clips_as_the_projection_does():
    layer = spread((256, 256), 12)
    with torch.no_grad():
        layer.weight.mul_(1.002)
    layer.project()
    for _ in range(5):
        with torch.no_grad():
            layer.weight.add_(torch.randn(256, 256) * 3e-5)
        twin = copy.deepcopy(layer)
        twin._followed = None
        layer.project()
        twin.project()
        assert float((layer.weight - twin.weight).detach().norm()) <= 2e-3 * norm(layer.weight)


# -- weights that are as they were left -------------------------------------------------------------------


@pytest.mark.parametrize("family", ["orthogonal", "sandwich", "spectral", "linf", "rescaled"])
def test_one_entry_written_behind_every_counter_is_seen(family):
    layer = LAYERS[family](16, 16)
    layer.keep_inside()
    assert layer.is_as_left()
    weight = layer.stack if family == "sandwich" else layer.weight
    version = weight._version
    weight.data[5, 7] += 3.0
    assert weight._version == version
    assert layer.keep_inside() is True
    assert layer.lipschitz_bound() <= layer.bound * (1 + 1e-6)


@pytest.mark.parametrize("family", ["orthogonal", "sandwich", "spectral", "linf"])
def test_another_bound_is_another_set(family):
    layer = LAYERS[family](16, 16, bound=2.0)
    layer.keep_inside()
    layer.bound = 1.0  # as loading of earlier zips does it
    assert not layer.is_as_left()
    layer.keep_inside()
    assert layer.lipschitz_bound() <= 1.0 * (1 + 1e-6)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_know_nothing_of_it(copier):
    layer = Orthogonal(16, 16)
    layer.keep_inside()
    twin = copier(layer)
    assert not twin.is_as_left()
    twin.weight.data.mul_(2.0)
    twin.keep_inside()
    assert twin.lipschitz_bound() <= 1.0


@pytest.mark.parametrize("family", [Orthogonal, Sandwich, Spectral])
@pytest.mark.parametrize("lr", [1e-4, 3e-3, 0.3, 30.0])
def test_every_transition_of_a_training_is_inside(family, lr):
    layer = family(64, 64)
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=lr), layer)
    for _ in range(25):
        x = torch.randn(16, 64)
        optimizer.zero_grad()
        (-layer(x).square().mean()).backward()
        optimizer.step()
        layer.keep_inside()
        weight = layer.stack if family is Sandwich else layer.weight
        radius = layer.held if family is Sandwich else layer.radius
        assert norm(weight) <= radius
        assert spectral_norm(weight) <= radius * (1 + 1e-12)
