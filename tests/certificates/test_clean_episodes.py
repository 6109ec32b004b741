"""Which environments a model's clean episodes are played in."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from lipsrl.attacks import ConstantBiasAttack
from lipsrl.certificates._clean_episodes import environments
from lipsrl.disturbances import GaussianNoise
from lipsrl.wrappers import ObservationDisturbance


def made_in(env):
    return PPO("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, device="cpu", seed=0)


def test_a_model_that_learned_behind_a_disturbance_plays_without_it():
    model = made_in(ObservationDisturbance(gym.make("Pendulum-v1"), GaussianNoise(0.1)))
    with environments("Pendulum-v1", 2, model) as made:
        assert model.observation_space != made[0].observation_space
    ConstantBiasAttack(model, 0.1, env="Pendulum-v1")


@pytest.mark.parametrize("space", [
    spaces.Box(-2.0, 2.0, (3,), np.float32),  # wider than what the model has seen declared
    spaces.Box(-0.5, 0.5, (3,), np.float64),
    spaces.Box(-0.5, 0.5, (2,), np.float32),
    spaces.Discrete(3),
])  # fmt: skip
def test_others_are_refused(space):
    model = made_in("Pendulum-v1")
    env = gym.make("Pendulum-v1")
    env.observation_space = space
    with pytest.raises(ValueError, match="observation_space of env"), environments(env, 1, model):
        pass


def test_another_range_of_actions_is_refused():
    model, env = made_in("Pendulum-v1"), gym.make("Pendulum-v1")
    env.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    with pytest.raises(ValueError, match="action_space of env"), environments(env, 1, model):
        pass
