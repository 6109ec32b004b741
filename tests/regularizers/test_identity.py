"""Weights of zero change nothing: not a weight, not an optimizer state, not a random number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lipsrl.regularizers import METHODS, regularize
from tests.regularizers.helpers import ALGORITHMS, ON_POLICY, STEPS, random_state, same_training, tiny

#: Reasons of methods that an algorithm has not got what they need.
REFUSED = {("PAVE", "PPO"), ("PAVE", "A2C")}


def with_weights(cls, weight):
    return cls(**dict.fromkeys((*cls.actor_terms, *cls.critic_terms), weight))


def trained(algorithm, *methods, bound=None):
    model = tiny(algorithm, bound=bound)
    if algorithm in ("TD3", "DDPG"):
        methods = [replace(m, kind="mean") if m.name == "gradient_penalty" else m for m in methods]
    if methods:
        regularize(model, *methods)
    return model.learn(STEPS), random_state()


@pytest.fixture(scope="module", params=ALGORITHMS)
def stock(request):
    return request.param, *trained(request.param)


def supported(algorithm):
    return [cls for name, cls in METHODS.items() if (name, algorithm) not in REFUSED]


def test_zero_is_stock_to_the_bit(stock):
    algorithm, model, state = stock
    for cls in supported(algorithm):
        with_zero, after = trained(algorithm, with_weights(cls, 0.0))
        assert same_training(model, with_zero), cls
        assert after == state, cls


def test_the_losses_draw_and_disturb_nothing_of_the_training(stock):
    """With a weight too small to change a float32 gradient all of the machinery runs, and the training is stock's."""
    algorithm, model, state = stock
    for cls in supported(algorithm):
        tiny_weight, after = trained(algorithm, with_weights(cls, 1e-30))
        assert tiny_weight.regularizers_state["updates"] > 0
        assert after == state, cls
        for one, other in zip(model.policy.parameters(), tiny_weight.policy.parameters(), strict=True):
            assert torch.equal(one, other), cls


def test_a_weight_changes_the_actor(stock):
    algorithm, model, _ = stock
    for cls in supported(algorithm):
        regularised, _ = trained(algorithm, with_weights(cls, 1.0))
        assert not same_training(model, regularised), cls


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_zero_is_the_lipschitz_policy_to_the_bit(algorithm):
    model, state = trained(algorithm, bound=3.0)
    for weight in (0.0, 1e-30):
        together, after = trained(
            algorithm, *[with_weights(cls, weight) for cls in supported(algorithm)], bound=3.0
        )
        assert same_training(model, together) or weight
        assert after == state
        for one, other in zip(model.policy.parameters(), together.policy.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("layer", ["spectral", "orthogonal", "cayley", "sandwich-cayley", "aol"])
def test_all_methods_differentiate_through_every_layer(layer):
    for algorithm in ("PPO", "SAC"):
        methods = [with_weights(cls, 0.1) for cls in supported(algorithm)]
        model = regularize(tiny(algorithm, bound=3.0, layer=layer), *methods).learn(STEPS)
        assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())
        assert model.policy.lipschitz_network.lipschitz_bound() <= 3.0 * (1 + 1e-12)


def test_losses_of_the_actor_leave_the_critic_of_the_first_update_alone():
    for algorithm in set(ALGORITHMS) - set(ON_POLICY):
        stock = tiny(algorithm).learn(9)
        regularised = regularize(tiny(algorithm), METHODS["CAPS"](1.0, 1.0)).learn(9)
        for one, other in zip(stock.critic.parameters(), regularised.critic.parameters(), strict=True):
            assert torch.equal(one, other)
