"""``lipschitz_bound=inf`` is SB3's own policy, to the bit: the library adds nothing where it constrains nothing."""

from __future__ import annotations

import math

import pytest
import torch

from tests.policies.zoo import ALGORITHMS, alias, build

CASES = [(name, "vector") for name in ALGORITHMS]
CASES += [("PPO", "image"), ("DQN", "image"), ("PPO", "dict"), ("SAC", "dict"), ("TD3", "dict with image")]


@pytest.mark.parametrize(("algorithm", "observation"), CASES)
def test_trains_bit_identically_to_stock_sb3(algorithm, observation):
    def trained(policy, **policy_kwargs):
        model = build(algorithm, observation=observation, policy=policy, seed=3, **policy_kwargs)
        model.learn(16 if "image" in observation else 40)
        return model.policy, torch.get_rng_state()

    ours, drawn = trained(alias(observation), lipschitz_bound=math.inf)
    stock, drawn_by_stock = trained(alias(observation).removeprefix("Lipschitz"), lipschitz_bound=None)
    assert ours.lipschitz_network is None
    assert type(ours).__module__.startswith("lipsrl")
    assert not type(stock).__module__.startswith("lipsrl")
    assert list(ours.state_dict()) == list(stock.state_dict())
    for key, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    assert torch.equal(drawn, drawn_by_stock)
    start = build(
        algorithm, observation=observation, policy=alias(observation), seed=3, lipschitz_bound=math.inf
    )
    weights = start.policy.state_dict()
    assert any(not torch.equal(weights[key], value) for key, value in ours.state_dict().items())
