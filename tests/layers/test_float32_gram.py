"""Large weights with slack: what one float32 Gram matrix says of them is never wrong by more than it counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from lipsrl.layers import Spectral, project_after_step
from lipsrl.layers import _float32_gram as module
from lipsrl.layers import spectral as spectral_module
from lipsrl.layers._float32_gram import inside_by_float32, lower_gram, worth_it
from lipsrl.layers._linalg import random_orthonormal

SLACK = 0.01
SHAPE = (128, 300)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def norm(weight):
    return float(torch.linalg.svdvals(weight.detach().double())[0])


def of_norm(size, kind, shape=SHAPE):
    """A float32 matrix whose float64 norm is ``size`` up to rounding."""
    if kind == "flat":
        weight = random_orthonormal(*shape)
    elif kind == "one direction":
        weight = 0.5 * random_orthonormal(*shape) + 5 * torch.outer(
            torch.randn(shape[0]), torch.randn(shape[1])
        )
    elif kind == "one sign":
        weight = torch.rand(shape, dtype=torch.float64)
    else:
        weight = torch.randn(shape, dtype=torch.float64) * torch.logspace(-9, 0, shape[1])
    return (weight.double() * (size / norm(weight))).float()


def layer(weight, bound=1.0, slack=SLACK):
    made = Spectral(weight.shape[1], weight.shape[0], "relu", bound=bound)
    made.slack = slack
    with torch.no_grad():
        made.weight.copy_(weight)
    return made


KINDS = ["flat", "one direction", "one sign", "uneven columns"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(128, 256), (129, 1000), (10, 3136)])
def test_the_gram_matrix_is_as_wrong_as_is_counted_at_most(shape, kind):
    weight = of_norm(3.0, kind, shape)
    exact = weight.double() @ weight.double().mT
    allowed = module._share(shape[1]) * (weight.double().abs() @ weight.double().abs().mT)
    wrong = (lower_gram(weight).double() - exact).abs()
    assert bool((wrong <= allowed).tril().eq(torch.ones_like(wrong).tril()).all())


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_size_the_result_is_inside(kind, tall):
    start = of_norm(1.0, kind)
    start = start.mT.contiguous() if tall else start
    for i, size in enumerate((0.5, 1 - 1e-4, 1 - 1e-7, 1.0, 1 + 1e-7, 1 + 1e-4, 1.01, 1.5)):
        radius = (1.0, 3.7e-6, 2.9e6)[i % 3]
        weight = (start.double() * (size * radius)).float()
        found = inside_by_float32(weight, radius, SLACK, move_edge=i % 2 == 0)
        assert found is None or norm(found) <= radius
        if size == 0.5:
            assert found is weight
        if size == 1.01:
            assert found is not None
            assert norm(found) >= radius * (1 - SLACK - 1e-4), "clipped further than asked for"


@pytest.mark.parametrize("kind", KINDS)
def test_the_worst_gram_matrix_that_rounding_may_give_proves_nothing_wrong(kind, monkeypatch):
    """Every product as much too small, or too large, as the analysis allows."""
    exactly = lambda wide: (wide.double() @ wide.double().mT, wide.double().abs() @ wide.double().abs().mT)  # noqa: E731
    for sign in (-1, 1):

        def wrong(wide, sign=sign):
            gram, sizes = exactly(wide)
            return gram + sign * module._share(wide.shape[1]) * sizes

        monkeypatch.setattr(module, "lower_gram", wrong)
        start = of_norm(1.0, kind)
        for size in (1 - 1e-4, 1.0, 1 + 1e-6, 1 + 1e-4, 1 + 1e-3, 1.01):
            weight = (start.double() * size).float()
            found = inside_by_float32(weight, 1.0, SLACK, move_edge=True)
            assert found is None or norm(found) <= 1.0


@pytest.mark.parametrize("rubbish", ["zeros", "noise", "nan"])
def test_nothing_is_believed_of_the_eigenvectors(rubbish, monkeypatch):
    def eigh(gram):
        vectors = {
            "zeros": torch.zeros_like(gram),
            "noise": torch.randn_like(gram),
            "nan": torch.full_like(gram, math.nan),
        }[rubbish]
        return torch.full((len(gram),), 1.02), vectors

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    found = inside_by_float32(of_norm(1.005, "flat"), 1.0, SLACK)
    assert found is None or norm(found) <= 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_values_without_a_norm_are_left_to_the_others(value):
    weight = of_norm(0.9, "flat")
    weight[3, 5] = value
    assert inside_by_float32(weight, 1.0, SLACK, move_edge=True) is None
    if not math.isfinite(value):
        made = layer(weight)
        with pytest.raises(ValueError, match="NaN or infinite"):
            made.keep_inside(roughly=True)
        assert torch.equal(made.weight.detach().nan_to_num(), weight.nan_to_num())


def test_where_it_is_used():
    weight = of_norm(0.9, "flat")
    assert worth_it(weight, 1.0, SLACK)
    assert not worth_it(weight, 1.0, 2e-6), "float32 says nothing about so little slack"
    assert not worth_it(weight.double(), 1.0, SLACK)
    assert not worth_it(weight.bfloat16(), 1.0, SLACK)
    assert not worth_it(weight, 1e13, SLACK)
    assert not worth_it(weight[:100], 1.0, SLACK)
    for mode in ("bf16", "tf32"):
        torch.backends.mkldnn.matmul.fp32_precision = mode
        try:
            assert not worth_it(weight, 1.0, SLACK)
        finally:
            torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_feasible_weights_keep_every_bit_unless_they_are_trained_on(monkeypatch):
    edge = layer(of_norm(1 - 1e-6, "flat"))
    before = edge.weight.detach().clone()
    assert edge.project() is False
    assert torch.equal(before, edge.weight.detach())
    assert edge.keep_inside(roughly=True) is True
    assert 1 - SLACK - 1e-4 <= norm(edge.weight) <= 1.0

    well_inside = layer(of_norm(1 - SLACK, "flat"))
    before = well_inside.weight.detach().clone()
    monkeypatch.setattr(spectral_module, "smaller_gram", None)  # no float64 Gram matrix is needed
    assert well_inside.project() is False
    assert well_inside.keep_inside(roughly=True) is False
    assert torch.equal(before, well_inside.weight.detach())


@pytest.mark.parametrize("lr", [1e-5, 1e-3, 0.3, 1e4])
def test_every_transition_of_a_training_is_inside(lr):
    made = layer(of_norm(1.0, "flat"), bound=1.0)
    target = copy.deepcopy(made)
    optimizer = project_after_step(torch.optim.Adam(made.parameters(), lr=lr), made)
    for _ in range(4):
        x = torch.randn(16, SHAPE[1])
        optimizer.zero_grad()
        (-made(x).square().mean()).backward()
        optimizer.step()
        made.keep_inside(roughly=True)
        assert norm(made.weight) <= 1.0
        for old, new in zip(target.parameters(), made.parameters(), strict=True):
            old.data.mul_(0.9).add_(new.data, alpha=0.1)  # polyak
    assert norm(target.weight) <= 1.0 + 1e-6
    assert norm(copy.deepcopy(made).weight) <= 1.0
