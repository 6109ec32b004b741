"""Temporal pairs from buffers of known successors: every one right, none across the end of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lipsrl.regularizers import CAPS, Regularizer, _attach, regularize
from lipsrl.regularizers._pairs import ReplayNeighbours

SCALE = np.array([1.0, 1.0, 1.0], np.float32)


class Counting(gym.Env):
    """The observation says which environment, episode and step it is of; episodes end by themselves or by time."""

    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, number, as_dict=False):
        box = spaces.Box(-np.inf, np.inf, (3,))
        self.as_dict = as_dict
        self.observation_space = spaces.Dict({"a": box, "b": spaces.Box(-9, 9, (1,))}) if as_dict else box
        self.number, self.episode = number, -1

    def _observation(self):
        row = np.array([self.number, self.episode, self.t], np.float32)
        return {"a": row, "b": np.zeros(1, np.float32)} if self.as_dict else row

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        self.length = 3 + (5 * self.episode + self.number) % 7
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        ends = self.t >= self.length
        by_time = (self.episode + self.number) % 2 == 0
        return self._observation(), 0.0, ends and not by_time, ends and by_time, {}


SEEN = []


@dataclass(frozen=True)
class Probe(Regularizer):
    """Keeps what a loss is given."""

    probe: float = 1.0
    name: ClassVar[str] = "probe"
    actor_terms: ClassVar[tuple[str, ...]] = ("probe",)
    needs: ClassVar[frozenset[str]] = frozenset({"next", "previous"})

    def actor_losses(self, batch, terms: Sequence[str]):
        SEEN.append((batch.observations, batch.next, batch.previous))
        return {"probe": batch.mean.sum() * 0}


@dataclass(frozen=True)
class NextProbe(Probe):
    needs: ClassVar[frozenset[str]] = frozenset({"next"})

    def actor_losses(self, batch, terms: Sequence[str]):
        SEEN.append((batch.observations, batch.next, None))
        return {"probe": batch.mean.sum() * 0}


@pytest.fixture(autouse=True)
def probes(monkeypatch):
    SEEN.clear()
    monkeypatch.setattr(_attach, "METHODS", {"Probe": Probe, "NextProbe": NextProbe, "CAPS": CAPS})


def rows(observations, statistics=None):
    values = observations["a"] if isinstance(observations, dict) else observations
    values = values.numpy().astype(np.float64)
    if statistics is not None:  # back to counts
        values = values * np.sqrt(statistics.var + 1e-8) + statistics.mean
    return np.rint(values).astype(int)


def check(n_envs, statistics=None):
    """Every pair is of one environment and episode, one step apart. Returns (pairs, masked, rows)."""
    assert SEEN
    pairs = masked = total = 0
    for now, following, before in SEEN:
        here = rows(now, statistics)
        assert set(here[:, 0]) <= set(range(n_envs))
        for neighbour, apart in ((following, 1), (before, -1)):
            if neighbour is None:
                continue
            there, known = rows(neighbour.observations, statistics), neighbour.mask.numpy().astype(bool)
            assert np.array_equal(here[known][:, :2], there[known][:, :2])
            assert np.array_equal(here[known][:, 2] + apart, there[known][:, 2])
            if apart == -1:  # whoever has a predecessor in the buffer has it; the first step never
                assert not known[here[:, 2] == 0].any()
            pairs, masked, total = pairs + known.sum(), masked + (~known).sum(), total + len(known)
    return int(pairs), int(masked), int(total)


def envs(n, as_dict=False):
    return DummyVecEnv([lambda number=number: Counting(number, as_dict) for number in range(n)])


ON = {"n_steps": 20, "seed": 0, "device": "cpu"}
OFF = {"learning_starts": 20, "batch_size": 64, "seed": 0, "device": "cpu"}


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_rollout_buffer(n_envs, as_dict):
    policy = "MultiInputPolicy" if as_dict else "MlpPolicy"
    model = PPO(policy, envs(n_envs, as_dict), batch_size=20, n_epochs=2, **ON)
    regularize(model, Probe()).learn(20 * n_envs * 3)
    pairs, masked, _ = check(n_envs)
    assert pairs > 3 * masked > 0
    # all that exist are there: only the last step of an episode has no successor, only its first no predecessor
    for now, following, before in SEEN:
        here = rows(now)
        lengths = 3 + (5 * here[:, 1] + here[:, 0]) % 7
        assert np.array_equal(following.mask.numpy().astype(bool), here[:, 2] < lengths - 1)
        # a rollout that begins in the middle of an episode has not what was before it
        assert (before.mask.numpy().astype(bool) <= (here[:, 2] > 0)).all()
        assert before.mask.sum() >= (here[:, 2] > 0).sum() - n_envs


def test_a2c_rollouts():
    regularize(A2C("MlpPolicy", envs(2), **ON), Probe()).learn(120)
    assert check(2)[0] > 0


def test_the_rows_of_one_minibatch_are_not_each_others_successors():
    """What public code pairs: rows t and t+1 of a shuffled minibatch."""
    regularize(PPO("MlpPolicy", envs(1), batch_size=20, n_epochs=1, **ON), Probe()).learn(20)
    (now, _, _), *_ = SEEN
    here = rows(now)
    right = (here[:-1, 1] == here[1:, 1]) & (here[:-1, 2] + 1 == here[1:, 2])
    assert right.mean() < 0.5


@pytest.mark.parametrize("cls", [SAC, TD3, DDPG])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_replay_buffer(cls, n_envs):
    model = cls(
        "MlpPolicy", envs(n_envs), buffer_size=60 * n_envs, **OFF
    )  # it fills, and writes over the oldest
    regularize(model, Probe()).learn(100 * n_envs)
    pairs, masked, _ = check(n_envs)
    assert pairs > masked > 0
    for _, following, _ in SEEN:  # the terminal observation is of the same episode
        assert following.mask.all()


def test_dict_replay_buffer():
    regularize(SAC("MultiInputPolicy", envs(2, True), buffer_size=80, **OFF), Probe()).learn(120)
    assert check(2)[0] > 0


def test_n_step_returns_keep_the_next_step():
    """SB3's sample holds o_{t+3} there."""
    regularize(SAC("MlpPolicy", envs(2), n_steps=3, buffer_size=200, **OFF), Probe()).learn(120)
    assert check(2)[0] > 0


def test_replay_buffer_that_saves_memory_masks_the_ends():
    model = SAC(
        "MlpPolicy",
        envs(1),
        buffer_size=60,
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
        **OFF,
    )
    regularize(model, Probe()).learn(120)
    check(1)
    assert any(not following.mask.all() for _, following, _ in SEEN)


@pytest.mark.parametrize("saving", [False, True])
def test_every_row_of_a_replay_buffer_filled_by_hand(saving):
    venv, slots = envs(1), 9
    buffer = ReplayBuffer(
        slots,
        venv.observation_space,
        venv.action_space,
        "cpu",
        optimize_memory_usage=saving,
        handle_timeout_termination=not saving,
    )
    now, action = venv.reset(), np.zeros((1, 1), np.float32)
    for _ in range(slots + 4):  # the first four are written over
        following, reward, done, infos = venv.step(action)
        last = infos[0]["terminal_observation"][None] if done[0] else following
        buffer.add(now, last, action, reward, done, infos)
        now = following
    taken = np.array([slot for slot in range(slots) if not (saving and slot == buffer.pos)])
    pairs = ReplayNeighbours(buffer, taken, np.zeros_like(taken), None)
    here = torch.as_tensor(buffer.observations[taken, 0])
    SEEN.append((here, pairs.next(), pairs.previous()))
    check(1)
    has_previous = pairs.previous().mask.numpy().astype(bool)
    oldest = taken == (buffer.pos + saving) % slots
    assert (here[:, 2] == 0).any()
    assert np.array_equal(has_previous, (here[:, 2].numpy() > 0) & ~oldest)
    assert pairs.next().mask.numpy().all() != saving  # an end among them, and what followed it is gone


def test_an_environment_reset_between_two_trainings_is_an_end():
    model = regularize(SAC("MlpPolicy", envs(1), buffer_size=500, **OFF), Probe())
    model.learn(50)
    model.set_env(envs(1))  # forces a reset, and leaves no mark in the buffer
    model.learn(50, reset_num_timesteps=False)
    check(1)


def test_vec_normalize_gives_both_in_the_units_of_the_policy():
    venv = VecNormalize(envs(2), norm_reward=False, clip_obs=1e6)
    venv.reset()
    for _ in range(20):
        venv.step(np.zeros((2, 1), np.float32))
    venv.training = False
    for model in (
        PPO("MlpPolicy", venv, batch_size=20, n_epochs=1, **ON),
        SAC("MlpPolicy", venv, buffer_size=400, **OFF),
    ):
        SEEN.clear()
        regularize(model, Probe()).learn(80)
        assert check(2, venv.obs_rms)[0] > 0


class Goal(Counting):
    def __init__(self):
        super().__init__(0)
        box = spaces.Box(-np.inf, np.inf, (3,))
        goal = spaces.Box(-np.inf, np.inf, (1,))
        self.observation_space = spaces.Dict(
            {"observation": box, "achieved_goal": goal, "desired_goal": goal}
        )

    def _observation(self):
        row = np.array([self.number, self.episode, self.t], np.float32)
        return {"observation": row, "achieved_goal": row[2:], "desired_goal": row[1:2]}

    def compute_reward(self, achieved, desired, info):
        return -np.abs(np.asarray(achieved) - desired).reshape(len(np.atleast_1d(achieved)), -1).sum(axis=1)


def test_hindsight_pairs_have_one_goal():
    model = SAC("MultiInputPolicy", DummyVecEnv([Goal]), replay_buffer_class=HerReplayBuffer, **OFF)
    regularize(model, NextProbe()).learn(60)
    for now, following, _ in SEEN:
        assert torch.equal(now["desired_goal"], following.observations["desired_goal"])
        here, there = (rows(one["observation"]) for one in (now, following.observations))
        assert np.array_equal(here + np.array([0, 0, 1]), there)
    with pytest.raises(ValueError, match="relabels each transition"):
        regularize(
            SAC("MultiInputPolicy", DummyVecEnv([Goal]), replay_buffer_class=HerReplayBuffer, **OFF), Probe()
        )
