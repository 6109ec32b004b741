"""Actuators: the Gymnasium wrapper and the SB3 vec wrapper."""

from __future__ import annotations

import copy
import doctest

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import SAC
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from lipsrl.disturbances import (
    AutoregressiveNoise,
    Bias,
    Compose,
    Delay,
    Drift,
    Dropout,
    GaussianNoise,
    Jitter,
    Quantization,
    Spikes,
)
from lipsrl.wrappers import (
    ActionDisturbance,
    ObservationDisturbance,
    VecActionDisturbance,
    VecObservationDisturbance,
    action_disturbance,
    vec_action_disturbance,
)

N = 3
ON_ONE_DIMENSION = [
    GaussianNoise(0.3),
    Compose([AutoregressiveNoise(0.3, 0.9), Quantization(0.5)]),
    Jitter(3),
]


def pendulum():
    return gym.make("Pendulum-v1", max_episode_steps=5)


def torques(steps=12, shape=(1,)):
    return np.random.default_rng(0).uniform(-2, 2, (steps, *shape)).astype(np.float32)


def applied(env, seed=None, actions=None):
    """What the environment receives in the steps after one reset; episodes are cut short by nothing."""
    env.reset(seed=seed)
    return np.array(
        [env.step(action)[-1]["applied_action"] for action in (torques() if actions is None else actions)]
    )


def long(disturbance, **kwargs):
    return ActionDisturbance(gym.make("Pendulum-v1"), disturbance, **kwargs)


@pytest.mark.parametrize("module", [action_disturbance, vec_action_disturbance])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


class TestActions:
    def test_the_environment_receives_the_applied_action(self):
        env, twin = long(GaussianNoise(0.5)), gym.make("Pendulum-v1")
        env.reset(seed=0)
        twin.reset(seed=0)
        for action in torques():
            observation, reward, _, _, info = env.step(action)
            expected, expected_reward, *_ = twin.step(info["applied_action"])
            assert np.array_equal(observation, expected)
            assert reward == expected_reward
            assert not np.array_equal(info["applied_action"], action)
            assert info["applied_action"].dtype == np.float32

    def test_what_is_changed_is_clipped_to_the_space(self):
        received = applied(long(Spikes(0.5, 100.0)), seed=0)
        assert set(received[np.abs(received - torques()) > 0].tolist()) == {-2.0, 2.0}
        assert (np.abs(received) <= 2).all()

    def test_what_is_left_alone_passes_untouched(self):
        """Also outside of the space: what to do about that is the environment's business."""
        wild = np.array([[5.0], [-0.0], [np.nan]], np.float32)
        received = applied(long(GaussianNoise(0.5), strength=0), actions=wild[:2])
        assert received.tobytes() == wild[:2].tobytes()

    def test_a_delay_repeats_the_first_action(self):
        received = applied(long(Delay(2)))
        actions = torques()
        assert np.array_equal(received, actions[[0, 0, *range(10)]])

    def test_every_episode_begins_anew(self):
        env = long(Delay(2))
        for _ in range(2):
            assert np.array_equal(applied(env)[:3], torques()[[0, 0, 0]])

    def test_the_callers_action_stays(self):
        action = np.array([0.3], np.float32)
        env = long(Quantization(0.5))
        env.reset()
        env.step(action)
        assert action.tolist() == [np.float32(0.3)]

    @pytest.mark.parametrize(
        "disturbance",
        [*ON_ONE_DIMENSION, Delay(2), Spikes(0.5, 1.0), Drift(1.0), Bias(1.0), Dropout(0.5)],
        ids=repr,
    )
    def test_strength_zero_changes_nothing(self, disturbance):
        env = long(disturbance, strength=0)
        bare = gym.make("Pendulum-v1")
        observation, _ = env.reset(seed=3)
        expected, _ = bare.reset(seed=3)
        for action in torques():
            assert np.array_equal(observation, expected)
            observation, _, _, _, info = env.step(action)
            expected, *_ = bare.step(action)
            assert info["applied_action"].tobytes() == action.tobytes()

    def test_start_states_are_the_same_at_every_strength(self):
        starts = []
        for strength in (0.0, 0.5, 3.0):
            env = long(GaussianNoise(1.0), strength=strength)
            states = []
            for seed in (5, None, None):
                states.append(env.reset(seed=seed)[0])
                env.step(torques()[0])
            starts.append(np.array(states).tobytes())
        assert len(set(starts)) == 1

    def test_rescaled_outside_it_is_in_physical_units(self):
        env = RescaleAction(long(Quantization(0.5)), -1, 1)
        assert applied(env, actions=np.array([[0.1], [0.15]], np.float32)).tolist() == [[0.0], [0.5]]

    def test_integer_actions_are_rounded_and_clipped(self):
        class Valves(gym.Env):
            observation_space = spaces.Box(-1, 1, (1,))
            action_space = spaces.Box(0, 10, (2, 2), np.int32)

            def reset(self, *, seed=None, options=None):
                return np.zeros(1, np.float32), {}

            def step(self, action):
                return np.zeros(1, np.float32), 0.0, False, False, {}

        received = applied(
            ActionDisturbance(Valves(), GaussianNoise(3.0)), actions=np.full((200, 2, 2), 5, np.int32)
        )
        assert received.dtype == np.int32
        assert received.shape == (200, 2, 2)
        assert set(np.unique(received).tolist()) == set(range(11))


class TestSeeding:
    def test_a_seeded_reset_seeds_the_noise(self):
        env = long(GaussianNoise(0.1))
        first = applied(env, seed=1)
        assert np.array_equal(first, applied(env, seed=1))
        assert not np.array_equal(first, applied(env, seed=2))
        assert not np.array_equal(applied(env), applied(env))

    def test_a_seed_of_its_own(self):
        assert np.array_equal(
            applied(long(GaussianNoise(0.1), seed=7), seed=1),
            applied(long(GaussianNoise(0.1), seed=7), seed=2),
        )

    def test_sensors_and_actuators_differ_under_one_seed(self):
        """Observations of length 3 and actions of length 3 that are all 0: only the noise is left."""

        class Still(gym.Env):
            observation_space = spaces.Box(-1, 1, (3,), np.float64)
            action_space = spaces.Box(-9, 9, (3,), np.float64)

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return np.zeros(3), {}

            def step(self, action):
                return np.zeros(3), 0.0, False, False, {}

        env = ObservationDisturbance(ActionDisturbance(Still(), GaussianNoise(1.0)), GaussianNoise(1.0))
        sensor, actuator = [env.reset(seed=0)[0]], []
        for _ in range(300):
            observation, _, _, _, info = env.step(np.zeros(3))
            sensor.append(observation)
            actuator.append(info["applied_action"])
        same_row = np.corrcoef(np.ravel(sensor[:-1]), np.ravel(actuator))[0, 1]
        next_row = np.corrcoef(np.ravel(sensor[1:]), np.ravel(actuator))[0, 1]
        assert max(abs(same_row), abs(next_row)) < 5 / np.sqrt(900)


class TestConventions:
    @pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
    def test_both_checkers(self):
        env = ActionDisturbance(gym.make("MountainCarContinuous-v0"), GaussianNoise(0.1))
        gymnasium_check_env(env, skip_render_check=True)
        sb3_check_env(env)

    def test_it_is_rebuilt_from_its_spec(self):
        env = ObservationDisturbance(
            long(Compose([GaussianNoise(0.1), Delay(1)]), seed=3, strength=(0.5, 1.0)), Delay([1, 2, 3])
        )
        for spec in (env.spec, gym.envs.registration.EnvSpec.from_json(env.spec.to_json())):
            rebuilt = gym.make(spec)
            assert rebuilt.env.disturbance == env.env.disturbance
            assert np.array_equal(applied(rebuilt, seed=1), applied(env, seed=1))

    def test_a_second_one_is_refused(self):
        with pytest.raises(ValueError, match=r"disturbed already, by Delay\(steps=1.0\).*Compose"):
            ActionDisturbance(ObservationDisturbance(long(Delay(1)), Delay(1)), GaussianNoise(0.1))

    def test_actions_without_units(self):
        with pytest.raises(ValueError, match=r"not Discrete\(2\)"):
            ActionDisturbance(gym.make("CartPole-v1"), GaussianNoise(0.1))

    def test_a_wrong_length(self):
        with pytest.raises(ValueError, match=r"has 2 values.*has length 1"):
            long(GaussianNoise([0.1, 0.2]))


class TestVec:
    @pytest.mark.parametrize("disturbance", ON_ONE_DIMENSION, ids=repr)
    @pytest.mark.parametrize("seed", [None, 7])
    def test_equals_wrapped_environments_bit_for_bit(self, disturbance, seed):
        vec = VecActionDisturbance(DummyVecEnv([pendulum] * N), disturbance, strength=(0.5, 1))
        one_by_one = DummyVecEnv([lambda: ActionDisturbance(pendulum(), disturbance, strength=(0.5, 1))] * N)
        if seed is not None:
            vec = VecActionDisturbance(DummyVecEnv([pendulum] * N), disturbance, seed=seed)
            one_by_one = DummyVecEnv(
                [lambda i=i: ActionDisturbance(pendulum(), disturbance, seed=seed + i) for i in range(N)]
            )
        vec.seed(2)
        one_by_one.seed(2)
        assert np.array_equal(vec.reset(), one_by_one.reset())
        for actions in torques(17, (N, 1)):
            got, expected = vec.step(actions), one_by_one.step(actions)
            for ours, theirs in zip(got[:3], expected[:3], strict=True):
                assert np.array_equal(ours, theirs)
            for info, other in zip(got[3], expected[3], strict=True):
                assert np.array_equal(info["applied_action"], other["applied_action"])

    def test_with_disturbed_observations_and_normalised(self):
        def wrapped():
            return ObservationDisturbance(
                ActionDisturbance(pendulum(), GaussianNoise(0.5)), GaussianNoise(0.1)
            )

        vec = VecActionDisturbance(DummyVecEnv([pendulum] * 2), GaussianNoise(0.5))
        vec = VecObservationDisturbance(vec, GaussianNoise(0.1))
        runs = []
        for venv in (vec, DummyVecEnv([wrapped] * 2)):
            venv = VecMonitor(VecNormalize(venv))
            venv.seed(1)
            seen = [venv.reset()]
            runs.append(np.array(seen + [venv.step(actions)[0] for actions in torques(7, (2, 1))]))
        assert np.array_equal(*runs)

    def test_reset_infos_and_seeds_are_those_of_the_environments(self):
        venv = VecActionDisturbance(DummyVecEnv([pendulum] * N), Delay(1))
        assert list(venv.seed(4)) == [4, 5, 6]
        venv.reset()
        assert venv.reset_infos == [{}] * N

    def test_sac_trains_on_it(self):
        venv = VecActionDisturbance(DummyVecEnv([pendulum] * 2), Compose([GaussianNoise(0.1), Delay(1)]))
        model = SAC("MlpPolicy", venv, learning_starts=4, batch_size=4, seed=0, device="cpu")
        before = copy.deepcopy(model.policy.state_dict())
        model.learn(12)
        assert any((before[k] != v).any() for k, v in model.policy.state_dict().items())
        # what the replay buffer holds is what the agent commanded
        assert np.abs(model.replay_buffer.actions[: model.replay_buffer.pos]).max() <= 1

    def test_a_second_one_is_refused(self):
        venv = VecActionDisturbance(DummyVecEnv([pendulum]), Delay(1))
        with pytest.raises(ValueError, match="disturbed already"):
            VecActionDisturbance(VecMonitor(venv), Delay(1))
        with pytest.raises(ValueError, match="disturbed already"):
            VecActionDisturbance(DummyVecEnv([lambda: ActionDisturbance(pendulum(), Delay(1))]), Delay(1))
