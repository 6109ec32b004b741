"""Large weights with slack: what one float32 Gram matrix says of them is never wrong by more than it counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from lipsrl import LipschitzMLP
from lipsrl.layers import Orthogonal, Sandwich, Spectral, project_after_step
from lipsrl.layers import _float32_clip as clip_module
from lipsrl.layers import _float32_gram as module
from lipsrl.layers import _float32_polar as polar_module
from lipsrl.layers import spectral as spectral_module
from lipsrl.layers._float32_clip import Cut
from lipsrl.layers._float32_gram import CountedGram, lower_gram, worth_it
from lipsrl.layers._float32_polar import LARGEST_ROOM, float32_polar_step, room_of
from lipsrl.layers._leading import Leading
from lipsrl.layers._linalg import random_orthonormal
from lipsrl.layers._precision import UNIT32, gamma
from lipsrl.layers.orthogonal import TOLERANCE, retract_exactly

SLACK = 0.01


def inside_by_float32(weight, radius, slack, **options):
    counted = CountedGram.of(weight, radius)
    return None if counted is None else clip_module.inside_by_float32(weight, counted, slack, **options)[0]


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
    allowed = module.error_share(shape[1]) * (weight.double().abs() @ weight.double().abs().mT)
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
            return gram + sign * module.error_share(wide.shape[1]) * sizes

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


# -- directions that are followed --------------------------------------------------------------------------


def following(weight):
    """What is followed of a weight that is a little too large."""
    counted = CountedGram.of(weight, 1.0)
    inside, followed = clip_module.inside_by_float32(weight, counted, SLACK, move_edge=True)
    assert norm(inside) <= 1.0
    assert followed is not None
    return inside, followed


def a_few_above(shape=(160, 300), above=5):
    """Singular values between 0.2 and 0.9, and a few of 1.01."""
    k = min(shape)
    sizes = torch.linspace(0.2, 0.9, k, dtype=torch.float64)
    sizes[:above] = 1.01
    return (random_orthonormal(shape[0], k) * sizes @ random_orthonormal(k, shape[1])).float()


@pytest.mark.parametrize("shape", [(160, 300), (300, 160), (256, 256)])
@pytest.mark.parametrize("step", [1e-4, 1e-3, 1e-2, 0.1])
def test_followed_directions_never_hide_one_that_is_not(shape, step, monkeypatch):
    weight, followed = following(a_few_above(shape))
    whole = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda gram: (whole.append(len(gram)), eigh(gram))[1])
    for i in range(12):
        move = torch.randn(shape) if i % 3 else torch.outer(torch.randn(shape[0]), torch.randn(shape[1]))
        weight = weight + step * move / norm(move)
        counted = CountedGram.of(weight, 1.0)
        found, followed = clip_module.inside_by_float32(
            weight, counted, SLACK, move_edge=True, followed=followed
        )
        assert found is None or norm(found) <= 1.0
        if found is not None:
            distance = torch.linalg.matrix_norm((weight - found).double())
            nearest = torch.linalg.svdvals(weight.double()).sub(1.0).clamp_min(0.0).norm()
            assert distance <= nearest + 3 * SLACK, "hardly further than the projection"
            weight = found
    if step <= 1e-3:
        assert min(shape) not in whole, "no factorisation of the whole"


@pytest.mark.parametrize("rubbish", ["zeros", "noise", "nan", "huge", "one twice"])
def test_nothing_is_believed_of_what_is_followed(rubbish):
    weight = a_few_above()
    _, followed = following(weight)
    basis = {
        "zeros": torch.zeros_like(followed.basis),
        "noise": torch.randn_like(followed.basis),
        "nan": torch.full_like(followed.basis, math.nan),
        "huge": 1e20 * followed.basis,
        "one twice": followed.basis[:, -1:].expand(-1, followed.basis.shape[1]).contiguous(),
    }[rubbish]
    counted = CountedGram.of(weight, 1.0)
    for edge in (0.0, followed.edge, 0.999):
        found, _ = clip_module.inside_by_float32(
            weight, counted, SLACK, move_edge=True, followed=Leading(basis, edge)
        )
        assert found is None or norm(found) <= 1.0


@pytest.mark.parametrize("r", [1, 7, 20, 100])
@pytest.mark.parametrize("kind", ["orthonormal", "anything", "one sign"])
def test_a_cut_says_how_wrong_it_may_be(r, kind):
    k, n = 160, 300
    basis = {
        "orthonormal": random_orthonormal(k, r).float(),
        "anything": torch.randn(k, r),
        "one sign": torch.rand(k, r),
    }[kind]
    shares, matrix = torch.rand(r), torch.randn(k, n)
    cut = Cut.of(basis, shares)
    assert (cut.right is None) == (r > 20)
    exact = cut.left.double() if cut.right is None else cut.left.double() @ cut.right.double().mT
    assert torch.linalg.matrix_norm(exact) <= cut.norm <= cut.size
    for found, true in (
        (cut.times(matrix), exact @ matrix.double()),
        (cut.after(matrix.mT.contiguous()), matrix.double().mT @ exact.mT),
    ):
        wrong = torch.linalg.matrix_norm(found.double() - true)
        assert wrong <= cut.rounding * torch.linalg.matrix_norm(matrix.double())


# -- the polar factor, a priori ----------------------------------------------------------------------------


def stack(distance, kind, radius=1.0, shape=(300, 130)):
    """Nearly ``radius`` times an orthonormal matrix, off by about ``distance`` (‖WᵀW - I‖_F)."""
    exact = random_orthonormal(*shape)
    if kind == "noise":
        noise = torch.randn(shape, dtype=torch.float64)
        exact += noise / noise.norm() * distance / 2
    elif kind == "one direction":
        exact += distance / 2 * torch.outer(exact[:, 0], torch.eye(shape[1], dtype=torch.float64)[0])
    else:
        exact *= 1 + (distance if kind == "larger" else -distance) / (2 * min(shape) ** 0.5)
    return (exact * radius).float()


@pytest.mark.parametrize("kind", ["noise", "one direction", "larger", "smaller"])
@pytest.mark.parametrize("shape", [(300, 130), (130, 300), (512, 256), (400, 403)])
def test_the_float32_step_ends_inside_the_ball_and_is_left_by_the_exact_projection(shape, kind):
    proven = 0
    for i, distance in enumerate((1e-4, 1e-3, 3e-2, 8e-2, 0.12, 0.5)):
        radius = (1.0, 3.7e-6, 2.9e6)[i % 3]
        weight = stack(distance, kind, radius, shape)
        step = float32_polar_step(weight, radius, TOLERANCE)
        if step is None:
            continue
        proven += 1
        sizes = torch.linalg.svdvals(step.double()) / radius
        assert 1 - room_of(min(shape), max(shape)) - 1e-4 <= float(sizes[-1]) <= float(sizes[0]) <= 1.0
        assert retract_exactly(step, radius) is None, "saving and certifying must not move what acts"
        assert float32_polar_step(step, radius, TOLERANCE) is None, "nor a transition without a step"
    assert proven >= 2 or kind in ("larger", "smaller"), (
        "those are multiples of an orthogonal matrix: the exact one's"
    )


@pytest.mark.parametrize("shape", [(512, 256), (400, 403)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_worst_rounding_stays_inside(sign, shape, monkeypatch):
    """Every sum and product as wrong as the analysis allows, in the direction that grows the norm most."""
    k, share = min(shape), module.error_share(max(shape))

    def wrong(wide):
        exact, sizes = wide.double() @ wide.double().mT, wide.double().abs() @ wide.double().abs().mT
        return (exact + sign * share * sizes).float()

    monkeypatch.setattr(polar_module, "full_gram", wrong)
    for distance in (1e-3, 3e-2, 6e-2):
        weight = stack(distance, "noise", shape=shape)
        weight = weight.abs() if sign > 0 and distance == 1e-3 else weight
        step = float32_polar_step(weight, 1.0, TOLERANCE)
        if step is None:
            assert distance == 1e-3
            continue
        u, _, v = torch.linalg.svd(step.double(), full_matrices=False)
        push = torch.outer(u[:, 0], v[0]).sign()
        rounding = UNIT32 * step.double().abs() + gamma(k) * 0.6 * distance / k**0.5 * weight.double().abs()
        assert norm(step.double() + push * rounding) <= 1.0


def test_weights_too_large_for_the_room_are_left_to_the_exact_projection(monkeypatch):
    assert room_of(512, 1024) < LARGEST_ROOM < room_of(600, 1200)
    monkeypatch.setattr(polar_module, "full_gram", None)  # nothing is computed for nothing
    assert float32_polar_step(torch.eye(600, 1200), 1.0, TOLERANCE) is None


def test_where_the_float32_step_is_not_taken():
    weight = stack(1e-2, "noise")
    assert float32_polar_step(weight, 1.0, TOLERANCE) is not None
    assert float32_polar_step(weight.double(), 1.0, TOLERANCE) is None
    assert float32_polar_step(weight[:, :100].contiguous(), 1.0, TOLERANCE) is None
    assert float32_polar_step(weight * 1.5, 1.0, TOLERANCE) is None
    weight[0, 0] = math.nan
    assert float32_polar_step(weight, 1.0, TOLERANCE) is None
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        assert float32_polar_step(stack(1e-2, "noise"), 1.0, TOLERANCE) is None
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize("family", [Orthogonal, Sandwich, Spectral])
@pytest.mark.parametrize("lr", [1e-6, 1e-3, 1.0])
def test_every_transition_of_large_layers_is_inside_and_saving_keeps_what_acts(family, lr):
    network = LipschitzMLP(3, 2, (160,), bound=4.0, layer=family.name)
    network.cache_in_eval = True
    optimizer = project_after_step(torch.optim.Adam(network.parameters(), lr=lr), network)
    x = torch.randn(16, 3)
    for _ in range(4):
        network.train()
        optimizer.zero_grad()
        (-network(x).square().mean()).backward()
        optimizer.step()
        network.eval()
        for made in network._held():
            weight = made.stack if family is Sandwich and made is not network.head else made.weight
            radius = made.held if weight is not made._parameters.get("weight") else made.radius
            assert norm(weight) <= radius
    acted = network(x)
    before = copy.deepcopy(network.state_dict())
    assert network.lipschitz_bound() <= 4.0
    assert network.project() is False
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), acted)
    twin.train()
    twin.eval()
    assert torch.equal(twin(x), acted), "a change of mode without a step moves nothing"
