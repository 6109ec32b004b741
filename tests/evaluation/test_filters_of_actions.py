"""What is measured behind a filter of the actions is what the actuator receives."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import PPO

from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import evaluate, rollout_trace
from lipsrl.metrics import action_fluctuation
from lipsrl.wrappers import ActionDifference, ActionSmoothing


class Actuator(gym.Wrapper):
    """Keeps what arrives at the motor, episode by episode."""

    episodes: ClassVar[list[list[np.ndarray]]] = []

    def reset(self, **options):
        self.own = []
        self.episodes.append(self.own)
        return self.env.reset(**options)

    def step(self, action):
        self.own.append(np.array(action))
        return self.env.step(action)


def pendulum():
    return gym.make("Pendulum-v1", max_episode_steps=12)


def rescaled(env):
    return RescaleAction(env, np.float32(-1.0), np.float32(1.0))


LAYERS = {
    "smoothing": lambda env: ActionSmoothing(env, weight=0.25),
    "difference": lambda env: ActionDifference(env, rate=0.5, observe_action=False),
    "difference of what is smoothed": lambda env: ActionDifference(
        ActionSmoothing(env, weight=0.5), rate=0.5, observe_action=False
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_metrics_are_those_of_what_the_motor_receives(name):
    def make():
        return LAYERS[name](Actuator(pendulum()))

    model = PPO("MlpPolicy", make(), seed=0, device="cpu", policy_kwargs={"log_std_init": 0.5})
    # a wild policy: actions that differ from step to step
    for parameter in model.policy.parameters():
        parameter.data *= 8
    Actuator.episodes.clear()
    frame = evaluate(
        model, make, disturbances=GaussianNoise(1.0), strengths=(0.3,), n_episodes=3, seed=1, progress=False
    ).frame
    whole = [np.array(actions) for actions in Actuator.episodes if len(actions) == 12]
    assert len(whole) == 3
    expected = sorted(action_fluctuation(actions) for actions in whole)
    assert sorted(frame["action_fluctuation"]) == pytest.approx(expected, rel=1e-5)
    assert np.mean(expected) > 1e-3


def test_a_filter_in_other_units_than_the_agents_is_not_the_agents():
    behind = rescaled(ActionSmoothing(pendulum(), weight=0.5))
    model = PPO("MlpPolicy", behind, seed=0, device="cpu")
    trace = rollout_trace(model, lambda: behind, seed=0)
    # in the agent's own units: those of what it said
    assert np.abs(trace["actions"]).max() <= 1.0
    proposed = model.predict(trace["observations"], deterministic=True)[0]
    np.testing.assert_allclose(trace["actions"], np.clip(proposed, -1, 1), atol=1e-5)


def test_what_stands_between_two_filters_ends_the_agents_units():
    model = PPO("MlpPolicy", rescaled(pendulum()), seed=0, device="cpu")
    traces = [
        rollout_trace(
            model, lambda layers=layers: layers(rescaled(ActionSmoothing(pendulum(), weight=0.5))), seed=0
        )
        for layers in (lambda env: env, lambda env: ActionSmoothing(env, weight=1.0))
    ]
    np.testing.assert_allclose(traces[0]["actions"], traces[1]["actions"], atol=1e-6)


def test_a_trace_has_the_averages_and_starts_every_episode_at_rest():
    model = PPO("MlpPolicy", pendulum(), seed=0, device="cpu")
    trace = rollout_trace(model, lambda: ActionSmoothing(pendulum(), weight=0.25), seed=3)
    proposed = model.predict(trace["observations"], deterministic=True)[0]
    expected, before = [], np.zeros(1)
    for action in proposed:
        before = 0.25 * action + 0.75 * before
        expected.append(before)
    np.testing.assert_allclose(trace["actions"], np.array(expected), atol=1e-5)
