"""The SB3 vec wrapper."""

from __future__ import annotations

import copy
import doctest

import gymnasium as gym
import numpy as np
import pytest
from counting_disturbance import Count
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, TimeLimit, TransformObservation
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    is_vecenv_wrapped,
)
from test_observation_disturbance import FAMILIES, Camera

from lipsrl.disturbances import Drift, GaussianNoise
from lipsrl.wrappers import ObservationDisturbance, VecObservationDisturbance, vec_observation_disturbance

N = 3
STD = [0.1, 0.1, 0.5]


def pendulum():
    """Episodes of 5 steps."""
    return gym.make("Pendulum-v1", max_episode_steps=5)


def dummy(n=N):
    return DummyVecEnv([pendulum] * n)


def noisy(n=N, std=0.1, seed=None):
    return VecObservationDisturbance(dummy(n), GaussianNoise(std), seed=seed)


def actions(steps, n=N):
    return np.random.default_rng(0).uniform(-2, 2, (steps, n, 1)).astype(np.float32)


def rollout(venv, steps=17):
    """Everything that a learner sees: observations (steps + 1, n, dim), and the infos of the steps."""
    observations, infos = [venv.reset()], []
    for action in actions(steps, venv.num_envs):
        observation, _, _, info = venv.step(action)
        observations.append(observation)
        infos.append(info)
    return np.array(observations), infos


def noise(venv, steps=17):
    """Observations minus clean observations, (steps + 1, n, dim)."""
    observations = [venv.reset()]
    clean = [[info["clean_observation"] for info in venv.reset_infos]]
    for action in actions(steps, venv.num_envs):
        observation, _, _, infos = venv.step(action)
        observations.append(observation)
        clean.append([info["clean_observation"] for info in infos])
    return np.array(observations, np.float64) - np.array(clean)


def differ(noise, other):
    """By more than the rounding of the sum to float32, which depends on the clean observation."""
    return np.abs(noise - other).max() > 0.01


def test_examples_run():
    results = doctest.testmod(vec_observation_disturbance)
    assert results.attempted > 0
    assert results.failed == 0


class TestObservations:
    @pytest.mark.parametrize("seed", [0, 10])
    def test_equals_wrapped_environments_bit_for_bit(self, seed):
        """Through three ends of episodes, terminal observations included."""
        vec = noisy(std=STD)
        one_by_one = DummyVecEnv([lambda: ObservationDisturbance(pendulum(), GaussianNoise(STD))] * N)
        vec.seed(seed)
        one_by_one.seed(seed)
        seen, infos = rollout(vec)
        expected, expected_infos = rollout(one_by_one)
        assert seen.dtype == expected.dtype == np.float32
        assert seen.tobytes() == expected.tobytes()
        ends = 0
        for row, expected_row in zip(infos, expected_infos, strict=True):
            for info, expected_info in zip(row, expected_row, strict=True):
                if "terminal_observation" in expected_info:
                    ends += 1
                    assert np.array_equal(info["terminal_observation"], expected_info["terminal_observation"])
                    # there the info of the last step, here that of the returned row
                    clean = expected_info["clean_observation"]
                    assert np.array_equal(info["clean_terminal_observation"], clean)
                else:
                    assert np.array_equal(info["clean_observation"], expected_info["clean_observation"])
        assert ends == 3 * N

    @pytest.mark.parametrize("disturbance", FAMILIES, ids=repr)
    def test_every_family_equals_wrapped_environments(self, disturbance):
        vec = VecObservationDisturbance(dummy(), disturbance, strength=(0.5, 2.0))
        one_by_one = DummyVecEnv(
            [lambda: ObservationDisturbance(pendulum(), disturbance, strength=(0.5, 2.0))] * N
        )
        vec.seed(1)
        one_by_one.seed(1)
        (seen, infos), (expected, expected_infos) = rollout(vec), rollout(one_by_one)
        assert seen.tobytes() == expected.tobytes()
        for info, expected_info in zip(infos[4], expected_infos[4], strict=True):
            assert np.array_equal(info["terminal_observation"], expected_info["terminal_observation"])

    def test_dict_observations_equal_wrapped_environments(self):
        def camera():
            return TimeLimit(Camera(as_dict=True), 5)

        arguments = {"disturbance": Drift(3.0), "keys": ["position", "image"]}
        vec = VecObservationDisturbance(DummyVecEnv([camera] * N), **arguments)
        one_by_one = DummyVecEnv([lambda: ObservationDisturbance(camera(), **arguments)] * N)
        vec.seed(1)
        one_by_one.seed(1)
        seen, expected = vec.reset(), one_by_one.reset()
        assert vec.observation_space == one_by_one.observation_space
        for action in np.zeros((12, N, 1), np.float32):
            for key in ("position", "image", "mode"):
                assert seen[key].dtype == expected[key].dtype
                assert np.array_equal(seen[key], expected[key])
            seen, _, dones, infos = vec.step(action)
            expected, _, _, expected_infos = one_by_one.step(action)
            for index in np.flatnonzero(dones):
                terminal, other = (i[index]["terminal_observation"] for i in (infos, expected_infos))
                clean = infos[index]["clean_terminal_observation"]
                assert np.array_equal(terminal["position"], other["position"])
                assert np.array_equal(terminal["image"], other["image"])
                assert (clean["position"] == 0.5).all()
        assert (seen["position"] != infos[0]["clean_observation"]["position"]).any()

    def test_every_sensor_of_every_environment_is_disturbed(self):
        disturbed = noise(noisy(std=STD))
        assert (disturbed != 0).all()
        assert len({disturbed[:, index].tobytes() for index in range(N)}) == N

    def test_the_environments_do_not_notice(self):
        """Clean observations, rewards, ends and later start states are those of the bare environments."""
        bare, wrapped = dummy(), noisy(std=10.0)
        bare.seed(3)
        wrapped.seed(3)
        expected = bare.reset()
        wrapped.reset()
        clean = [info["clean_observation"] for info in wrapped.reset_infos]
        assert np.array_equal(clean, expected)
        for action in actions(17):
            expected, rewards, dones, expected_infos = bare.step(action)
            _, noisy_rewards, noisy_dones, infos = wrapped.step(action)
            assert np.array_equal(rewards, noisy_rewards)
            assert np.array_equal(dones, noisy_dones)
            for row, info, expected_info in zip(expected, infos, expected_infos, strict=True):
                assert np.array_equal(info["clean_observation"], row)
                assert info["TimeLimit.truncated"] == expected_info["TimeLimit.truncated"]
                if "terminal_observation" in expected_info:
                    terminal = expected_info["terminal_observation"]
                    assert np.array_equal(info["clean_terminal_observation"], terminal)
                    assert (info["terminal_observation"] != terminal).all()
                    assert info["terminal_observation"].dtype == terminal.dtype

    @pytest.mark.parametrize("seed", [None, 0])
    def test_every_stream_knows_where_in_the_episode_it_is(self, seed):
        """Terminal observations are the last ones of the old episode; the returned rows are first ones."""
        venv = VecObservationDisturbance(dummy(), Count())
        for _ in range(2):
            if seed is not None:
                venv.seed(seed)
            observations, infos = rollout(venv, steps=12)
            counts = np.round(observations[:, :, 0] / 1000)
            assert (counts == np.array([[1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3]]).T).all()
            for step in (4, 9):
                assert [round(info["terminal_observation"][0] / 1000) for info in infos[step]] == [6] * N

    def test_environments_that_end_at_different_times(self):
        lengths = [2, 3, 7]
        venv = VecObservationDisturbance(
            DummyVecEnv([lambda n=n: gym.make("Pendulum-v1", max_episode_steps=n) for n in lengths]), Count()
        )
        counts = np.round(rollout(venv, steps=14)[0][:, :, 0] / 1000)
        for column, length in zip(counts.T, lengths, strict=True):
            assert column.tolist() == [step % length + 1 for step in range(15)]

    def test_reset_infos_hold_the_clean_first_observation(self):
        bare, wrapped = dummy(), noisy()
        bare.seed(3)
        wrapped.seed(3)
        bare.reset()
        wrapped.reset()
        for action in actions(5):
            expected = bare.step(action)[0]
            wrapped.step(action)
        assert np.array_equal([info["clean_observation"] for info in wrapped.reset_infos], expected)

    def test_strength_zero_changes_nothing(self):
        bare, wrapped = dummy(), noisy(std=0.0)
        bare.seed(0)
        wrapped.seed(0)
        assert rollout(bare)[0].tobytes() == rollout(wrapped)[0].tobytes()

    def test_the_space_is_the_real_line(self):
        assert noisy().observation_space == spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def test_a_terminal_observation_of_another_dtype(self):
        """SB3 casts all observations to the space's dtype but the terminal one."""
        space = spaces.Box(-9, 9, (3,), np.float32)
        imprecise = DummyVecEnv([lambda: TransformObservation(pendulum(), np.float64, space)])
        venv = VecObservationDisturbance(imprecise, GaussianNoise(0.1))
        _, infos = rollout(venv, steps=5)
        assert infos[-1][0]["terminal_observation"].dtype == np.float32

    def test_subprocesses_give_the_same(self):
        here, there = noisy(2), VecObservationDisturbance(SubprocVecEnv([pendulum] * 2), GaussianNoise(0.1))
        try:
            here.seed(1)
            there.seed(1)
            seen, infos = rollout(here, 7)
            expected, expected_infos = rollout(there, 7)
        finally:
            there.close()
        assert seen.tobytes() == expected.tobytes()
        assert infos[4][0].keys() == expected_infos[4][0].keys()
        for info, expected_info in zip(infos[4], expected_infos[4], strict=True):
            assert np.array_equal(info["terminal_observation"], expected_info["terminal_observation"])


class TestSeeding:
    def test_equal_seeds_give_equal_noise(self):
        runs = []
        for seed in (4, 4, 5):
            venv = noisy()
            venv.seed(seed)
            runs.append(noise(venv))
        assert np.array_equal(runs[0], runs[1])
        assert differ(runs[0], runs[2])

    def test_seeding_again_starts_again(self):
        venv = noisy()
        assert list(venv.seed(4)) == [4, 5, 6]
        first, second = noise(venv), noise(venv)
        venv.seed(4)
        assert np.array_equal(noise(venv), first)
        assert np.array_equal(noise(venv), second)
        assert differ(first, second)

    def test_a_seed_given_below_counts_too(self):
        """``make_vec_env(..., seed=0)`` seeds the innermost environment, before it is wrapped."""
        runs = [
            noise(VecObservationDisturbance(make_vec_env(pendulum, N, seed=4), GaussianNoise(0.1)))
            for _ in range(2)
        ]
        venv = noisy()
        venv.seed(4)
        assert np.array_equal(*runs)
        assert np.array_equal(runs[0], noise(venv))

    def test_a_seed_given_above_counts_too(self):
        inner = noisy()
        outer = VecMonitor(inner)
        outer.seed(4)
        venv = noisy()
        venv.seed(4)
        assert np.array_equal(rollout(outer)[0], rollout(venv)[0])

    def test_without_any_seed_two_wrappers_differ(self):
        assert differ(noise(noisy()), noise(noisy()))

    def test_a_seed_of_its_own_holds_whatever_the_environments_get(self):
        expected = noise(noisy(seed=7))
        venv = noisy(seed=7)
        for seed in (0, 1):
            venv.seed(seed)
            assert not differ(noise(venv), expected)
        assert differ(noise(noisy(seed=99)), expected)

    def test_with_a_seed_of_its_own_an_unseeded_reset_goes_on(self):
        venv = noisy(seed=7)
        first, second = noise(venv), noise(venv)
        assert differ(first, second)
        again = noisy(seed=7)
        assert not differ(noise(again), first)
        assert not differ(noise(again), second)

    def test_two_wrappers_never_share_a_stream(self):
        disturbance = GaussianNoise(0.1)
        wrappers = [VecObservationDisturbance(dummy(), disturbance) for _ in range(2)]
        for wrapper in wrappers:
            wrapper.seed(0)
        expected = noise(wrappers[0])
        assert np.array_equal(noise(wrappers[1]), expected)

    def test_a_custom_vec_env_that_only_returns_its_seeds(self):
        class OwnSeeding(DummyVecEnv):
            def seed(self, seed=None):
                return [seed + index for index in range(self.num_envs)]

        runs = []
        for _ in range(2):
            venv = VecObservationDisturbance(OwnSeeding([pendulum] * N), GaussianNoise(0.1))
            venv.seed(2)
            runs.append(noise(venv, steps=3))
        assert np.allclose(*runs, atol=1e-6)

    @pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
    def test_bad_seeds_are_refused(self, seed):
        with pytest.raises(ValueError, match="seed must be None or an integer >= 0, received"):
            noisy(seed=seed)


class TestConventions:
    def test_normalisation_goes_outside(self):
        inner = noisy(std=STD)
        venv = VecNormalize(inner)
        venv.seed(0)
        observation = venv.reset()
        raw = venv.get_original_obs()
        assert (raw != [info["clean_observation"] for info in inner.reset_infos]).all()
        assert observation == pytest.approx(venv.normalize_obs(raw))
        for action in actions(5):
            observation, _, dones, infos = venv.step(action)
        assert dones.all()
        assert np.isfinite(observation).all()
        clean = infos[0]["clean_terminal_observation"]
        disturbed = venv.unnormalize_obs(infos[0]["terminal_observation"])
        assert 0 < np.abs(disturbed - clean).max() < 6 * max(STD)

    def test_methods_and_attributes_of_the_environments_are_reached(self):
        venv = VecMonitor(noisy())
        venv.seed(0)
        venv.reset()
        assert [spec.id for spec in venv.get_attr("spec")] == ["Pendulum-v1"] * N
        assert venv.env_method("has_wrapper_attr", "state", indices=[0]) == [True]
        venv.set_attr("mark", 3, indices=1)
        assert venv.get_attr("mark", indices=1) == [3]
        assert venv.env_is_wrapped(ObservationDisturbance) == [False] * N
        assert venv.disturbance == GaussianNoise(0.1)
        assert is_vecenv_wrapped(venv, VecObservationDisturbance)

    def test_frame_stacks_go_outside(self):
        assert VecFrameStack(noisy(), 4).reset().shape == (N, 12)

    def test_the_description_of_a_disturbance_will_do(self):
        venv = VecObservationDisturbance(dummy(), {"name": "gaussian", "std": STD})
        assert venv.disturbance == GaussianNoise(STD)

    def test_ppo_trains_reproducibly(self):
        def train():
            venv = VecNormalize(noisy(2))
            model = PPO("MlpPolicy", venv, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")
            before = copy.deepcopy(model.policy.state_dict())
            model.learn(64)
            after = model.policy.state_dict()
            assert any((before[key] != after[key]).any() for key in after)
            return after

        first, second = train(), train()
        assert all((first[key] == second[key]).all() for key in first)

    def test_evaluation_on_the_clean_task_while_training(self, tmp_path):
        """``EvalCallback`` copies the statistics of a VecNormalize between equally wrapped environments."""
        training = VecNormalize(noisy(2))
        clean = VecObservationDisturbance(dummy(1), GaussianNoise(0.1), strength=0)
        callback = EvalCallback(
            VecMonitor(VecNormalize(clean, training=False)), n_eval_episodes=1, eval_freq=16, verbose=0
        )
        training = VecMonitor(training)
        PPO("MlpPolicy", training, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32, callback)
        assert np.isfinite(callback.last_mean_reward)


class TestRefusals:
    @pytest.mark.parametrize("between", [lambda venv: venv, VecMonitor, lambda venv: VecFrameStack(venv, 2)])
    def test_a_vec_normalize_anywhere_below(self, between):
        venv = between(VecNormalize(dummy()))
        with pytest.raises(
            ValueError, match=r"VecNormalize below it.*VecNormalize\(VecObservationDisturbance"
        ):
            VecObservationDisturbance(venv, GaussianNoise(0.1))

    def test_normalised_environments(self):
        venv = DummyVecEnv([lambda: NormalizeObservation(pendulum())])
        with pytest.raises(ValueError, match="wrapped in NormalizeObservation"):
            VecObservationDisturbance(venv, GaussianNoise(0.1))

    def test_disturbed_environments(self):
        with pytest.raises(ValueError, match=r"disturbed already, by GaussianNoise\(std=0.1\)"):
            VecObservationDisturbance(VecMonitor(noisy()), GaussianNoise(0.2))
        venv = DummyVecEnv([lambda: ObservationDisturbance(pendulum(), GaussianNoise(0.1))])
        with pytest.raises(ValueError, match="wrapped in ObservationDisturbance"):
            VecObservationDisturbance(venv, GaussianNoise(0.2))

    @pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(0, 255, (3,), np.int64)], ids=str)
    def test_spaces_without_units(self, space):
        venv = DummyVecEnv([lambda: TransformObservation(pendulum(), lambda o: o, space)])
        with pytest.raises(
            ValueError, match="needs a floating-point Box or a Box of integers of up to 32 bits"
        ):
            VecObservationDisturbance(venv, GaussianNoise(0.1))

    def test_a_wrong_length_is_named_at_once(self):
        with pytest.raises(
            ValueError, match=r"std=\(0.1, 0.2\)\) has 2 values.*the observation has length 3"
        ):
            noisy(std=[0.1, 0.2])

    @pytest.mark.parametrize("disturbance", [0.1, None, "gaussian:0.1", GaussianNoise])
    def test_what_is_no_disturbance(self, disturbance):
        with pytest.raises(ValueError, match=r"disturbance must be a .*Disturbance.* received"):
            VecObservationDisturbance(dummy(), disturbance)
