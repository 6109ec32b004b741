"""A moving average and a first-difference action space: what arrives, what is seen, and how SB3 takes them."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO

from lipsrl.wrappers import ActionDifference, ActionSmoothing


class Recorder(gym.Env):
    """Two actions of shifted range; keeps what it received."""

    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))

    def __init__(self, as_dict=False):
        box = spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = spaces.Dict({"x": box}) if as_dict else box
        self.received = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def _observation(self):
        row = np.zeros(3, np.float32)
        return {"x": row} if isinstance(self.observation_space, spaces.Dict) else row

    def step(self, action):
        assert self.action_space.contains(action)
        self.received.append(action)
        return self._observation(), 0.0, False, False, {}


def test_moving_average():
    env = ActionSmoothing(Recorder(), weight=0.25)
    env.reset()
    actions = np.array([[3.0, 10.0], [-1.0, 0.0], [1.0, 5.0]])
    expected, last = [], np.zeros(2)
    for action in actions:
        _, _, _, _, info = env.step(action)
        last = 0.25 * action + 0.75 * last
        expected.append(last)
        np.testing.assert_allclose(info["applied_action"], last, rtol=1e-6)
    np.testing.assert_allclose(env.unwrapped.received, expected, rtol=1e-6)
    env.reset()  # at rest again
    env.step(actions[0])
    np.testing.assert_allclose(env.unwrapped.received[-1], expected[0], rtol=1e-6)


def test_differences_are_limited_and_clipped():
    env = ActionDifference(Recorder(), rate=0.5)
    env.reset()
    for _ in range(5):
        env.step(np.array([1.0, 7.0], np.float32))  # 7 is clipped to 1
    assert [row.tolist() for row in env.unwrapped.received] == [[1, 2.5], [2, 5], [3, 7.5], [3, 10], [3, 10]]
    rng = np.random.default_rng(0)
    before = env.unwrapped.received[-1]
    for _ in range(50):
        env.step(rng.uniform(-3, 3, 2))
        assert (np.abs(env.unwrapped.received[-1] - before) <= np.array([1.0, 2.5]) * (1 + 1e-6)).all()
        before = env.unwrapped.received[-1]


@pytest.mark.parametrize("as_dict", [False, True])
def test_the_agent_sees_what_was_applied(as_dict):
    env = ActionDifference(Recorder(as_dict), rate=0.5)
    first, _ = env.reset()
    observation, *_ = env.step(np.array([1.0, 1.0]))
    for seen, expected in ((first, [0, 0]), (observation, [1, 2.5])):
        assert env.observation_space.contains(seen)
        assert (seen["applied_action"] if as_dict else seen[3:]).tolist() == expected


@pytest.mark.parametrize(
    ("counts", "wider"),
    [(np.uint8, np.float32), (np.int16, np.float32), (np.int32, np.float64), (np.float64, np.float64)],
)
def test_beside_integers_the_action_keeps_its_fraction(counts, wider):
    class Counter(Recorder):
        def _observation(self):
            return np.array([7, 100], counts)

    inner = Counter()
    inner.observation_space = spaces.Box(0, 100, (2,), counts)
    env = ActionDifference(inner, rate=0.25)
    assert env.observation_space.dtype == wider
    assert env.observation_space.low.tolist() == [0, 0, -1, 0]
    first, _ = env.reset()
    second, *_ = env.step(np.array([-1.0, 1.0]))
    for seen, expected in ((first, [7, 100, 0, 0]), (second, [7, 100, -0.5, 1.25])):
        assert seen.tolist() == expected
        assert env.observation_space.contains(seen)


@pytest.mark.parametrize("wrapper", [ActionSmoothing, ActionDifference])
def test_gymnasiums_checker_and_its_specification(wrapper):
    env = wrapper(gym.make("Pendulum-v1"), observe_action=True)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*(different from the unwrapped|symmetric and normalized).*"
        )
        check_env(env, skip_render_check=True)
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space
    assert again.action_space == env.action_space


@pytest.mark.parametrize("wrapper", [ActionSmoothing, ActionDifference])
def test_sb3_learns_with_it(wrapper):
    PPO("MlpPolicy", wrapper(gym.make("Pendulum-v1")), n_steps=32, batch_size=32, device="cpu").learn(32)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"weight must be in \(0, 1\]"):
        ActionSmoothing(Recorder(), weight=0.0)
    with pytest.raises(ValueError, match="rate must be a finite number > 0"):
        ActionDifference(Recorder(), rate=0)
    with pytest.raises(ValueError, match="actions in a bounded Box"):
        ActionSmoothing(gym.make("CartPole-v1"))
    camera = Recorder()
    camera.observation_space = spaces.Box(0, 255, (3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="needs a vector or a Dict"):
        ActionDifference(camera)
