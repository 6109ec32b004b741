"""A weight of proven norm speaks for those near it: never for one that is outside."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from lipsrl.layers import Spectral, project_after_step
from lipsrl.layers import _reach as module
from lipsrl.layers._linalg import random_orthonormal, smaller_gram
from lipsrl.layers._reach import LEAST, PAUSE, ROOM, Reach, norm_below

SHAPES = [(1, 7), (2, 64), (64, 64), (130, 300), (300, 130)]


def norm(weight):
    return float(torch.linalg.svdvals(weight.detach().double())[0])


def layer(shape, size, radius=1.5):
    """A spectral layer of norm ``size·radius``."""
    made = Spectral(*shape[::-1], bound=radius)
    weight = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(weight * (size * radius / norm(weight)))
    return made


@pytest.fixture
def proofs(monkeypatch):
    """How often a Gram matrix was made and tested."""
    made = []
    prove = Spectral._prove
    monkeypatch.setattr(Spectral, "_prove", lambda self, *args: made.append(1) or prove(self, *args))
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-9, 0.03, 0.5, 0.92, 0.98, 1.0, 1.01, 1e6])
def test_the_bound_is_above_the_norm_and_below_one(shape, size):
    weight = layer(shape, size, 1.0).weight.detach().double()
    start = None
    for _ in range(6):
        bound, start = norm_below(smaller_gram(weight), weight.shape, 0.0, start)
        assert bound is None or norm(weight) <= bound <= 1 - LEAST + 1e-3
    assert (bound is None) == (size * math.sqrt(1 + ROOM) >= 1 - LEAST)
    assert bound is None or bound <= max(0.051, size * (1 + ROOM))


@pytest.mark.parametrize(
    "start",
    [torch.zeros(64), torch.full((64,), math.nan), torch.full((64,), 1e300, dtype=torch.float64), "second"],
)
def test_a_guess_that_is_too_low_is_not_believed(start):
    left, right = random_orthonormal(64, 64), random_orthonormal(64, 64)
    sizes = torch.full((64,), 0.3, dtype=torch.float64)
    sizes[0] = 1.2
    weight = (left * sizes) @ right
    start = right[1].clone() if isinstance(start, str) else start.double()  # blind for the large one
    assert norm_below(smaller_gram(weight), weight.shape, 0.0, start)[0] is None
    made = Spectral(64, 64, bound=1.0)
    made._guess = start
    with torch.no_grad():
        made.weight.copy_(weight)
    assert made.project() is True
    assert norm(made.weight) <= 1.0


def test_the_error_of_the_gram_matrix_counts():
    weight = layer((64, 64), 0.9, 1.0).weight.detach().double()
    assert norm_below(smaller_gram(weight), weight.shape, 0.0, None)[0] is not None
    assert norm_below(smaller_gram(weight), weight.shape, 0.2, None)[0] is None
    bound, _ = norm_below(smaller_gram(weight), weight.shape, 0.05, None)
    assert bound is None or bound**2 >= norm(weight) ** 2 + 0.05


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_never_covered(value):
    made = layer((64, 64), 0.5)
    made.project()
    assert made._reach is not None
    with torch.no_grad():
        made.weight[3, 4] = value
    assert not made._reach.covers(made.weight, 1e30)
    with pytest.raises(ValueError, match="NaN or infinite"):
        made.project()
    assert norm_below(torch.full((4, 4), value).double(), torch.Size((4, 4)), 0.0, None)[0] is None


def test_it_covers_up_to_the_edge_and_not_beyond():
    """Moved along its own largest direction, the triangle inequality is sharp."""
    weight = layer((64, 64), 1.0, 1.0).weight.detach().double()
    u, _, v = torch.linalg.svd(weight)
    for dtype in (torch.float32, torch.float64):
        reach = Reach((0.5 * weight).to(dtype), 0.5 * (1 + 1e-7))
        direction = torch.outer(u[:, 0], v[0])
        assert reach.covers((0.5 * weight + 0.4999 * direction).to(dtype), 1.0)
        assert not reach.covers((0.5 * weight + 0.500001 * direction).to(dtype), 1.0)
    assert not reach.covers(reach.weight.float(), 1.0), "another type"
    assert not reach.covers(reach.weight[:, :3], 1.0), "another shape"
    assert not Reach(reach.weight.half(), 0.1).covers(reach.weight.half(), 1.0), "rounds too much"
    assert not Reach(reach.weight * 1e-170, 1e-171).covers(reach.weight * 0, 1e-170), "may underflow"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1e-3, 1e-2, 0.1])
def test_a_walk_never_leaves_the_ball(shape, step, proofs):
    """Steps of one sign, random ones, and some behind every counter: checked in float64 after each."""
    made = layer(shape, 0.4)
    pull = torch.randn(shape)
    for i in range(60):
        change = pull if i % 3 else torch.randn(shape)
        made.weight.data.add_(change / norm(change) * step * 1.5)
        before = made.weight.detach().clone()
        inside = norm(before) <= 1.5 * (1 - 1e-9)
        moved = made.keep_inside(roughly=i % 2 == 0)
        assert norm(made.weight) <= 1.5
        if inside and i % 2:
            assert not moved
            assert torch.equal(before, made.weight.detach()), "feasible weights keep every bit"
    assert step > 0.05 or len(proofs) < 60


def test_a_weight_well_inside_is_rarely_proven_again(proofs):
    made = layer((128, 128), 0.4)
    for _ in range(50):
        with torch.no_grad():
            made.weight.add_(torch.randn(128, 128) * 3e-4)
        made.project()
    assert len(proofs) <= 8
    with torch.no_grad():
        made.weight.mul_(3.0)
    assert made.project() is True
    assert norm(made.weight) <= 1.5
    assert made._pause == PAUSE


def test_a_bound_that_shrinks_is_seen():
    made = layer((64, 64), 0.5)
    made.project()
    assert made._reach is not None
    made.hold(0.6, made.unit)
    assert norm(made.weight) <= 0.6
    made = layer((64, 64), 0.5)
    made.project()
    made.hold(1.5, 0.25)  # the same function, in other units
    assert norm(made.weight) * 0.25 <= 1.5
    with torch.no_grad():
        made.weight.mul_(5.0)
    made.project()
    assert norm(made.weight) * 0.25 <= 1.5


def test_copies_prove_for_themselves(tmp_path):
    made = layer((64, 64), 0.5)
    made.project()
    twin = copy.deepcopy(made)
    assert twin._reach is None
    with torch.no_grad():
        twin.weight.mul_(4.0)
    assert twin.project() is True
    assert made.project() is False
    torch.save(made, tmp_path / "layer.pt")
    assert torch.load(tmp_path / "layer.pt", weights_only=False)._reach is None


def test_the_snapshot_is_nobody_elses():
    made = layer((64, 64), 0.5)
    made.project()
    with torch.no_grad():
        made.weight.mul_(10.0)
    assert norm(made._reach.weight) <= 0.8
    assert made.project() is True


def test_training_is_the_same_with_and_without(monkeypatch):
    """Inside, nothing is moved either way."""

    def trained():
        torch.manual_seed(0)
        made = layer((64, 64), 0.3)
        optimizer = project_after_step(torch.optim.Adam(made.parameters(), 1e-3), made, exact=True)
        for _ in range(20):
            optimizer.zero_grad()
            made(torch.randn(8, 64)).square().sum().backward()
            optimizer.step()
        return made.weight.detach()

    with_reach = trained()
    monkeypatch.setattr(module, "LEAST", 1.0)
    assert torch.equal(with_reach, trained())
