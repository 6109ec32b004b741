"""Robust Sarsa and `suggest_bound` take as many steps as they are told; a limit says when they start anew."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO

import lipsrl
from lipsrl.attacks import RobustSarsaAttack, robust_sarsa_scan

QUICK = {"rollout_steps": 400, "updates": 50}


class Drift(gym.Env):
    """It goes on; how often it was begun is counted."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    begun = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Drift.begun += 1
        self.state = self.np_random.uniform(-1.0, 1.0, 2)
        return self.state.astype(np.float32), {}

    def step(self, action):
        self.state = 0.99 * self.state + 0.1 * float(action[0])
        return self.state.astype(np.float32), float(self.state[0]), False, False, {}


@pytest.fixture
def model():
    return PPO("MlpPolicy", Drift(), n_steps=64, seed=0, device="cpu")


def shown(attack):
    attack.reset(seed=0)
    rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    return np.stack([attack(row) for row in rows])


def begun(make):
    Drift.begun = 0
    made = make()
    return made, Drift.begun


def test_robust_sarsa_as_a_time_limit_truncates(model):
    ours, starts = begun(lambda: RobustSarsaAttack(model, 0.5, env=Drift, max_episode_steps=5, **QUICK))
    theirs = RobustSarsaAttack(model, 0.5, env=lambda: TimeLimit(Drift(), 5), **QUICK)
    unlimited, once = begun(lambda: RobustSarsaAttack(model, 0.5, env=Drift, **QUICK))
    assert (starts, once) == (20 + 20 * 20 // 5, 20)
    np.testing.assert_array_equal(shown(ours), shown(theirs))
    assert not np.array_equal(shown(ours), shown(unlimited))


def test_the_limit_is_part_of_what_identifies_the_attack(model):
    attack = RobustSarsaAttack(None, 0.5, env="Pendulum-v1", max_episode_steps=5)
    assert attack.to_dict()["max_episode_steps"] == attack.scaled(2.0).max_episode_steps == 5
    assert "max_episode_steps" not in RobustSarsaAttack(None, 0.5, env="Pendulum-v1").to_dict()
    with pytest.raises(ValueError, match="max_episode_steps must be an integer > 0"):
        RobustSarsaAttack(None, 0.5, max_episode_steps=0)
    scan = robust_sarsa_scan(None, 1.0, env=Drift, train_epsilons=[0.1], weights=[1.0], max_episode_steps=7)
    assert [attack.max_episode_steps for attack in scan.values()] == [7]


def test_suggest_bound_as_a_time_limit_truncates():
    options = {"steps": 200, "seed": 3}
    ours, starts = begun(lambda: lipsrl.suggest_bound(Drift, max_episode_steps=10, **options))
    theirs = lipsrl.suggest_bound(lambda: TimeLimit(Drift(), 10), **options)
    _, once = begun(lambda: lipsrl.suggest_bound(Drift, **options))
    assert (ours.bound, ours.observation_scale) == (theirs.bound, theirs.observation_scale)
    assert (starts, once) == (1 + 200 // 10, 1)
    given = Drift()
    assert lipsrl.suggest_bound(given, max_episode_steps=10, **options).bound == ours.bound
