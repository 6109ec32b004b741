"""Strengths for training: fixed, drawn per episode, scheduled."""

from __future__ import annotations

import doctest
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from lipsrl.disturbances import Bias, GaussianNoise
from lipsrl.wrappers import (
    ActionDisturbance,
    ObservationDisturbance,
    StrengthScheduleCallback,
    VecActionDisturbance,
    VecObservationDisturbance,
    VectorActionDisturbance,
    VectorObservationDisturbance,
    strength_schedule_callback,
)


def pendulum(steps=8):
    return gym.make("Pendulum-v1", max_episode_steps=steps)


def ramp(progress):
    return 2 * progress


def drawn(env, episodes, seed=None):
    """The strengths of some episodes."""
    strengths = []
    for _ in range(episodes):
        env.reset(seed=seed)
        strengths.append(float(env.streams.strengths[0]))
        seed = None
    return strengths


def test_examples_run():
    results = doctest.testmod(strength_schedule_callback)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_documentation_runs():
    results = doctest.testfile(
        str(Path(__file__).parents[2] / "docs" / "disturbances.md"), module_relative=False
    )
    assert results.attempted > 0
    assert results.failed == 0


class TestStrength:
    def test_a_number_scales_the_disturbance(self):
        env = ObservationDisturbance(pendulum(), Bias(0.5), strength=3)
        twin = ObservationDisturbance(pendulum(), Bias(0.5).scaled(3))
        assert np.array_equal(env.reset(seed=1)[0], twin.reset(seed=1)[0])

    def test_a_range_is_drawn_from_in_every_episode(self):
        strengths = drawn(ObservationDisturbance(pendulum(), Bias(1.0), strength=(1, 3)), 2000, seed=0)
        assert len(set(strengths)) == 2000
        assert 1 <= min(strengths) < 1.05
        assert 2.95 < max(strengths) <= 3
        assert np.mean(strengths) == pytest.approx(2, abs=5 * 2 / np.sqrt(12 * 2000))

    def test_what_is_drawn_is_what_is_shown(self):
        env, unit = (ObservationDisturbance(pendulum(), Bias(1.0), strength=s) for s in ((1, 3), 1))
        for seed in (0, None, None):
            shown, info = env.reset(seed=seed)
            one, unit_info = unit.reset(seed=seed)
            offset = shown - info["clean_observation"]
            expected = env.streams.strengths[0] * (one - unit_info["clean_observation"])
            assert offset == pytest.approx(expected, abs=1e-5)

    def test_draws_are_seeded_and_no_part_of_the_noise(self):
        env = ObservationDisturbance(pendulum(), Bias(1.0), strength=(0, 1))
        first = drawn(env, 5, seed=4)
        assert first == drawn(env, 5, seed=4)
        assert first != drawn(env, 5, seed=5)
        action = ActionDisturbance(pendulum(), GaussianNoise(1.0), strength=(0, 1))
        assert first != drawn(action, 5, seed=4)

    def test_a_schedule_is_asked_at_the_start_of_an_episode(self):
        env = ObservationDisturbance(pendulum(), GaussianNoise(1.0), strength=ramp)
        assert drawn(env, 1) == [0.0]
        env.set_disturbance_progress(0.5)
        assert env.streams.strengths[0] == 0.0
        assert drawn(env, 1) == [1.0]

    def test_a_schedule_of_ranges(self):
        env = ObservationDisturbance(pendulum(), GaussianNoise(1.0), strength=lambda p: (p, 2 * p))
        env.set_disturbance_progress(0.5)
        strengths = drawn(env, 50)
        assert len(set(strengths)) == 50
        assert 0.5 <= min(strengths) < max(strengths) <= 1

    @pytest.mark.parametrize(
        "strength",
        [-1, np.nan, np.inf, "1", None, True, (1,), (2, 1), (-1, 1), (0, np.inf), [1, 2, 3], lambda p: -1],
    )
    @pytest.mark.parametrize("wrapper", [ObservationDisturbance, ActionDisturbance])
    def test_what_is_no_strength(self, wrapper, strength):
        with pytest.raises(ValueError, match=r"strength must be a finite number >= 0, a range .* received"):
            wrapper(pendulum(), GaussianNoise(0.1), strength=strength)

    def test_a_schedule_that_goes_wrong_later(self):
        env = ObservationDisturbance(pendulum(), GaussianNoise(0.1), strength=lambda p: 0.5 - p)
        env.set_disturbance_progress(1.0)
        with pytest.raises(ValueError, match=r"received -0.5 from <function .* at progress 1"):
            env.reset()

    def test_a_range_survives_the_spec(self):
        env = ObservationDisturbance(pendulum(), Bias(0.5), strength=(0.5, 1))
        rebuilt = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert np.array_equal(env.reset(seed=1)[0], rebuilt.reset(seed=1)[0])

    def test_a_schedule_survives_the_spec_but_not_json(self):
        env = ObservationDisturbance(pendulum(), Bias(0.5), strength=ramp)
        assert gym.make(env.spec).reset(seed=1)[0].shape == (3,)


class TestCallback:
    def both(self):
        venv = DummyVecEnv([pendulum] * 2)
        return VecObservationDisturbance(
            VecActionDisturbance(venv, GaussianNoise(0.1), strength=ramp), GaussianNoise(0.1), strength=ramp
        )

    def model(self, venv):
        return PPO("MlpPolicy", venv, n_steps=16, batch_size=16, n_epochs=1, device="cpu")

    def test_vec_wrappers_anywhere(self):
        inner = self.both()
        self.model(VecMonitor(VecNormalize(inner))).learn(128, StrengthScheduleCallback())
        # the last rollout begins after 96 of 128 steps
        assert inner.streams.strengths.tolist() == [1.5, 1.5]
        assert inner.venv.streams.strengths.tolist() == [1.5, 1.5]

    def test_wrapped_environments(self):
        inner = ActionDisturbance(pendulum(), GaussianNoise(0.1), strength=ramp)
        outer = ObservationDisturbance(inner, GaussianNoise(0.1), strength=ramp)
        self.model(DummyVecEnv([lambda: outer, pendulum])).learn(128, StrengthScheduleCallback())
        assert inner.streams.strengths.tolist() == outer.streams.strengths.tolist() == [1.5]

    def test_learning_on_goes_on(self):
        inner = self.both()
        model = self.model(inner)
        model.learn(64, StrengthScheduleCallback())
        assert inner.streams.progress == 0.5
        model.learn(64, StrengthScheduleCallback(), reset_num_timesteps=False)
        assert inner.streams.progress == 0.75

    def test_without_a_disturbance_it_says_so(self):
        with pytest.raises(ValueError, match="found no disturbance around the training environments"):
            self.model(DummyVecEnv([pendulum])).learn(32, StrengthScheduleCallback())

    def test_vector_wrappers_pass_it_on(self):
        envs = gym.make_vec("Pendulum-v1", num_envs=2)
        inner = VectorActionDisturbance(envs, GaussianNoise(0.1), strength=ramp)
        outer = VectorObservationDisturbance(inner, GaussianNoise(0.1), strength=ramp)
        outer.set_disturbance_progress(0.5)
        outer.reset(seed=0)
        assert inner.streams.strengths.tolist() == outer.streams.strengths.tolist() == [1.0, 1.0]
