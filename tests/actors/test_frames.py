"""Stacks of frames against SB3's own VecFrameStack."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from lipsrl.actors.frames import FrameStack, stacked_episode

SHAPES = {"vector": (3,), "image": (5, 4, 2), "image-first": (2, 37, 36)}


class Counting(gym.Env):
    """Observations that are all different; episodes of 3, 4, … steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, shape):
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        if len(shape) == 3:
            self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.length, self.count = 3, 0

    def _next(self):
        self.count += 1
        size = int(np.prod(self.observation_space.shape))
        return (self.count + np.arange(size).reshape(self.observation_space.shape) % 50).astype(
            self.observation_space.dtype
        )

    def reset(self, *, seed=None, options=None):
        self.left, self.length = self.length, self.length + 1
        return self._next(), {}

    def step(self, action):
        self.left -= 1
        return self._next(), 0.0, self.left == 0, False, {}


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("kind", list(SHAPES))
def test_a_stack_is_sb3s(kind, frames):
    shape = SHAPES[kind]
    order = "first" if kind == "image-first" else "last"
    base = DummyVecEnv([lambda: Counting(shape)] * 2)
    base.envs[1].length = 4
    venv = VecFrameStack(base, frames, order)
    stack = FrameStack(2, shape, frames, base.observation_space.dtype, 0 if order == "first" else -1)
    expected = venv.reset()
    stack.begin([0, 1])
    for _ in range(14):
        newest = base.buf_obs[None]
        older = stack.older().copy()
        found = stack.push(newest)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
        axis = 1 if order == "first" else found.ndim - 1
        np.testing.assert_array_equal(older, np.take(found, range(older.shape[axis]), axis))
        expected, _, dones, _ = venv.step(np.zeros(2, dtype=int))
        stack.begin(np.flatnonzero(dones))


def test_rows_go_on_alone():
    together, alone = FrameStack(3, (2,), 3), FrameStack(1, (2,), 3)
    rng = np.random.default_rng(0)
    for step in range(8):
        rows = np.array([2, 0]) if step % 3 else np.array([1])
        frames = rng.normal(size=(len(rows), 2))
        found = together.push(frames, rows)
        if step % 3:
            np.testing.assert_array_equal(found[:1], alone.push(frames[:1]))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_an_episode_at_once_is_the_episode_step_by_step(frames):
    observations = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    stack = FrameStack(1, (3,), frames, np.float32)
    expected = np.concatenate([stack.push(row[None]) for row in observations])
    found = stacked_episode(observations, frames)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
