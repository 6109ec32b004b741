"""Robust Sarsa: what it learns, that it learns once, and that it then lowers what it has learnt."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from attack_models import MAKERS
from gymnasium import spaces

from lipsrl.attacks import RandomAttack, RobustSarsaAttack, _sarsa, robust_sarsa_attack
from lipsrl.attacks._sarsa import Transitions, action_interval, fit

QUICK = {"rollout_steps": 200, "updates": 50}


def known_transitions(n=4000, gamma=0.5):
    """Rewards r = 1 - (a - s)² at states drawn anew every step, from actions uniform in ±1: Q is known."""
    generator = torch.Generator().manual_seed(0)
    states, following = (torch.rand(n, 1, generator=generator) * 2 - 1 for _ in range(2))
    actions, next_actions = (torch.rand(n, 1, generator=generator) * 2 - 1 for _ in range(2))
    rewards = 1 - (actions - states)[:, 0] ** 2
    return Transitions(states, actions, rewards, following, next_actions, torch.zeros(n))


class TestLearning:
    def test_of_a_known_q(self):
        """E r = 1 - E(a - s)² = 1/3, so Q = 1 - (a - s)² + γ/(1 - γ)/3, in units of the reward's scale."""
        data = known_transitions()
        q = fit(data, 0.5, radius=0.0, weight=0.0, updates=1000, seed=0)
        scale = float(data.rewards.std(correction=0)) / 0.5**0.5
        points = torch.linspace(-0.8, 0.8, 9, dtype=torch.float64)
        states, actions = (x.reshape(-1, 1) for x in torch.meshgrid(points, points, indexing="ij"))
        expected = (1 - (actions - states)[:, 0] ** 2 + 1 / 3) / scale
        assert float((q(states, actions) - expected).abs().mean()) < 0.1 * float(expected.std())

    def test_episodes_end(self):
        """After a terminal step nothing follows: Q is the reward."""
        data = known_transitions()
        ended = Transitions(
            data.states, data.actions, data.rewards, data.next_states, data.next_actions, torch.ones(4000)
        )
        q = fit(ended, 0.5, radius=0.0, weight=0.0, updates=500, seed=0)
        scale = float(data.rewards.std(correction=0)) / 0.5**0.5
        error = q(data.states.double(), data.actions.double()) - data.rewards / scale
        assert float(error.abs().mean()) < 0.1 * float(data.rewards.std()) / scale

    def test_the_weight_makes_it_steadier_in_the_action(self):
        data = known_transitions()
        spread = []
        for weight in (0.0, 1.0, 100.0):
            q = fit(data, 0.5, radius=0.2, weight=weight, updates=250, seed=0)
            actions = data.actions.double()
            moved = q(data.states.double(), actions + 0.2) - q(data.states.double(), actions)
            spread.append(float(moved.abs().mean()))
        assert spread[0] > 1.2 * spread[1] > 1.44 * spread[2]

    def test_intervals_hold_every_action_of_the_ball(self):
        network = _sarsa._network(5, torch.Generator().manual_seed(0)).double()
        generator = torch.Generator().manual_seed(1)
        states = torch.randn(200, 3, generator=generator, dtype=torch.float64)
        actions = torch.randn(200, 2, generator=generator, dtype=torch.float64)
        network.requires_grad_(False)
        lower, upper = action_interval(network, states, actions, 0.3)
        assert float((upper - lower).min()) > 0
        for _ in range(100):
            moved = actions + 0.3 * (2 * torch.rand(200, 2, generator=generator, dtype=torch.float64) - 1)
            value = network(torch.cat([states, moved], dim=1))[:, 0]
            assert bool((value >= lower - 1e-12).all())
            assert bool((value <= upper + 1e-12).all())


class Bandit(gym.Env):
    """The third sensor is a number x, the reward 1 - |a - x|; one step, then another number."""

    high = np.array([1.0, 1.0, 8.0], np.float32)
    observation_space = spaces.Box(-high, high, dtype=np.float32)
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        return np.array([0.0, 0.0, self.x], np.float32), {}

    def step(self, action):
        reward = 1 - abs(float(action[0]) - self.x)
        return self.reset()[0], reward, True, False, {}


class TestAttack:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    @pytest.mark.parametrize(
        "name", ["ppo", "ppo-gsde", "ppo-normalized", "sac", "td3", "tqc", "lipschitz-ppo"]
    )
    def test_it_lowers_its_q_further_than_chance(self, models, observations, attacked, name, norm):
        model = models[name]
        attack = RobustSarsaAttack(model, 0.1, norm, **QUICK)
        view = attack.target.view
        clean = torch.from_numpy(np.clip(view.centre(observations), -view.clip, view.clip))

        def q(rows):
            shown = torch.from_numpy(np.clip(view.centre(rows), -view.clip, view.clip))
            return -attack.objective(clean)(shown).numpy()

        own, chance = (attacked(a, observations) for a in (attack, RandomAttack(model, 0.1, norm)))
        fall, by_chance = q(observations) - q(own), q(observations) - q(chance)
        assert fall.mean() > 1.5 * np.abs(by_chance).mean() > 0

    def test_it_knows_better_than_the_models_untrained_critic(self, observations, attacked, act):
        """In the bandit an action is worth 1 - |a - x|: the attack moves it away from x."""
        model = MAKERS["ppo"]()
        with torch.no_grad():
            model.policy.log_std.fill_(0.0)
        rows = np.zeros((64, 3), np.float32)
        rows[:, 2] = np.linspace(-1, 1, 64)
        attack = RobustSarsaAttack(
            model, 0.3, env=Bandit, train_epsilon=0.05, weight=0.1, rollout_steps=4000, updates=800
        )
        worth = {}
        for other in (attack, RandomAttack(model, 0.3)):
            worth[other.name] = (1 - np.abs(act(model, attacked(other, rows))[:, 0] - rows[:, 2])).mean()
        clean = (1 - np.abs(act(model, rows)[:, 0] - rows[:, 2])).mean()
        assert clean - worth["robust-sarsa"] > 2 * abs(clean - worth["random"])

    def test_it_is_seeded_and_leaves_the_global_generator_alone(self, ppo, observations, attacked):
        state = torch.get_rng_state()
        first, again, other = (
            attacked(RobustSarsaAttack(ppo, 0.2, **QUICK, train_seed=seed), observations)
            for seed in (1, 1, 2)
        )
        assert torch.equal(state, torch.get_rng_state())
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_it_learns_once_for_each_model(self, models, observations, monkeypatch):
        learnt = []
        original = robust_sarsa_attack.fit
        monkeypatch.setattr(robust_sarsa_attack, "fit", lambda *a, **k: learnt.append(1) or original(*a, **k))
        attack = RobustSarsaAttack(None, 1.0, env="Pendulum-v1", **QUICK)
        for model in (models["ppo"], models["sac"], models["ppo"]):
            for strength in (0.1, 0.2):
                attack.scaled(strength).against(model).batch(2)(observations[:2])
        copy.deepcopy(attack).against(models["ppo"])
        assert len(learnt) == 2

    def test_a_factory_goes_by_its_name(self, ppo):
        attack = RobustSarsaAttack(None, 1.0, env=Bandit, **QUICK)
        assert attack.to_dict()["env"] == "Bandit"
