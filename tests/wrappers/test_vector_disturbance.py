"""Gymnasium's vector environments, in each autoreset mode."""

from __future__ import annotations

import doctest

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, TimeLimit
from gymnasium.wrappers.vector import NormalizeObservation as VectorNormalizeObservation
from test_observation_disturbance import FAMILIES, Camera

from lipsrl.disturbances import Compose, Delay, Drift, GaussianNoise, Jitter
from lipsrl.wrappers import (
    ActionDisturbance,
    ObservationDisturbance,
    VectorActionDisturbance,
    VectorObservationDisturbance,
    vector_action_disturbance,
    vector_observation_disturbance,
)

LENGTHS = (3, 4, 6)
N = len(LENGTHS)
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]
ACTUATORS = [GaussianNoise(0.3), Compose([Delay(1), GaussianNoise(0.3)]), Jitter(3)]


def pendulum(length):
    return gym.make("Pendulum-v1", max_episode_steps=length)


def vector(mode=AutoresetMode.NEXT_STEP, wrap=lambda env: env, make=pendulum, copy=True):
    """Environments whose episodes have different lengths."""
    return SyncVectorEnv(
        [lambda length=length: wrap(make(length)) for length in LENGTHS], autoreset_mode=mode, copy=copy
    )


def rollout(envs, steps=20, seed=3, mode=AutoresetMode.NEXT_STEP):
    """Observations, and infos, of a reset and some steps; ended episodes are reset where nothing does it."""
    observations, infos = envs.reset(seed=seed)
    seen, told = [observations], [infos]
    for actions in np.random.default_rng(0).uniform(-2, 2, (steps, N, 1)).astype(np.float32):
        observations, _, terminations, truncations, infos = envs.step(actions)
        seen.append(observations)
        told.append(infos)
        done = terminations | truncations
        if mode == AutoresetMode.DISABLED and done.any():
            observations, infos = envs.reset(options={"reset_mask": done})
            seen.append(observations)
            told.append(infos)
    return seen, told


def masked(infos, key):
    """The entries of ``infos[key]`` that are present."""
    return [value for value, present in zip(infos[key], infos[f"_{key}"], strict=True) if present]


@pytest.mark.parametrize("module", [vector_action_disturbance, vector_observation_disturbance])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


class TestObservations:
    @pytest.mark.parametrize("disturbance", FAMILIES, ids=repr)
    @pytest.mark.parametrize("mode", MODES)
    def test_equals_wrapped_environments_bit_for_bit(self, mode, disturbance):
        arguments = {"disturbance": disturbance, "strength": (0.5, 2.0)}
        ours = rollout(VectorObservationDisturbance(vector(mode), **arguments), mode=mode)
        theirs = rollout(vector(mode, lambda env: ObservationDisturbance(env, **arguments)), mode=mode)
        assert np.array(ours[0]).tobytes() == np.array(theirs[0]).tobytes()
        finals = 0
        for infos, others in zip(ours[1], theirs[1], strict=True):
            if "final_obs" in others:
                finals += len(masked(others, "final_obs"))
                assert np.array_equal(masked(infos, "final_obs"), masked(others, "final_obs"))
                clean = masked(others["final_info"], "clean_observation")
                assert np.array_equal(masked(infos, "clean_final_obs"), clean)
        assert finals == (14 if mode == AutoresetMode.SAME_STEP else 0)

    @pytest.mark.parametrize("mode", MODES)
    def test_the_environments_do_not_notice(self, mode):
        bare = np.array(rollout(vector(mode), mode=mode)[0])
        for strength in (0.0, 1.0, 10.0):
            envs = VectorObservationDisturbance(vector(mode), GaussianNoise(1.0), strength=strength)
            seen, infos = rollout(envs, mode=mode)
            clean = np.array([info["clean_observation"] for info in infos])
            assert clean.tobytes() == bare.tobytes()
            assert (np.array(seen).tobytes() == bare.tobytes()) == (strength == 0)

    def test_a_buffer_that_is_written_again(self):
        """``copy=False``: the environments write into the arrays that they returned."""
        envs = [VectorObservationDisturbance(vector(copy=copy), GaussianNoise(0.1)) for copy in (True, False)]
        (seen, infos), (expected, expected_infos) = (rollout(env) for env in envs)
        assert np.array_equal(seen, expected)
        for info, other in zip(infos, expected_infos, strict=True):
            assert np.array_equal(info["clean_observation"], other["clean_observation"])

    def test_dict_observations(self):
        arguments = {"disturbance": Drift(3.0), "keys": ["position", "image"]}

        def camera(length):
            return TimeLimit(Camera(as_dict=True), length)

        for mode in MODES:
            envs = VectorObservationDisturbance(vector(mode, make=camera), **arguments)
            ours = rollout(envs, mode=mode)
            theirs = rollout(
                vector(mode, lambda env: ObservationDisturbance(env, **arguments), make=camera), mode=mode
            )
            for seen, expected in zip(ours[0], theirs[0], strict=True):
                assert seen in envs.observation_space
                for key in ("position", "image", "mode"):
                    assert np.array_equal(seen[key], expected[key])

    @pytest.mark.parametrize("mode", MODES)
    def test_those_that_go_on_are_shown_the_same_after_a_reset_of_some(self, mode):
        def shown(envs):
            reset = {"reset_mask": np.array([True, False, True])}
            yield envs.reset(seed=3)[0]
            yield envs.step(np.zeros((N, 1), np.float32))[0]
            yield envs.reset(options=dict(reset))[0]
            yield envs.reset(seed=5, options=dict(reset))[0]
            for _ in range(2 if mode == AutoresetMode.DISABLED else 8):  # there nobody resets what has ended
                yield envs.step(np.ones((N, 1), np.float32))[0]

        ours = list(shown(VectorObservationDisturbance(vector(mode), Drift(0.3))))
        theirs = list(shown(vector(mode, lambda env: ObservationDisturbance(env, Drift(0.3)))))
        assert np.array(ours).tobytes() == np.array(theirs).tobytes()
        assert (ours[2][1] == ours[1][1]).all()

    def test_other_processes(self):
        envs = AsyncVectorEnv([lambda length=length: pendulum(length) for length in LENGTHS])
        try:
            first = {"reset_mask": np.array([True, False, False])}  # those never reset are shown as they are
            shown, infos = VectorObservationDisturbance(envs, GaussianNoise(0.1)).reset(seed=0, options=first)
            assert (shown != infos["clean_observation"]).all(axis=1).tolist() == [True, False, False]
            assert not shown[1:].any()
            seen = rollout(VectorObservationDisturbance(envs, GaussianNoise(0.1)))[0]
        finally:
            envs.close()
        assert np.array_equal(seen, rollout(VectorObservationDisturbance(vector(), GaussianNoise(0.1)))[0])


class TestActions:
    @pytest.mark.parametrize("disturbance", ACTUATORS, ids=repr)
    @pytest.mark.parametrize("mode", MODES)
    def test_equals_wrapped_environments_bit_for_bit(self, mode, disturbance):
        arguments = {"disturbance": disturbance, "strength": (0.5, 1.0)}
        ours = rollout(VectorActionDisturbance(vector(mode), **arguments), mode=mode)
        theirs = rollout(vector(mode, lambda env: ActionDisturbance(env, **arguments)), mode=mode)
        assert np.array(ours[0]).tobytes() == np.array(theirs[0]).tobytes()
        for infos, others in zip(ours[1], theirs[1], strict=True):
            if "applied_action" in others and mode != AutoresetMode.SAME_STEP:
                assert np.array_equal(masked(infos, "applied_action"), masked(others, "applied_action"))

    def test_the_action_of_a_reset_is_not_used(self):
        _, infos = rollout(VectorActionDisturbance(vector(), Delay(1)), steps=8)
        used = np.array([info["_applied_action"] for info in infos[1:]])
        assert used.T.tolist() == [
            [True, True, True, False, True, True, True, False],
            [True, True, True, True, False, True, True, True],
            [True, True, True, True, True, True, False, True],
        ]

    def test_sensors_and_actuators_together(self):
        envs = VectorObservationDisturbance(
            VectorActionDisturbance(vector(), GaussianNoise(0.3)), GaussianNoise(0.1)
        )
        expected = vector(
            wrap=lambda env: ObservationDisturbance(
                ActionDisturbance(env, GaussianNoise(0.3)), GaussianNoise(0.1)
            )
        )
        assert np.array_equal(rollout(envs)[0], rollout(expected)[0])


class TestSeeding:
    def test_seeds_of_the_environments(self):
        envs = VectorObservationDisturbance(vector(), GaussianNoise(0.1))
        assert np.array_equal(rollout(envs, seed=3)[0], rollout(envs, seed=[3, 4, 5])[0])
        assert not np.array_equal(rollout(envs, seed=3)[0], rollout(envs, seed=4)[0])
        assert not np.array_equal(rollout(envs, seed=None)[0], rollout(envs, seed=None)[0])

    def test_a_seed_of_its_own(self):
        def noise(seed):
            seen, infos = rollout(
                VectorObservationDisturbance(vector(), GaussianNoise(0.1), seed=7), seed=seed
            )
            return np.array(seen) - np.array([info["clean_observation"] for info in infos])

        assert noise(1) == pytest.approx(noise(2), abs=1e-5)


class TestConventions:
    def test_arguments_are_recorded(self):
        envs = VectorObservationDisturbance(vector(), GaussianNoise(0.1), seed=2, strength=0.5)
        assert isinstance(envs, RecordConstructorArgs)
        again = VectorObservationDisturbance(vector(), **envs._saved_kwargs)
        assert np.array_equal(rollout(envs)[0], rollout(again)[0])

    def test_spaces(self):
        envs = VectorObservationDisturbance(vector(), GaussianNoise(0.1))
        assert envs.single_observation_space == gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        assert envs.observation_space == gym.spaces.Box(-np.inf, np.inf, (N, 3), np.float32)

    def test_normalisation_goes_outside(self):
        with pytest.raises(ValueError, match=r"NormalizeObservation\(VectorObservationDisturbance\("):
            VectorObservationDisturbance(VectorNormalizeObservation(vector()), GaussianNoise(0.1))
        with pytest.raises(ValueError, match=r"NormalizeObservation\(ObservationDisturbance\("):
            VectorObservationDisturbance(vector(wrap=NormalizeObservation), GaussianNoise(0.1))
        VectorNormalizeObservation(VectorObservationDisturbance(vector(), GaussianNoise(0.1))).reset(seed=0)

    def test_second_ones_are_refused(self):
        for vec, single in (
            (VectorObservationDisturbance, ObservationDisturbance),
            (VectorActionDisturbance, ActionDisturbance),
        ):
            with pytest.raises(ValueError, match="disturbed already"):
                vec(vec(vector(), Delay(1)), Delay(1))
            with pytest.raises(ValueError, match="disturbed already"):
                vec(vector(wrap=lambda env, single=single: single(env, Delay(1))), Delay(1))
