"""Constant bias: held through the episode, inside the budget, and the worst where the worst is known."""

from __future__ import annotations

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from attack_models import make_ppo
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from lipsrl import evaluate
from lipsrl.attacks import ConstantBiasAttack, MADAttack, MinimumOverAttacks, constant_bias_attack
from lipsrl.attacks._norms import NORMS
from lipsrl.attacks._patterns import seeds_needed, worst_pattern
from lipsrl.attacks._playing import Player
from lipsrl.evaluation._seeding import environment_seed

SHORT = {"env": "Pendulum-v1", "episodes": 2, "max_episode_steps": 20}


class Follow(gym.Env):
    """Sensors x of ``len(weights)``, drawn anew; the reward is the action. ``a = w·o`` makes it fall by ε·‖w‖*."""

    action_space = spaces.Box(-100.0, 100.0, (1,), np.float32)

    def __init__(self, dim=3, steps=4):
        self.observation_space = spaces.Box(-np.inf, np.inf, (dim,), np.float32)
        self._steps = steps

    def _look(self):
        return self.np_random.standard_normal(self.observation_space.shape).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = self._steps
        return self._look(), {}

    def step(self, action):
        self._left -= 1
        return self._look(), float(action[0]), self._left == 0, False, {}


def linear(weights, frames=1):
    """A model whose mean action is ``weights·observation``."""
    dim = len(weights) // frames
    venv = DummyVecEnv([lambda: Follow(dim)])
    venv = VecFrameStack(venv, frames) if frames > 1 else venv
    model = PPO(
        "MlpPolicy", venv, policy_kwargs={"net_arch": []}, n_steps=8, batch_size=8, seed=0, device="cpu"
    )
    with torch.no_grad():
        model.policy.action_net.weight[:] = torch.tensor(weights)
        model.policy.action_net.bias.zero_()
    return model


def follow(dim):
    return lambda: Follow(dim)


@pytest.mark.parametrize("weights", [[1.0, -2.0, 0.5], [-1.0, 0.3], [0.2, 0.4, -0.4, 1.0, -1.0, 2.0, -0.1]])
def test_it_finds_the_worst_sign_pattern(weights):
    dim = len(weights)
    attack = ConstantBiasAttack(linear(weights), 0.5, env=follow(dim), episodes=2)
    np.testing.assert_array_equal(attack.displacement(), -0.5 * np.sign(weights))


def test_it_finds_the_worst_direction():
    weights = np.array([1.0, -2.0, 0.5])
    attack = ConstantBiasAttack(linear(weights.tolist()), 0.5, "l2", env=follow(3), episodes=2)
    np.testing.assert_allclose(attack.displacement(), -0.5 * weights / np.linalg.norm(weights), atol=0.02)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dim", [3, 9])
def test_the_search_climbs_without_a_hint(norm, dim):
    """Guesses that point nowhere near: coordinates are turned one by one."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(dim)
    pattern = worst_pattern(
        lambda patterns, seeds: (patterns @ weights)[:, None] + np.zeros(len(seeds)),
        NORMS[norm], np.ones((1, dim)), range(seeds_needed(2)), candidates=120, episodes=2, rng=rng,
    )  # fmt: skip
    best = -np.abs(weights).sum() if norm == "linf" else -np.linalg.norm(weights)
    assert pattern @ weights <= (0.999 if norm == "linf" else 0.9) * best


def test_no_more_patterns_than_asked_for_are_played():
    played = []

    def play(patterns, seeds):
        played.append(len(patterns) * len(seeds))
        return np.random.default_rng(len(played)).standard_normal((len(patterns), len(seeds)))

    arguments = {"candidates": 20, "episodes": 3, "rng": np.random.default_rng(0)}
    worst_pattern(play, NORMS["linf"], np.ones((2, 11)), range(seeds_needed(3)), **arguments)
    assert sum(played) <= 20 * 3 + 4 * 9


def test_what_is_added_is_constant(normalized, attacked, observations):
    venv = normalized.get_vec_normalize_env()
    attack = ConstantBiasAttack(normalized, 0.1, **SHORT)
    inside = np.abs(venv.normalize_obs(observations)).max(axis=1) < venv.clip_obs - 0.1
    moved = venv.normalize_obs(attacked(attack, observations)) - venv.normalize_obs(observations)
    np.testing.assert_allclose(moved[inside], np.tile(attack.displacement(), (inside.sum(), 1)), atol=1e-5)
    assert np.abs(attack.displacement()).tolist() == [0.1] * 3


def test_the_same_for_equal_seeds_and_no_generator_is_touched(ppo):
    state = torch.get_rng_state()
    first, again = (
        ConstantBiasAttack(ppo, 0.3, "l2", **SHORT, search_seed=3).displacement() for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert torch.equal(state, torch.get_rng_state())


def test_each_strength_is_searched_once_for_each_model(ppo, monkeypatch, attacked, observations):
    searched = []
    original = constant_bias_attack.worst_pattern
    monkeypatch.setattr(
        constant_bias_attack, "worst_pattern", lambda *a, **k: searched.append(1) or original(*a, **k)
    )
    attack = ConstantBiasAttack(None, 1.0, **SHORT).against(ppo)
    for strength in (0.1, 0.2, 0.1, 0.0):
        attacked(attack.scaled(strength), observations)
    assert len(searched) == 2
    kept = ConstantBiasAttack(ppo, 0.2, **SHORT, per_strength=False)
    displaced = [kept.scaled(s).displacement() for s in (1.0, 0.5, 0.0)]
    assert len(searched) == 3
    np.testing.assert_allclose(displaced[1], 0.5 * displaced[0])
    assert not displaced[2].any()


def test_rows_of_other_strengths(ppo, observations):
    attack = ConstantBiasAttack(ppo, 1.0, **SHORT)
    batch = attack.batch(3)
    for index, strength in enumerate((0.1, 0.0, 0.3)):
        batch.reset(index, seed=0, strength=strength)
    rows = observations[:3].astype(np.float64)
    expected = [attack.displacement(s) for s in (0.1, 0.0, 0.3)]
    np.testing.assert_allclose(batch(rows) - rows, expected, atol=1e-9)


def test_behind_a_stack_all_frames_are_displaced_in_time():
    """The sum of a sensor's weights over the frames decides, not that of the newest."""
    weights = [3.0, -3.0, -1.0, 1.0]  # older frame, newest frame
    attack = ConstantBiasAttack(linear(weights, frames=2), 0.5, env=lambda: Follow(2, steps=10), episodes=3)
    np.testing.assert_array_equal(attack.displacement(), [-0.5, 0.5])


@pytest.mark.parametrize(
    "name", ["ppo-discrete", "ppo-multi-discrete", "dqn", "sac", "td3", "ppo-stack-inside"]
)
def test_models_of_every_kind(models, name):
    """Actions are in the space, and what is played without displacement earns what ``predict`` earns."""
    model = models[name]
    space = model.action_space

    size = model.observation_space.shape[0] // (3 if "stack" in name else 1)

    class Paid(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        action_space = space

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self._left = 6
            return self._look(), {}

        def _look(self):
            return self.np_random.standard_normal(self.observation_space.shape).astype(np.float32)

        def step(self, action):
            assert self.action_space.contains(action)
            self._left -= 1
            return self._look(), float(np.sum(action)), self._left == 0, False, {}

    attack = ConstantBiasAttack(model, 0.1, env=Paid, episodes=1)
    assert attack.displacement().any()
    player = Player(attack._acting, attack.target.view, [Paid(), Paid()])
    clean = evaluate(model, Paid, n_episodes=3, seed=4).frame["return"]
    seeds = [environment_seed(4, episode) for episode in range(3)]
    np.testing.assert_allclose(player.returns(np.zeros((1, size)), seeds)[0], clean, rtol=1e-4, atol=1e-4)


def test_it_is_described_by_json(ppo):
    attack = ConstantBiasAttack(ppo, 0.1, **SHORT)
    described = json.loads(json.dumps(attack.to_dict()))
    assert (described["name"], described["env"], described["episodes"]) == ("bias", "Pendulum-v1", 2)
    assert described["max_episode_steps"] == 20
    assert "max_episode_steps" not in ConstantBiasAttack(None, 0.1).to_dict()
    assert ConstantBiasAttack(ppo, 0.1, env=follow(3)).to_dict()["env"] == "follow.<locals>.<lambda>"
    assert repr(ConstantBiasAttack(None, 0.1)).startswith("ConstantBiasAttack(None, epsilon=0.1, norm='linf'")


def test_evaluation_aims_it_and_the_minimum_holds_it(ppo):
    attacks = MinimumOverAttacks(env="Pendulum-v1")
    assert list(attacks) == ["random", "mad", "critic", "bias"]
    attacks = MinimumOverAttacks([MADAttack(None, 1.0, steps=1), ConstantBiasAttack(None, 1.0, **SHORT)])
    found = evaluate(
        ppo, "Pendulum-v1", disturbances=attacks, strengths=(0, 0.2), n_episodes=2, max_episode_steps=20
    )
    assert attacks.worst(found.frame)["attack"].isin(["mad", "bias"]).all()
    with pytest.raises(ValueError, match="env belongs to the constant bias"):
        MinimumOverAttacks([attacks["mad"]], env="Pendulum-v1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "episodes must be an integer > 0"),
        ({"candidates": 1.5}, "candidates must be an integer > 0"),
        ({"search_seed": -1}, "search_seed"),
        ({"max_episode_steps": 0}, "max_episode_steps must be an integer > 0"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"norm": "l1"}, "norm='l1' is not known"),
        ({"units": "meters"}, "units='meters' is not known"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        ConstantBiasAttack(None, **{"epsilon": 0.1, **options})


def test_what_it_cannot_search_in(ppo):
    detached = make_ppo()
    detached.env = None  # as after PPO.load without one
    with pytest.raises(TypeError, match="env must be a Gymnasium id"):
        ConstantBiasAttack(None, 0.1, env=3)
    with pytest.raises(ValueError, match=r"plays episodes to find the worst bias.*Pass env="):
        ConstantBiasAttack(detached, 0.1)
    with pytest.raises(ValueError, match="has no target model"):
        ConstantBiasAttack(None, 0.1).displacement()
    with pytest.raises(ValueError, match="was trained on observations"):
        ConstantBiasAttack(ppo, 0.1, env="CartPole-v1").displacement()


def test_an_environment_that_never_ends(monkeypatch):
    from lipsrl import _episodes

    monkeypatch.setattr(_episodes, "ENDLESS", 50)
    attack = ConstantBiasAttack(linear([1.0, 1.0]), 0.1, env=lambda: Follow(2, steps=-1), episodes=1)
    with pytest.raises(_episodes.EndlessEpisodeError, match="max_episode_steps"):
        attack.displacement()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limited = ConstantBiasAttack(
            linear([1.0, 1.0]), 0.1, env=lambda: Follow(2, steps=-1), episodes=1, max_episode_steps=5
        )
        assert limited.displacement().tolist() == [-0.1, -0.1]
