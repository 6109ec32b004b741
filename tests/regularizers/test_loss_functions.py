"""The losses as pure functions, against their formulas in NumPy or finite differences; and what lowers them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lipsrl.regularizers import CAPS, METHODS, PAVE, GradientPenalty, SmoothPolicy, regularize
from lipsrl.regularizers._ride import ride
from lipsrl.regularizers._weights import Dual, weight_at
from lipsrl.regularizers.action_rate import rate_loss
from lipsrl.regularizers.asap import prediction_loss
from lipsrl.regularizers.caps import spatial_loss, temporal_loss
from lipsrl.regularizers.cats import CATS
from lipsrl.regularizers.grad_caps import zigzag_loss
from lipsrl.regularizers.gradient_penalty import jacobian_penalty, log_prob_penalty
from lipsrl.regularizers.l2c2 import L2C2, between, local_loss, local_space
from lipsrl.regularizers.pave import curvature_loss, field_loss, mixed_loss
from lipsrl.regularizers.smooth_policy import (
    gaussian_divergence,
    mean_divergence,
    project,
    worst_displacement,
)
from tests.regularizers.helpers import tiny

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(6, 2)) for _ in range(3))
MASK = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])


def tensors(*arrays):
    return [torch.as_tensor(one) for one in arrays]


def test_ride_is_identity_forward_and_adds_gradients_backward():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = torch.tensor([3.0], requires_grad=True)
    carried = ride(x * 2, (y**2).sum())
    assert torch.equal(carried, x * 2)
    carried.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    assert y.grad.tolist() == [6.0]


def test_caps():
    rows = np.linalg.norm(A - B, axis=1)
    assert temporal_loss(*tensors(A, B, MASK)).item() == pytest.approx((rows * MASK).sum() / 4)
    assert spatial_loss(*tensors(A, B)).item() == pytest.approx(rows.mean())
    assert temporal_loss(*tensors(A, B, 0 * MASK)).item() == 0.0


def test_the_gradient_at_equal_actions_is_zero_and_not_nan():
    a, b, mask = tensors(A, A.copy(), MASK)
    a.requires_grad_(True)
    temporal_loss(a, b, mask).backward()
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_second_differences():
    bent = 2 * B - A - C
    assert rate_loss(*tensors(A, B, C, MASK)).item() == pytest.approx(((bent**2).sum(1) * MASK).sum() / 4)
    weight = np.tanh(1 / (C - A + 1e-4) ** 2)
    expected = ((weight * 0.5 * bent**2).mean(1) * MASK).sum() / 4
    assert zigzag_loss(*tensors(A, B, C, MASK)).item() == pytest.approx(expected)
    # the displacement is a weight, not something to be learned
    a, b, c, mask = tensors(A, B, C, MASK)
    a.requires_grad_(True)
    zigzag_loss(a, b, c, mask).backward()
    expected = -(weight * bent) * MASK[:, None] / 4 / 2
    np.testing.assert_allclose(a.grad.numpy(), expected)
    # a straight line costs nothing
    assert rate_loss(*tensors(A, A + 1, A + 2, MASK)).item() == pytest.approx(0, abs=1e-20)


def test_l2c2():
    lower, upper, sigma = 0.1, 10.0, 1.0
    epsilon, width = local_space(lower, upper, sigma)
    assert epsilon * upper / (width + epsilon) == pytest.approx(lower)
    assert epsilon * upper / epsilon == upper
    other = local_space(0.5, 3.0, 2.0)
    assert other[0] * 3.0 / (other[1] + other[0]) == pytest.approx(0.5)
    radius = RNG.uniform(size=6)
    expected = (epsilon * upper / (radius + epsilon) * np.linalg.norm(A - B, axis=1) * MASK).sum() / 4
    assert local_loss(*tensors(A, B, radius, MASK), epsilon, upper).item() == pytest.approx(expected)
    counts = torch.tensor([[1], [2]])
    mixed = between({"x": torch.zeros(2, 1), "n": counts}, {"x": torch.ones(2, 1), "n": counts + 5}, {
        "x": torch.tensor([[0.5], [-0.5]]), "n": torch.ones(2, 1)})  # fmt: skip
    assert mixed["x"].tolist() == [[0.5], [-0.5]]
    assert torch.equal(mixed["n"], counts)


def linear_policy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def test_gradient_penalties_are_the_squared_slopes():
    network, observations = linear_policy(), torch.randn(4, 3, dtype=torch.float64)
    unit = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    jacobians = torch.stack([torch.func.jacrev(network)(row) for row in observations]) * unit
    leaf = observations.clone().requires_grad_(True)
    found = jacobian_penalty(network(leaf), [leaf], [unit], 0.0)
    assert found.item() == pytest.approx(jacobians.square().sum(dim=(1, 2)).mean().item())
    limit = 0.4
    found = jacobian_penalty(network(leaf), [leaf], [unit], limit)
    norms = jacobians.square().sum(dim=(1, 2)).sqrt()
    assert found.item() == pytest.approx((norms - limit).clamp(min=0).square().mean().item())
    # log π: by central differences
    action, std = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)

    def log_prob(rows):
        return torch.distributions.Normal(network(rows), std).log_prob(action).sum(dim=1)

    found = log_prob_penalty(network(leaf), std.expand(4, 2), action, [leaf], [unit])
    step, total = 1e-6, 0.0
    for i in range(3):
        h = torch.zeros(3, dtype=torch.float64)
        h[i] = step
        slope = (log_prob(observations + h) - log_prob(observations - h)) / (2 * step) * unit[i]
        total = total + slope**2
    assert found.item() == pytest.approx(total.mean().item(), rel=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("noisy", [False, True])
def test_worst_displacement_stays_in_the_ball_and_beats_chance(norm, noisy):
    network, observations = linear_policy(), torch.randn(32, 3, dtype=torch.float64)

    def divergence(found):
        return mean_divergence(network(observations).detach(), network(observations + found[0]))

    generator = torch.Generator().manual_seed(0)
    start = [project(0.1 * (2 * torch.rand(32, 3, generator=generator, dtype=torch.float64) - 1), 0.1, norm)]
    noise = (lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype)) if noisy else None
    (found,) = worst_displacement(divergence, start, radius=0.1, norm=norm, steps=10, noise=noise)
    lengths = found.abs().amax(dim=1) if norm == "linf" else found.norm(dim=1)
    assert (lengths <= 0.1 * (1 + 1e-12)).all()
    worst = divergence([found]).detach()
    drawn = torch.stack([
        divergence([project(0.1 * (2 * torch.rand(32, 3, generator=generator, dtype=torch.float64) - 1), 0.1, norm)])
        for _ in range(50)
    ]).detach()  # fmt: skip
    assert worst.mean() > 0.95 * drawn.amax(dim=0).mean() > 2 * drawn.mean()


def test_gaussian_divergence_is_torchs():
    mean, other = torch.randn(5, 2), torch.randn(5, 2)
    std, other_std = torch.rand(5, 2) + 0.1, torch.rand(5, 2) + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(other, other_std)).sum(dim=1)
    torch.testing.assert_close(
        gaussian_divergence(mean, std, other, other_std), expected, rtol=1e-4, atol=1e-5
    )


def test_pave_and_asap():
    assert mixed_loss(*tensors(A, B)).item() == pytest.approx(((A - B) ** 2).mean())
    assert field_loss(*tensors(A, B, MASK)).item() == pytest.approx((((A - B) ** 2).mean(1) * MASK).sum() / 4)
    bent = RNG.normal(size=6)
    assert curvature_loss(*tensors(bent), 1.0).item() == pytest.approx(np.maximum(bent + 1, 0).mean())
    assert prediction_loss(*tensors(A, B, MASK)).item() == pytest.approx(
        0.5 * (((A - B) ** 2).mean(1) * MASK).sum() / 4
    )


def test_weights():
    assert weight_at("w", 0.3, 0.5) == 0.3
    assert weight_at("w", (0.0, 1.0), 1.0) == 0.0
    assert weight_at("w", (0.0, 1.0), 0.25) == 0.75
    assert weight_at("w", lambda remaining: remaining**2, 0.5) == 0.25
    assert CATS(0.2).weight("temporal", 1.0) == 0.0
    assert CATS(0.2).weight("temporal", 0.0) == 0.2
    assert CATS((0.1, 0.2)).weight("temporal", 1.0) == 0.1


def test_a_rollout_beyond_the_end_has_the_weight_of_the_end():
    """24 steps asked for, rollouts of 16: SB3's remaining progress is -1/3 then."""
    model = regularize(tiny("PPO"), CAPS(temporal=(0.3, 0.0), spatial=lambda remaining: remaining)).learn(24)
    assert model.num_timesteps == 32
    assert logged(model, "caps_temporal_weight") == 0.0
    assert logged(model, "caps_spatial_weight") == 0.0


def test_a_dual_variable_moves_towards_its_target():
    dual = Dual("x", target=0.2, value=0.1)
    dual.update(0.3)
    up = dual.value
    dual.update(0.1)
    assert up > 0.1
    assert dual.value < up
    assert math.log(up / 0.1) == pytest.approx(0.01 * 0.5)
    dual.update(0.2)
    assert dual.value == pytest.approx(math.exp(math.log(up) - 0.01 * 0.5))


def logged(model, key):
    return model.logger.name_to_value[f"regularizers/{key}"]


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_each_method_lowers_what_it_measures(algorithm):
    """A weight that outshouts the returns, against one that is nothing: the logged losses."""

    def options(cls):
        return {"activation_fn": nn.SiLU} if cls is PAVE else {}

    def nothing(cls):
        return cls(**dict.fromkeys((*cls.actor_terms, *cls.critic_terms), (1e-30, 1e-30)))

    methods = [cls for cls in METHODS.values() if cls is not PAVE or algorithm != "PPO"]
    # weights of nothing change nothing, so all methods can be measured on one training
    alone = {
        cls: [cls] if cls is PAVE else [other for other in methods if other is not PAVE] for cls in methods
    }
    trained = {
        together: regularize(tiny(algorithm, **options(together[0])), *map(nothing, together)).learn(90)
        for together in set(map(tuple, alone.values()))
    }
    for cls in methods:
        terms = (*cls.actor_terms, *cls.critic_terms)
        # the critic's one by one: PAVE's curvature is bought with its other two
        groups = [group for group in (cls.actor_terms, *((term,) for term in cls.critic_terms)) if group]
        for group in groups:
            given = dict.fromkeys(terms, 0.0) | dict.fromkeys(group, (30.0, 30.0))
            pressed = regularize(tiny(algorithm, **options(cls)), cls(**given)).learn(90)
            for term in group:
                key = f"{cls.name}_{term}"
                assert logged(pressed, key) < logged(trained[tuple(alone[cls])], key), (cls, term)


@pytest.mark.parametrize("name", ["CAPS", "GradientPenalty"])
def test_td3s_too(name):
    cls, kind = METHODS[name], {"kind": "mean"} if name == "GradientPenalty" else {}
    ends = []
    for weight in (1e-30, 30.0):
        model = regularize(tiny("TD3"), cls(**dict.fromkeys(cls.actor_terms, weight), **kind)).learn(90)
        ends.append([logged(model, f"{cls.name}_{term}") for term in cls.actor_terms])
    assert all(pressed < free for free, pressed in zip(*ends, strict=True)), ends


def test_a_target_finds_its_weight():
    """The weight rises while the fluctuation is above its target, and falls where it is below."""
    free = regularize(tiny("SAC"), CAPS(temporal=1e-30, spatial=0.0)).learn(60)
    fluctuation = logged(free, "caps_temporal")
    for share, rises in ((0.1, True), (10.0, False)):
        method = CAPS(temporal=0.05, spatial=0.0, target_fluctuation=share * fluctuation)
        model = regularize(tiny("SAC"), method).learn(60)
        assert (logged(model, "caps_temporal_weight") > 0.05) == rises
        assert model.regularizers_state["weights"]["caps_temporal"] == logged(model, "caps_temporal_weight")


def test_units():
    """One unit of the normalised action is half of the action's range; of the observation, the policy's own."""
    for algorithm in ("PPO", "SAC"):
        kept = {}
        for units in ("normalised", "raw"):
            method = CAPS(temporal=1e-30, spatial=0.0, units=units)
            kept[units] = logged(regularize(tiny(algorithm), method).learn(24), "caps_temporal")
        # half ranges 2 and 5
        assert 2.0 * kept["normalised"] < kept["raw"] < 5.0 * kept["normalised"]


def test_the_displacement_has_the_units_of_the_sensors():
    """``raw``: sigma is that of the sensor before VecNormalize, in ``normalised`` that after it."""
    from gymnasium import spaces

    from lipsrl.regularizers._observations import observation_units

    class Statistics:
        norm_obs, epsilon = True, 0.0
        obs_rms = type("", (), {"var": np.array([4.0, 0.25])})

    box = spaces.Box(-9, 9, (2,))
    draw = torch.ones_like
    zero = torch.zeros(1, 2)
    raw = observation_units(box, "raw", vec_normalize=Statistics)
    assert raw.displace(zero, draw).tolist() == [[0.5, 2.0]]
    scaled = observation_units(box, "normalised", observation_scale=[3.0, 1.0], vec_normalize=Statistics)
    assert scaled.displace(zero, draw).tolist() == [[3.0, 1.0]]
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    units = observation_units(spaces.Dict({"i": image, "n": spaces.Discrete(3)}), "normalised")
    found = units.displace({"i": torch.zeros(1, 3, 36, 36, dtype=torch.uint8), "n": torch.zeros(1)}, draw)
    assert float(found["i"].max()) == 255.0
    assert float(found["n"].max()) == 0.0


def test_what_a_method_needs_is_said():
    with pytest.raises(ValueError, match="critic knows no actions"):
        regularize(tiny("PPO"), PAVE())
    with pytest.raises(ValueError, match="ReLU is piecewise linear"):
        regularize(tiny("SAC", activation_fn=nn.ReLU), PAVE())
    regularize(tiny("SAC", activation_fn=nn.ReLU), PAVE(curvature=0.0)).learn(12)
    with pytest.raises(ValueError, match='needs kind="mean"'):
        regularize(tiny("TD3"), GradientPenalty())
    with pytest.raises(ValueError, match='needs divergence="l2"'):
        regularize(tiny("DDPG"), SmoothPolicy(divergence="kl"))
    with pytest.raises(ValueError, match="sigma \\* lower must be below upper"):
        L2C2(lower=2.0, upper=1.0)
    with pytest.raises(ValueError, match="limit is of the slope of the mean"):
        GradientPenalty(limit=1.0)
    with pytest.raises(ValueError, match="solver='sgd' is not known"):
        SmoothPolicy(solver="sgd")


@pytest.mark.parametrize("observation", ["dict", "image", "dict with image"])
def test_all_methods_on_all_observations(observation):
    for algorithm in ("PPO", "SAC"):
        methods = [cls() for cls in METHODS.values() if not (cls is PAVE and algorithm == "PPO")]
        methods = [
            *[m for m in methods if m.name != "smooth_policy"],
            SmoothPolicy(divergence="kl", solver="sgld"),
        ]
        regularize(tiny(algorithm, observation=observation), *methods).learn(20)
