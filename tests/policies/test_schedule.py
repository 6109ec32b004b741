"""LipschitzSchedule: K moves, and at every moment online network, targets, zip and certificate keep the K of it."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

import lipsrl
from lipsrl.policies import LipschitzSchedule
from tests.families import open_gains
from tests.policies.zoo import ALGORITHMS, build, sample


def stand_on_the_bound(model):
    """Weights as steep as K allows, so that a shrinking K has something to shrink."""
    networks = [model.policy.lipschitz_network, *model.policy.lipschitz_targets()]
    with torch.no_grad():
        for network in networks:
            open_gains(network)
            network.head.weight.copy_(1e3 * torch.randn_like(network.head.weight))
            network.project()
    return networks


class Follow(BaseCallback):
    """What the networks keep at every step; to be listed after the schedule."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        policy = self.model.policy
        bound = policy.options.lipschitz_bound
        networks = [policy.lipschitz_network, *policy.lipschitz_targets()]
        assert all(network.bound == bound for network in networks)
        assert all(network.lipschitz_bound() <= bound for network in networks)
        assert self.model.policy_kwargs["lipschitz_bound"] == bound
        self.seen.append(bound)
        return True


CASES = [
    *((name, "sandwich", "output") for name in ALGORITHMS),
    ("PPO", "orthogonal", "even"),
    ("PPO", "sll", "sqrt"),
    ("TD3", "sandwich", "even"),
    ("TD3", "cayley", "learned"),
    ("DQN", "spectral", "sqrt"),
    ("DQN", "aol", "even"),
]


@pytest.mark.parametrize(
    ("algorithm", "layer", "budget", "end"),
    [
        (*case, end)
        for i, case in enumerate(CASES)
        for j, end in enumerate((0.5, 40.0))
        if (i + j) % 2 or case[0] in ("PPO", "SAC", "TD3", "DQN")  # the others derive from one of these
    ],
)
def test_everything_keeps_the_bound_of_the_moment(algorithm, layer, budget, end, tmp_path):
    model = build(algorithm, lipschitz_bound=5.0, layer=layer, budget=budget)
    kwargs = model.policy_kwargs
    networks = stand_on_the_bound(model)
    follow = Follow()
    steps = 160 if algorithm == "ARS" else 40  # 40 steps are one rollout of all its candidates
    model.learn(steps, callback=[LipschitzSchedule("exponential", end=end), follow])
    assert len(set(follow.seen)) > 1
    assert follow.seen == sorted(follow.seen, reverse=end < 5.0)
    assert kwargs["lipschitz_bound"] == 5.0, "the caller's dict is left alone"

    # what is saved speaks of the K at the end
    assert model.policy.options.lipschitz_bound == end
    model.policy.set_training_mode(False)  # as predict does
    assert all(network.lipschitz_bound() <= end for network in networks)
    rows = sample(model.observation_space)
    actions = model.predict(rows, deterministic=True)[0]
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip")
    assert loaded.policy.options.lipschitz_bound == loaded.policy.lipschitz_network.bound == end
    np.testing.assert_array_equal(loaded.predict(rows, deterministic=True)[0], actions)
    model.policy.save(tmp_path / "policy.pth")
    policy = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    assert policy.options.lipschitz_bound == end
    np.testing.assert_array_equal(policy.predict(rows, deterministic=True)[0], actions)


def test_a_copy_made_before_keeps_its_own_bound():
    model = build("PPO", lipschitz_bound=5.0)
    twin = copy.deepcopy(model.policy)
    model.policy.set_lipschitz_bound(1.0)
    assert twin.options.lipschitz_bound == twin.lipschitz_network.bound == 5.0


def test_the_certificate_speaks_of_the_bound_at_the_end():
    model = build("PPO", lipschitz_bound=20.0)
    stand_on_the_bound(model)
    model.learn(32, callback=LipschitzSchedule("cosine", end=2.0))
    certificate = lipsrl.certify(model)
    assert 0.1 < certificate.upper_bound <= 2.0


def test_targets_that_stood_on_a_larger_bound_are_projected_with_the_online_network():
    model = build("TD3", lipschitz_bound=10.0)
    online, target = stand_on_the_bound(model)
    assert min(online.lipschitz_bound(), target.lipschitz_bound()) > 9.9
    model.policy.set_lipschitz_bound(1.0)
    assert max(online.lipschitz_bound(), target.lipschitz_bound()) <= 1.0
    assert min(online.lipschitz_bound(), target.lipschitz_bound()) > 0.9


def test_a_growing_bound_leaves_the_function_as_it_is_with_the_whole_budget_in_the_last_layer():
    model = build("SAC", lipschitz_bound=1.0, log_std_lipschitz_bound=0.5, budget="output")
    rows = torch.as_tensor(sample(model.observation_space))
    with torch.no_grad():
        before = model.actor.get_action_dist_params(rows)[:2]
        model.policy.set_lipschitz_bound(8.0)
        after = model.actor.get_action_dist_params(rows)[:2]
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "middle"),
    [("linear", 5.0), ("exponential", 3.0), ("cosine", 5.0)],
)
def test_named_schedules(name, middle):
    schedule = LipschitzSchedule(name, start=9.0, end=1.0)
    ks = [schedule.bound_at(p) for p in (1.0, 0.5, 0.0)]
    np.testing.assert_allclose(ks, [9.0, middle, 1.0])


def test_constant_and_a_function():
    assert LipschitzSchedule("constant", start=4.0).bound_at(0.3) == 4.0
    model = build("PPO", lipschitz_bound=5.0)
    model.learn(32, callback=LipschitzSchedule(lambda remaining: 1.0 + remaining))
    assert model.policy.options.lipschitz_bound == 1.0
    model.learn(16, callback=LipschitzSchedule("constant", start=7.0))
    assert model.policy.options.lipschitz_bound == 7.0


def test_training_that_ends_early_keeps_the_bound_of_that_moment():
    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < 50

    model = build("PPO", lipschitz_bound=11.0)
    model.learn(100, callback=[LipschitzSchedule("linear", end=1.0), Stop()])
    assert model.num_timesteps == 50
    assert math.isclose(model.policy.options.lipschitz_bound, 6.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        LipschitzSchedule("linar", end=1.0)
    with pytest.raises(ValueError, match="needs end=K > 0; received end=None"):
        LipschitzSchedule("linear", start=1.0)
    with pytest.raises(ValueError, match="takes no end"):
        LipschitzSchedule("constant", end=1.0)
    with pytest.raises(ValueError, match="end must be a finite number > 0, received 0"):
        LipschitzSchedule(end=0)
    with pytest.raises(ValueError, match="a function says all K itself"):
        LipschitzSchedule(lambda remaining: 1.0, end=2.0)
    with pytest.raises(ValueError, match="needs a Lipschitz policy with a finite"):
        build("PPO", lipschitz_bound=math.inf).learn(16, callback=LipschitzSchedule(end=2.0))
    with pytest.raises(ValueError, match="the schedule's K must be a finite number > 0, received -1"):
        build("PPO").learn(16, callback=LipschitzSchedule(lambda remaining: -1.0))
    with pytest.raises(ValueError, match="cannot be changed"):
        build("PPO", lipschitz_bound=math.inf).policy.set_lipschitz_bound(2.0)


def test_saving_in_the_middle_speaks_of_the_bound_of_that_moment():
    class Save(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 20:
                self.stream = io.BytesIO()
                self.model.save(self.stream)
                self.bound = self.model.policy.options.lipschitz_bound
            return True

    save = Save()
    model = build("TD3", lipschitz_bound=10.0)
    model.learn(40, callback=[LipschitzSchedule("linear", end=1.0), save])
    save.stream.seek(0)
    loaded = type(model).load(save.stream)
    assert 5.0 < loaded.policy.options.lipschitz_bound == save.bound < 6.0
