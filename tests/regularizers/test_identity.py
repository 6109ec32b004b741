"""Weights of zero change nothing: not a weight, not an optimizer state, not a random number."""

from __future__ import annotations

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
    for cls in list(supported(algorithm))[:1]:
        with_zero, after = trained(algorithm, with_weights(cls, 0.0), bound=3.0)
        assert same_training(model, with_zero)
        assert after == state


def test_critics_of_off_policy_agents_are_untouched_by_losses_of_the_actor():
    for algorithm in set(ALGORITHMS) - set(ON_POLICY):
        model, _ = trained(algorithm)
        regularised = regularize(tiny(algorithm), METHODS["CAPS"](1.0, 1.0))
        # until the first update of the actor has acted back on the data, the critic's is stock's
        for one in (model, regularised):
            one.num_timesteps = 0
        short, other = (
            tiny(algorithm).learn(9),
            regularize(tiny(algorithm), METHODS["CAPS"](1.0, 1.0)).learn(9),
        )
        for a, b in zip(short.critic.parameters(), other.critic.parameters(), strict=True):
            assert torch.equal(a, b)
