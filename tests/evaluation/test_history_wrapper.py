"""Agents behind rl-zoo's HistoryWrapper: a sensor is read once, and remembered as it was read."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

import lipsrl
from lipsrl.attacks import MADAttack
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import rollout_trace

HistoryWrapper = pytest.importorskip("rl_zoo3.wrappers").HistoryWrapper
HORIZON = 4


def make():
    return HistoryWrapper(gym.make("Pendulum-v1", max_episode_steps=30), HORIZON)


@pytest.fixture(scope="module")
def model():
    return PPO(
        "MlpPolicy", make(), n_steps=32, batch_size=32, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}
    )


def trace(model, **options):
    return rollout_trace(model, make, **options)


def test_the_memory_holds_what_was_shown(model):
    seen = trace(model, disturbance=GaussianNoise(0.3), seed=3)["observations"]
    assert seen.shape == (30, HORIZON * 4)
    frames = seen[:, : HORIZON * 3].reshape(30, HORIZON, 3)
    np.testing.assert_array_equal(frames[1:, :-1], frames[:-1, 1:])  # nothing is drawn anew for what is past
    clean = trace(model, seed=3)["observations"]
    first = frames[0, -1] - clean[0, 6 + 3 : 12]
    assert 0.01 < np.abs(first).max() < 1.5
    assert not frames[0, :-1].any()


def test_past_actions_are_those_that_were_taken(model):
    found = trace(model, disturbance=GaussianNoise(0.3), seed=3)
    np.testing.assert_allclose(found["observations"][1:, -1], found["actions"][:-1, 0], atol=1e-6)


def test_evaluation_is_paired_by_strength_and_the_same_again(model):
    def table(n_envs):
        found = lipsrl.evaluate(
            model, make, disturbances=GaussianNoise(0.5), strengths=(0, 0.01, 1), n_episodes=6, n_envs=n_envs
        )
        return found.frame.sort_values(["strength", "episode"])["return"].to_numpy().reshape(3, 6)

    returns = table(3)
    assert np.abs(returns[1] - returns[0]).max() < np.abs(returns[2] - returns[0]).max()
    np.testing.assert_allclose(table(2), returns, rtol=1e-6)
    clean = lipsrl.evaluate(model, make, n_episodes=6).frame.sort_values("episode")["return"]
    np.testing.assert_array_equal(returns[0], clean)


def test_an_environment_that_was_given_is_left_as_it_came(model):
    env = make()  # cannot be rebuilt, so it is stepped itself
    lipsrl.evaluate(model, env, disturbances=GaussianNoise(5.0), strengths=(1,), n_episodes=1)
    env.reset(seed=0)
    observation, _ = env.reset(seed=0)
    reference, _ = make().reset(seed=0)
    np.testing.assert_array_equal(observation, reference)


def test_lengths_are_those_of_the_sensors(model):
    lipsrl.evaluate(model, make, disturbances=GaussianNoise([0.1, 0.1, 0.5]), strengths=(1,), n_episodes=1)
    with pytest.raises(ValueError, match="has 16 values"):
        lipsrl.evaluate(model, make, disturbances=GaussianNoise([0.1] * 16), strengths=(1,), n_episodes=1)


def test_what_would_be_wrong_is_refused(model):
    with pytest.raises(
        ValueError, match="an attack is not supported in an environment behind rl-zoo's HistoryWrapper"
    ):
        lipsrl.evaluate(model, make, disturbances=MADAttack(None, 0.1), strengths=(1,), n_episodes=1)
    with pytest.raises(ValueError, match="a disturbance that the teacher does not see is not supported"):
        lipsrl.distill(model, make, lipschitz_bound=4.0, disturbance=GaussianNoise(0.1), rounds=1, steps=20)


def test_its_agents_are_distilled_clean(model):
    student = lipsrl.distill(model, make, lipschitz_bound=4.0, rounds=1, steps=20)
    assert student.observation_space.shape == (HORIZON * 4,)
