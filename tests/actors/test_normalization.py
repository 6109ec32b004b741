"""What stands between a raw observation and the policy: what is counted, what is noted, what is refused."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor, VecNormalize

from lipsrl.actors.normalization import observation_chain, observation_gains
from lipsrl.wrappers import ActionSmoothing, VecActionDisturbance
from tests.policies.zoo import build


class Plant(gym.Env):
    """Three sensors, two actuators, a step that returns a draw."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Hundredfold(gym.Wrapper):
    """No ObservationWrapper, and yet it changes observations."""

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        return observation * 100, info

    def step(self, action):
        observation, *rest = self.env.step(action)
        return observation * 100, *rest


class Late(wrappers.TimeLimit):
    """A subclass of a wrapper that hands observations on, which does not."""

    def step(self, action):
        observation, *rest = super().step(action)
        return observation * 100, *rest


class Doubled(NormalizeObservation):
    def observation(self, observation):
        return 2 * super().observation(observation)


class VecTenfold(VecEnvWrapper):
    def reset(self):
        return self.venv.reset() * 10

    def step_wait(self):
        observations, *rest = self.venv.step_wait()
        return observations * 10, *rest


def normalized(env, mean, variance):
    layer = NormalizeObservation(env)
    layer.update_running_mean = False
    layer.obs_rms.mean, layer.obs_rms.var = np.full(3, mean), np.full(3, variance)
    return layer


def ppo(env):
    return PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, device="cpu")


def seen_by(env, raw):
    """What wrappers of the kind of this file make of a raw observation."""
    layers = []
    while isinstance(env, gym.Wrapper):
        layers.append(env)
        env = env.env
    for layer in reversed(layers):
        raw = layer.observation(raw) if isinstance(layer, NormalizeObservation) else raw
    return raw


class ZooTimeLimit(wrappers.TimeLimit):
    """As rl_zoo3 patches gymnasium in every process that imports it."""

    __module__, __qualname__ = "rl_zoo3.gym_patches", "PatchedTimeLimit"

    def step(self, action):
        return super().step(action)


@pytest.mark.parametrize(
    "between",
    [
        lambda env: env,
        lambda env: wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(Monitor(env), 5)),
        lambda env: wrappers.RescaleAction(wrappers.PassiveEnvChecker(wrappers.OrderEnforcing(env)), -2, 2),
        lambda env: wrappers.NormalizeReward(wrappers.Autoreset(ActionSmoothing(env))),
        lambda env: ZooTimeLimit(env, 5),
    ],
)
def test_all_layers_of_normalize_observation_are_counted(between):
    env = between(normalized(between(normalized(Plant(), 0.5, 1e-6)), 2.0, 0.25))
    chain = observation_chain(ppo(env))
    mean, gain = chain.inner
    raw = np.array([0.1, 0.5, 0.7])
    np.testing.assert_allclose((raw - mean) * gain, seen_by(env, raw), rtol=1e-5)
    assert not chain.notes


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (Hundredfold, "inside Hundredfold, which may change observations too: 'raw' means what comes"),
        (lambda env: Late(env, 5), "inside Late, which may change observations too"),
        (lambda env: ActionSmoothing(env, observe_action=True), "inside ActionSmoothing, which may change"),
        (wrappers.FlattenObservation, "inside FlattenObservation, which changes observations too"),
        (
            lambda env: wrappers.FrameStackObservation(env, 2),
            "inside FrameStackObservation, which may change",
        ),
        (Doubled, "is here Doubled, whose methods are its own"),
    ],
)
def test_what_normalize_observation_is_hidden_by_is_said(wrap, said):
    chain = observation_chain(ppo(wrap(normalized(Plant(), 0.0, 1e-6))))
    (note,) = chain.notes
    assert chain.inner is None
    assert said in note


def test_what_is_outside_of_an_unknown_wrapper_is_counted_still():
    env = normalized(Hundredfold(normalized(Plant(), 0.0, 1e-6)), 0.0, 0.25)
    chain = observation_chain(ppo(env))
    np.testing.assert_allclose(chain.inner[1], 2.0, rtol=1e-6)
    assert "'raw' means what comes out of Hundredfold" in chain.notes[0]
    # what stands inside all of them is part of the environment, whose observations are the raw ones
    assert not observation_chain(ppo(normalized(Hundredfold(Plant()), 0.0, 0.25))).notes


def test_wrappers_of_vec_envs_hide_it_too():
    venv = DummyVecEnv([lambda: normalized(Plant(), 0.0, 0.25)])
    quiet = VecActionDisturbance(VecMonitor(venv), {"name": "gaussian", "std": 0.1})
    assert observation_chain(ppo(quiet)).inner is not None
    (note,) = observation_chain(ppo(VecTenfold(venv))).notes
    assert "inside VecTenfold, which may change observations too" in note


def test_infinite_statistics_are_refused():
    with pytest.raises(ValueError, match="NormalizeObservation inside the environment holds NaN or infinite"):
        observation_chain(ppo(normalized(Plant(), 0.0, np.inf)))
    statistics = VecNormalize(DummyVecEnv([Plant]))
    statistics.obs_rms.var[1] = np.inf
    with pytest.raises(ValueError, match="vec_normalize holds NaN or infinite statistics"):
        observation_gains(statistics, 3)


def test_statistics_of_rewards_only_do_not_replace_the_models_own():
    model = ppo(VecNormalize(DummyVecEnv([Plant])))
    rewards = VecNormalize(DummyVecEnv([Plant]), norm_obs=False)
    with pytest.raises(ValueError, match=r"norm_obs=False\), but the model's own environment does"):
        observation_chain(model, rewards)
    other = VecNormalize(DummyVecEnv([Plant]))
    assert observation_chain(model, other).vec_normalize is other
    for env in (Plant(), VecNormalize(DummyVecEnv([Plant]), norm_obs=False)):
        assert not observation_chain(ppo(env), rewards).normalised


def test_a_frame_stack_that_the_observation_cannot_be_is_refused():
    model = ppo(Plant())
    assert observation_chain(model, frame_stack=3).frames == 3
    with pytest.raises(ValueError, match="frame_stack=2 frames of one length do not make the 3 values"):
        observation_chain(model, frame_stack=2)
    several = build("A2C", observation="dict", policy="MultiInputPolicy", lipschitz_bound=None)
    assert observation_chain(several, frame_stack=1).frames == 1
    with pytest.raises(ValueError, match="frame_stack=2, but only a Box can be a stack"):
        observation_chain(several, frame_stack=2)
