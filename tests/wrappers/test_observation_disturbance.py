"""The Gymnasium wrapper."""

from __future__ import annotations

import copy
import doctest
import pickle

import gymnasium as gym
import numpy as np
import pytest
from counting_disturbance import Count
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import ClipAction, NormalizeObservation, RescaleAction, TransformObservation
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

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
    UniformNoise,
)
from lipsrl.wrappers import ObservationDisturbance, observation_disturbance

STD = [0.1, 0.1, 0.5]
FAMILIES = [
    GaussianNoise(STD),
    UniformNoise(STD),
    AutoregressiveNoise(STD, 0.9),
    Bias(STD),
    Drift(STD),
    Quantization(STD),
    Dropout(0.5),
    Spikes(0.5, STD),
    Delay(2),
    Jitter(3),
    Compose([GaussianNoise(STD), Delay(1)]),
]


def pendulum(**kwargs):
    return gym.make("Pendulum-v1", **kwargs)


def noisy_pendulum(std=0.1, seed=None, **kwargs):
    return ObservationDisturbance(pendulum(**kwargs), GaussianNoise(std), seed=seed)


def episode(env, seed=None, steps=8):
    """(observations, clean observations) of the reset with ``seed`` and ``steps`` random steps."""
    observation, info = env.reset(seed=seed)
    seen, clean = [observation], [info["clean_observation"]]
    actions = np.random.default_rng(0).uniform(-2, 2, (steps, 1)).astype(np.float32)
    for action in actions:
        observation, _, _, _, info = env.step(action)
        seen.append(observation)
        clean.append(info["clean_observation"])
    return np.array(seen), np.array(clean)


def noise(env, seed=None, steps=8):
    seen, clean = episode(env, seed, steps)
    return seen.astype(np.float64) - clean


def differ(noise, other):
    """By more than the rounding of the sum to float32, which depends on the clean observation."""
    return np.abs(noise - other).max() > 0.01


def test_examples_run():
    results = doctest.testmod(observation_disturbance)
    assert results.attempted > 0
    assert results.failed == 0


class TestObservations:
    def test_reset_and_steps_are_disturbed_in_every_sensor(self):
        assert (noise(noisy_pendulum(STD), seed=0) != 0).all()

    def test_the_noise_is_that_of_the_disturbance(self):
        seen, clean = episode(noisy_pendulum(STD), seed=3)
        disturbance = GaussianNoise(STD)
        disturbance.reset(3)
        assert np.array_equal(seen, [disturbance(observation) for observation in clean])

    def test_the_dtype_stays(self):
        seen, clean = episode(noisy_pendulum())
        assert seen.dtype == clean.dtype == np.float32

    def test_strength_zero_changes_nothing(self):
        seen, clean = episode(noisy_pendulum(0.0), seed=0)
        assert seen.tobytes() == clean.tobytes()

    def test_the_space_is_the_real_line(self):
        env = noisy_pendulum(5.0)
        assert env.observation_space == spaces.Box(-np.inf, np.inf, (3,), np.float32)
        seen, _ = episode(env, seed=0)
        assert not all(observation in env.env.observation_space for observation in seen)
        assert all(observation in env.observation_space for observation in seen)

    def test_the_clean_observation_is_a_copy(self):
        """Some environments write into the array that they returned."""

        class OneBuffer(gym.Env):
            observation_space = spaces.Box(-1, 1, (2,), np.float64)
            action_space = spaces.Box(-1, 1, (1,), np.float32)
            buffer = np.zeros(2)
            info: dict = {}  # noqa: RUF012

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                self.buffer[:] = 0
                return self.buffer, self.info

            def step(self, action):
                self.buffer += 1
                return self.buffer, 0.0, False, False, self.info

        env = ObservationDisturbance(OneBuffer(), GaussianNoise(0.1))
        _, clean = episode(env, seed=0, steps=3)
        assert clean[:, 0].tolist() == [0, 1, 2, 3]
        assert OneBuffer.info == {}

    @pytest.mark.parametrize("seed", [None, 0])
    def test_every_reset_starts_an_episode_of_the_disturbance(self, seed):
        env = ObservationDisturbance(pendulum(), Count())
        for _ in range(2):
            seen, clean = episode(env, seed=seed, steps=3)
            assert np.round((seen - clean)[:, 0] / 1000).tolist() == [1, 2, 3, 4]

    def test_info_reward_and_ends_pass_through(self):
        clean, noisy = pendulum(max_episode_steps=3), noisy_pendulum(max_episode_steps=3)
        clean.reset(seed=0)
        noisy.reset(seed=0)
        action = np.array([0.5], np.float32)
        for _ in range(3):
            expected, got = clean.step(action), noisy.step(action)
            assert expected[1:4] == got[1:4]
            assert got[4].keys() == expected[4].keys() | {"clean_observation"}
        assert got[3]


class TestTheEnvironmentDoesNotNotice:
    @pytest.mark.parametrize("std", [0.0, 0.1, 10.0])
    def test_its_trajectory_and_later_start_states_are_the_same(self, std):
        """Three episodes, only the first one seeded: noise drawn from np_random would move the others."""
        bare, wrapped = pendulum(), noisy_pendulum(std)
        for seed in (5, None, None):
            observation, _ = bare.reset(seed=seed)
            _, info = wrapped.reset(seed=seed)
            for action in np.linspace(-2, 2, 20, dtype=np.float32)[:, None]:
                assert np.array_equal(info["clean_observation"], observation)
                observation, reward, *_ = bare.step(action)
                _, noisy_reward, _, _, info = wrapped.step(action)
                assert reward == noisy_reward

    @pytest.mark.parametrize("disturbance", FAMILIES, ids=repr)
    def test_every_family_at_every_strength(self, disturbance):
        """Same start states and, for the same actions, same trajectories; at strength 0 nothing is changed."""
        bare = [episode(ObservationDisturbance(pendulum(), GaussianNoise(0)), seed=seed) for seed in (4, 5)]
        for strength in (0.0, 0.5, 2.0):
            env = ObservationDisturbance(pendulum(), disturbance, strength=strength)
            for seed, (_, expected) in zip((4, 5), bare, strict=True):
                seen, clean = episode(env, seed=seed)
                assert clean.tobytes() == expected.tobytes()
                assert (seen.tobytes() == clean.tobytes()) == (strength == 0)

    def test_its_generator_is_not_shared(self):
        env = noisy_pendulum()
        env.reset(seed=0)
        before = copy.deepcopy(env.unwrapped.np_random.bit_generator.state)
        for _ in range(10):
            env.step(np.zeros(1, np.float32))
        assert env.unwrapped.np_random.bit_generator.state == before


class TestSeeding:
    def test_a_seeded_reset_seeds_the_noise(self):
        env = noisy_pendulum()
        first = episode(env, seed=1)[0]
        assert np.array_equal(first, episode(env, seed=1)[0])
        assert np.array_equal(first, episode(noisy_pendulum(), seed=1)[0])
        assert differ(noise(env, seed=1), noise(env, seed=2))

    def test_an_unseeded_reset_goes_on_reproducibly(self):
        env = noisy_pendulum()
        first, second = noise(env, seed=1), noise(env)
        assert np.array_equal(first, noise(env, seed=1))
        assert np.array_equal(second, noise(env))
        assert differ(first, second)

    def test_without_any_seed_two_wrappers_differ(self):
        assert differ(noise(noisy_pendulum()), noise(noisy_pendulum()))

    def test_a_seed_of_its_own_holds_whatever_the_environment_gets(self):
        expected = noise(noisy_pendulum(seed=7))
        env = noisy_pendulum(seed=7)
        for seed in (0, 1):
            assert not differ(noise(env, seed), expected)
        assert np.array_equal(episode(env, seed=1)[0], episode(env, seed=1)[0])
        assert differ(noise(noisy_pendulum(seed=8)), expected)

    def test_with_a_seed_of_its_own_an_unseeded_reset_goes_on(self):
        env = noisy_pendulum(seed=7)
        first, second = noise(env), noise(env)
        assert differ(first, second)
        again = noisy_pendulum(seed=7)
        assert not differ(noise(again), first)
        assert not differ(noise(again), second)

    def test_two_wrappers_never_share_a_stream(self):
        disturbance = GaussianNoise(0.1)
        disturbance.reset(0)
        untouched = pickle.dumps(disturbance)
        wrappers = [ObservationDisturbance(pendulum(), disturbance) for _ in range(2)]
        expected = noise(wrappers[0], seed=1)
        wrappers[0].reset(seed=1)
        wrappers[1].reset(seed=1)
        assert np.array_equal(noise(wrappers[1], seed=1), expected)
        assert pickle.dumps(disturbance) == untouched

    @pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
    def test_bad_seeds_are_refused(self, seed):
        with pytest.raises(ValueError, match="seed must be None or an integer >= 0, received"):
            noisy_pendulum(seed=seed)


class Camera(gym.Env):
    """Grey images of 2x3 pixels, and a Dict of them with a position and a mode."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, as_dict=False):
        self.as_dict = as_dict
        image = spaces.Box(0, 255, (2, 3, 1), np.uint8)
        self.observation_space = image
        if as_dict:
            self.observation_space = spaces.Dict(
                {
                    "image": image,
                    "mode": spaces.Discrete(3),
                    "position": spaces.Box(-1, 1, (2, 2), np.float64),
                }
            )

    def observe(self):
        image = np.array([0, 1, 100, 101, 254, 255], np.uint8).reshape(2, 3, 1)
        return {"position": np.full((2, 2), 0.5), "image": image, "mode": 1} if self.as_dict else image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        return self.observe(), 0.0, False, False, {}


class TestOtherSpaces:
    def test_images_are_rounded_and_clipped(self):
        env = ObservationDisturbance(Camera(), GaussianNoise(2.0))
        assert env.observation_space == env.unwrapped.observation_space
        seen, clean = episode(env, seed=0, steps=2000)
        assert seen.dtype == np.uint8
        assert seen.min() == 0
        assert seen.max() == 255
        middle = seen[:, 0, 2, 0].astype(float) - clean[:, 0, 2, 0]
        # rounding adds the variance of a quantisation error, 1/12
        assert middle.var() == pytest.approx(4 + 1 / 12, abs=5 * 4 * np.sqrt(2 / 2000))
        assert (seen[:, 0, 0, 0] == 0).mean() > 0.5  # black is clipped, it does not wrap to white
        assert seen[:, 0, 0, 0].max() < 20

    def test_images_at_strength_zero(self):
        seen, clean = episode(ObservationDisturbance(Camera(), GaussianNoise(2.0), strength=0))
        assert seen.tobytes() == clean.tobytes()

    def test_images_pass_the_checker(self):
        env = ObservationDisturbance(Camera(), GaussianNoise(2.0))
        with pytest.warns(UserWarning, match="different from the unwrapped version"):
            gymnasium_check_env(env, skip_render_check=True)

    def test_any_shape_in_flattened_order(self):
        square = TransformObservation(pendulum(), lambda o: o.reshape(3, 1), spaces.Box(-9, 9, (3, 1)))
        env = ObservationDisturbance(square, GaussianNoise([0.0, 0.1, 0.0]))
        assert env.observation_space == spaces.Box(-np.inf, np.inf, (3, 1), np.float32)
        seen, clean = episode(env, seed=0)
        assert seen.shape == (9, 3, 1)
        assert ((seen != clean) == [[[False], [True], [False]]]).all()

    def test_named_entries_of_a_dict(self):
        bias = Bias([9] * 6 + [0, 1, 0, 1])
        env = ObservationDisturbance(Camera(as_dict=True), bias, keys=("image", "position"))
        assert env.observation_space["image"] == env.unwrapped.observation_space["image"]
        assert env.observation_space["position"] == spaces.Box(-np.inf, np.inf, (2, 2), np.float64)
        seen, info = env.reset(seed=0)
        assert seen in env.observation_space
        clean = info["clean_observation"]
        assert list(seen) == list(clean) == ["position", "image", "mode"]
        assert seen["mode"] == clean["mode"] == 1
        assert (seen["position"] != clean["position"]).tolist() == [[False, True], [False, True]]
        assert (seen["image"] != clean["image"]).sum() >= 3
        bias.reset(0)
        assert np.array_equal(seen["position"].ravel(), 0.5 + bias(np.zeros(10))[6:])

    @pytest.mark.filterwarnings("ignore:The minimal resolution for an image:UserWarning")
    @pytest.mark.filterwarnings("ignore:Your observation position has an unconventional shape:UserWarning")
    def test_a_dict_passes_the_checker(self):
        env = ObservationDisturbance(Camera(as_dict=True), GaussianNoise(0.1), keys=["position"])
        sb3_check_env(env)

    @pytest.mark.parametrize("keys", [None, [], ["depth"], ["image", "image"]])
    def test_keys_of_a_dict_are_named(self, keys):
        with pytest.raises(
            ValueError, match=r"say with keys= which of its entries \['image', 'mode', 'position'\]"
        ):
            ObservationDisturbance(Camera(as_dict=True), GaussianNoise(0.1), keys=keys)

    def test_entries_without_units(self):
        with pytest.raises(ValueError, match=r"not Discrete\(3\)"):
            ObservationDisturbance(Camera(as_dict=True), GaussianNoise(0.1), keys=["mode"])

    def test_a_box_has_no_keys(self):
        with pytest.raises(
            ValueError, match=r"keys=\('image',\) name entries of a Dict space, but the space is Box"
        ):
            ObservationDisturbance(Camera(), GaussianNoise(0.1), keys="image")

    def test_dict_observations_of_a_length(self):
        with pytest.raises(ValueError, match=r"has 3 values.*has length 10"):
            ObservationDisturbance(Camera(as_dict=True), GaussianNoise(STD), keys=["image", "position"])


class TestConventions:
    # the checker has something to say about every wrapper and every unbounded Box
    @pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
    @pytest.mark.filterwarnings("ignore:.*A Box observation space .* is -?infinity:UserWarning")
    @pytest.mark.parametrize("seed", [None, 3])
    def test_gymnasium_check_env(self, seed):
        env = ObservationDisturbance(gym.make("MountainCarContinuous-v0"), GaussianNoise(0.1), seed=seed)
        gymnasium_check_env(env, skip_render_check=True)

    def test_sb3_check_env(self):
        sb3_check_env(ObservationDisturbance(RescaleAction(pendulum(), -1, 1), GaussianNoise(STD)))

    @pytest.mark.parametrize("seed", [None, 3])
    def test_it_is_rebuilt_from_its_spec(self, seed):
        env = ClipAction(noisy_pendulum(STD, seed=seed))
        via_json = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
        for spec in (env.spec, via_json):
            rebuilt = gym.make(spec)
            assert rebuilt.env.disturbance == GaussianNoise(STD)
            assert np.array_equal(episode(rebuilt, seed=2)[0], episode(env, seed=2)[0])

    def test_it_is_made_by_name(self):
        wrapper = ObservationDisturbance.wrapper_spec(disturbance={"name": "gaussian", "std": 0.2})
        spec = copy.deepcopy(gym.spec("Pendulum-v1"))
        spec.additional_wrappers = (wrapper,)
        assert gym.make(spec).disturbance == GaussianNoise(0.2)

    def test_a_deepcopy_goes_on_with_the_same_noise(self):
        env = noisy_pendulum()
        env.reset(seed=0)
        twin = copy.deepcopy(env)
        action = np.zeros(1, np.float32)
        assert np.array_equal(env.step(action)[0], twin.step(action)[0])

    def test_ppo_trains_on_it(self):
        model = PPO(
            "MlpPolicy", noisy_pendulum(), n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu"
        )
        before = copy.deepcopy(model.policy.state_dict())
        model.learn(64)
        assert model.num_timesteps == 64
        assert any((before[k] != v).any() for k, v in model.policy.state_dict().items())


class TestRefusals:
    @pytest.mark.parametrize(
        "space",
        [
            spaces.Discrete(3),
            spaces.MultiBinary(3),
            spaces.Box(0, 255, (4,), np.int64),
            spaces.Tuple([spaces.Box(-1, 1, (2,))]),
        ],
        ids=["Discrete", "MultiBinary", "wide integers", "Tuple"],
    )
    def test_spaces_without_units(self, space):
        env = TransformObservation(pendulum(), lambda o: o, space)
        with pytest.raises(
            ValueError, match="needs a floating-point Box or a Box of integers of up to 32 bits"
        ):
            ObservationDisturbance(env, GaussianNoise(0.1))

    def test_a_wrong_length_is_named_at_once(self):
        with pytest.raises(
            ValueError, match=r"std=\(0.1, 0.2\)\) has 2 values.*the observation has length 3"
        ):
            noisy_pendulum([0.1, 0.2])

    @pytest.mark.parametrize("disturbance", [0.1, None, "gaussian:0.1", GaussianNoise])
    def test_what_is_no_disturbance(self, disturbance):
        with pytest.raises(ValueError, match=r"disturbance must be a .*Disturbance.* received"):
            ObservationDisturbance(pendulum(), disturbance)

    def test_normalised_units(self):
        with pytest.raises(
            ValueError, match=r"a NormalizeObservation below.*NormalizeObservation\(ObservationDisturbance\("
        ):
            ObservationDisturbance(ClipAction(NormalizeObservation(pendulum())), GaussianNoise(0.1))
        outside = NormalizeObservation(noisy_pendulum())
        assert (outside.reset(seed=0)[0] != outside.reset(seed=1)[0]).all()

    def test_two_wrappers_on_one_environment(self):
        """Both would draw from the seed of the reset: twice the same noise."""
        with pytest.raises(ValueError, match=r"disturbed already, by GaussianNoise\(std=0.1\)"):
            ObservationDisturbance(ClipAction(noisy_pendulum(0.1)), GaussianNoise(0.2))
