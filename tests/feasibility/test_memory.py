"""Whoever remembers is outside the floor: no theorem about a plant or a policy with a memory."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from lipsrl.assessment._criteria import feasible
from lipsrl.feasibility import feasibility_floor, feasibility_warnings, policy_units
from lipsrl.feasibility.policy import memory_in_words

DT = 0.05


class Pendulum(gym.Env):
    """Its angle alone is seen."""

    size = 1

    def __init__(self, damping=0.0, pull=9.81):
        self.observation_space = spaces.Box(-10, 10, (self.size,), np.float64)
        self.action_space = spaces.Box(-50, 50, (1,), np.float32)
        self.damping, self.pull, self.state, self.past = damping, pull, np.zeros(2), np.zeros(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.past = self.np_random.uniform(-0.1, 0.1, 2), np.zeros(1)
        return self._get_obs(), {}

    def _get_obs(self):
        return self.state[:1].copy()

    def remembered(self, action):
        return action

    def step(self, action):
        angle, speed = self.state
        self.past = np.array([self.remembered(float(action[0]))])
        speed = speed + DT * (self.pull * angle - self.damping * speed + float(np.clip(action, -50, 50)[0]))
        self.state = np.array([angle + DT * speed, speed])
        return self._get_obs(), 0.0, False, False, {}


class LastAction(Pendulum):
    size = 2

    def _get_obs(self):
        return np.array([self.state[0], self.past[0]])


class LastAngle(LastAction):
    def remembered(self, action):
        return self.state[0]


def test_a_pendulum_without_damping_has_no_stabilising_gain():
    found = feasibility_floor(Pendulum(), [0, 0], [0])
    assert found.found == np.inf
    assert found.found_gain is None


@pytest.mark.parametrize(("env", "what"), [(LastAction, "earlier actions"), (LastAngle, "earlier states")])
def test_a_memory_in_the_observation_is_refused(env, what):
    """With the last action ``(-2, 0.85)`` holds the damped pendulum, less than the 9.81 of its angle alone."""
    with pytest.raises(ValueError, match=f"the observation of one and the same state depends on {what}"):
        feasibility_floor(env(damping=5.0), [0, 0], [0])


def ppo(env, policy="MlpPolicy", **options):
    return PPO(policy, env, n_steps=8, batch_size=8, seed=0, device="cpu", policy_kwargs=options)


@pytest.fixture(scope="module")
def floor():
    """9.81, of a pendulum that is damped."""
    return feasibility_floor(Pendulum(damping=5.0), [0, 0], [0])


def test_two_frames_hold_what_one_cannot(floor):
    """The difference of two angles is a speed: a gain of 42 against a floor of one angle that is far above."""
    model = ppo(VecFrameStack(DummyVecEnv([lambda: Pendulum(damping=-0.5, pull=-4.0)]), 2), net_arch=[])
    with torch.no_grad():
        model.policy.action_net.weight[:] = torch.tensor([[30.0, -30.0]])
    env, seen = Pendulum(damping=-0.5, pull=-4.0), np.zeros(2)
    env.reset(seed=0)
    for _ in range(600):
        seen = np.r_[seen[1], env._get_obs()]
        env.step(np.array([30.0, -30.0]) @ seen[:, None])
    assert np.abs(env.state).max() < 1e-3
    certificate = lipsrl.certify(model, n_starts=64)
    steep = SimpleNamespace(**{**vars(floor), "floor": 1e12})
    assert memory_in_words(certificate) == "it sees 2 observations"
    assert feasibility_warnings(steep, certificate, policy_units(model)) == ()
    (criterion,) = feasible(steep, certificate, "", model, None, None)
    assert (criterion.holds, criterion.kind) == (None, "stated")
    assert "does not apply: the policy has a memory (it sees 2 observations)" in criterion.found


def test_lipschitz_frames_are_not_judged_either(floor):
    env = VecFrameStack(VecNormalize(DummyVecEnv([Pendulum])), 2)
    model = ppo(env, "LipschitzMlpPolicy", lipschitz_bound=3.0, net_arch=[8])
    units = policy_units(model)
    assert units.shape == (2,)
    assert feasibility_warnings(floor, lipsrl.certify(model, n_starts=64), units) == ()
    with pytest.raises(ValueError, match="leave the floor out: it is about policies without a memory"):
        floor.in_units(units)


def test_who_remembers_without_a_certificate(floor):
    recurrent = SimpleNamespace(policy=SimpleNamespace(lstm_actor=None))
    assert memory_in_words(model=recurrent) == "it is recurrent"
    (criterion,) = feasible(floor, None, "it is recurrent", recurrent, None, None)
    assert (criterion.holds, criterion.kind) == (None, "stated")
    student = SimpleNamespace(policy=SimpleNamespace(), frame_stack=4)
    assert memory_in_words(model=student) == "it sees 4 observations"
    assert memory_in_words(model=SimpleNamespace(policy=SimpleNamespace())) == ""


def test_normalisation_inside_the_environment_is_part_of_the_units(floor):
    """K = 1 behind a gain of 100 is worth 100 per raw unit, far above 9.81."""
    env = wrappers.NormalizeObservation(Pendulum())
    env.obs_rms.var, env.obs_rms.mean, env.update_running_mean = np.full(1, 1e-4), np.zeros(1), False
    model = ppo(env, "LipschitzMlpPolicy", lipschitz_bound=1.0, net_arch=[8])
    assert policy_units(model) == pytest.approx([100], rel=1e-3)
    certificate = lipsrl.certify(model, n_starts=64)
    assert not any(
        "lipschitz_bound" in t for t in feasibility_warnings(floor, certificate, policy_units(model))
    )
    (criterion,) = feasible(floor, certificate, "", model, None, None)
    assert criterion.kind == "proven"
    behind = SimpleNamespace(**{**vars(floor), "normalised": True})
    with pytest.raises(ValueError, match="it would count twice"):
        feasibility_warnings(behind, certificate, 1.0)
    with pytest.raises(ValueError, match="the policy receives 3: it is about another observation"):
        feasibility_warnings(floor, certificate, np.ones(3))
