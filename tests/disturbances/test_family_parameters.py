"""What each family is built from, and amplitudes in units of what a sensor varies by."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lipsrl.disturbances import (
    AutoregressiveNoise,
    Bias,
    Compose,
    Delay,
    Drift,
    Dropout,
    GaussianNoise,
    Jitter,
    ObservationStatistics,
    Quantization,
    Spikes,
    UniformNoise,
    sensor_std,
)

NOT_AMPLITUDES = [-0.1, np.nan, np.inf, "0.1", None, True, [], [0.1, -0.1], [0.1, np.nan], [[0.1]]]


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (UniformNoise, "bound"),
        (lambda value: AutoregressiveNoise(value, 0.5), "std"),
        (Bias, "std"),
        (Drift, "std"),
        (Quantization, "step"),
        (lambda value: Spikes(0.5, value), "magnitude"),
    ],
)
def test_what_is_no_amplitude_is_refused(build, name):
    for value in NOT_AMPLITUDES:
        with pytest.raises(
            ValueError, match=f"^{name} must be a finite number >= 0, or a sequence .* received"
        ):
            build(value)


@pytest.mark.parametrize(("build", "name"), [(Delay, "steps"), (Jitter, "max_steps")])
def test_what_is_no_delay_is_refused(build, name):
    """All observations back to the delay are kept: 1e9 steps would fill the memory instead of failing."""
    for value in [*NOT_AMPLITUDES, 10_001, [1, 1e9]]:
        with pytest.raises(
            ValueError, match=f"^{name} must be a finite number of control steps from 0 to 10,000, or"
        ):
            build(value)


def test_a_strength_cannot_pass_the_longest_delay():
    with pytest.raises(ValueError, match="from 0 to 10,000"):
        Delay(2).scaled(1e6)


@pytest.mark.parametrize("build", [Dropout, lambda value: Spikes(value, 1.0)])
def test_what_is_no_probability_is_refused(build):
    for value in [*NOT_AMPLITUDES, 1.1, [0.5, 1.1]]:
        with pytest.raises(
            ValueError, match=r"^probability must be a probability from 0 to 1, or .* received"
        ):
            build(value)


def test_what_is_no_correlation_is_refused():
    for value in [1.0, -1.0, 2, np.nan, "0.5", None, [0.5, 1.0]]:
        with pytest.raises(
            ValueError, match=r"^correlation must be a number strictly between -1 and 1, or .* rec"
        ):
            AutoregressiveNoise(0.1, value)


@pytest.mark.parametrize("build", [AutoregressiveNoise, Spikes])
def test_values_per_dimension_are_equally_many(build):
    with pytest.raises(ValueError, match=r"has 2 values and \w+ has 3 values: .* equally many"):
        build([0.1, 0.2], [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "disturbance",
    [
        AutoregressiveNoise(0.1, [0.5, 0.6]),
        Dropout([0.1, 0.2]),
        Delay([1, 2]),
        Compose([Bias(1), Drift([1, 2])]),
    ],
    ids=repr,
)
def test_the_length_must_be_that_of_the_observation(disturbance):
    assert disturbance.dimension == 2
    with pytest.raises(ValueError, match=r"has 2 values, one per observation dimension, but .* length 3"):
        disturbance(np.zeros(3))


class TestWords:
    def test_a_misspelt_word_is_corrected(self):
        with pytest.raises(ValueError, match=r"fill='hodl' is not known. Did you mean 'hold'"):
            Dropout(0.1, fill="hodl")
        with pytest.raises(ValueError, match=r"per='senser' is not known. Did you mean 'sensor'"):
            Jitter(2, per="senser")

    @pytest.mark.parametrize("build", [Dropout, Jitter])
    def test_frames_have_one_value(self, build):
        with pytest.raises(
            ValueError, match=r"per='frame' .* takes one .*received \(0.1, 0.2\).*per='sensor'"
        ):
            build([0.1, 0.2], per="frame")


class TestCompose:
    @pytest.mark.parametrize("value", [[], GaussianNoise(), [0.1], ["gaussian"], None, 0.1, [GaussianNoise]])
    def test_what_is_no_list_of_disturbances(self, value):
        with pytest.raises(ValueError, match="disturbances must be a list of one or more Disturbance"):
            Compose(value)

    def test_parts_of_different_lengths(self):
        with pytest.raises(ValueError, match="for observations of different lengths"):
            Compose([GaussianNoise([0.1, 0.2]), Delay([1, 2, 3])])

    def test_the_parts_are_copies(self):
        part = GaussianNoise(0.1)
        composed = Compose([part])
        composed.reset(seed=0)
        composed(np.zeros(2))
        assert part._stream is None
        assert composed.disturbances[0] is not part

    def test_a_description_will_do(self):
        assert Compose([GaussianNoise(0.1).to_dict()]) == Compose([GaussianNoise(0.1)])


STD = np.array([0.5, 0.0, 4.0])


class TestScaleByStd:
    @pytest.mark.parametrize(
        ("disturbance", "expected"),
        [
            (GaussianNoise(0.1), GaussianNoise(0.1 * STD)),
            (GaussianNoise([1, 2, 3]), GaussianNoise([0.5, 0, 12])),
            (UniformNoise(0.1), UniformNoise(0.1 * STD)),
            (AutoregressiveNoise(0.1, 0.9), AutoregressiveNoise(0.1 * STD, 0.9)),
            (Bias(), Bias(STD)),
            (Drift(), Drift(STD)),
            (Quantization(), Quantization(STD)),
            (Spikes(0.1, 2.0), Spikes(0.1, 2 * STD)),
            (Dropout(0.1, "zero"), Dropout(0.1, "zero")),
            (Delay(2), Delay(2)),
            (Jitter(2), Jitter(2)),
            (Compose([GaussianNoise(), Delay(2)]), Compose([GaussianNoise(STD), Delay(2)])),
        ],
        ids=repr,
    )
    def test_amplitudes_in_sensor_units_are_scaled(self, disturbance, expected):
        assert disturbance.scale_by_std(STD) == expected

    def test_another_length_is_refused(self):
        with pytest.raises(ValueError, match=r"has 2 values .* has 3 values"):
            GaussianNoise([0.1, 0.2]).scale_by_std(STD)

    @pytest.mark.parametrize(
        "statistics",
        [
            STD,
            [0.5, 0.0, 4.0],
            {"mean": [0, 0, 0], "std": STD},
            SimpleNamespace(var=STD**2),
            STD.reshape(3, 1),
        ],
        ids=["array", "list", "mapping", "var", "2-D"],
    )
    def test_forms_of_statistics(self, statistics):
        assert sensor_std(statistics) == (0.5, 0.0, 4.0)

    @pytest.mark.parametrize(
        "statistics",
        [-STD, [np.nan], [np.inf], [], "std", None, {"mean": [1.0]}, SimpleNamespace(var=-STD), 1j],
        ids=repr,
    )
    def test_what_is_no_statistics(self, statistics):
        with pytest.raises(ValueError, match="statistics must be one standard deviation >= 0 per"):
            sensor_std(statistics)

    def test_a_vec_normalize(self):
        venv = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
        with pytest.raises(ValueError, match="there is no standard deviation yet"):
            GaussianNoise(0.1).scale_by_std(venv)
        venv.reset()
        for _ in range(50):
            venv.step([venv.action_space.sample()])
        expected = tuple(0.1 * np.sqrt(venv.obs_rms.var))
        assert GaussianNoise(0.1).scale_by_std(venv).std == pytest.approx(expected)
        assert GaussianNoise(0.1).scale_by_std(venv.obs_rms).std == pytest.approx(expected)

    def test_gymnasiums_normalisation(self):
        env = NormalizeObservation(gym.make("Pendulum-v1"))
        env.reset(seed=0)
        for _ in range(20):
            env.step(env.action_space.sample())
        assert sensor_std(env) == pytest.approx(np.sqrt(env.obs_rms.var))


class TestObservationStatistics:
    def test_equals_numpy_over_everything(self):
        data = np.random.default_rng(0).normal(1e3, [0.01, 1, 100], (1000, 3))
        seen = ObservationStatistics()
        for chunk in np.split(data, [1, 2, 300, 301]):
            seen.update(chunk)
        seen_one_by_one = ObservationStatistics()
        for row in data:
            seen_one_by_one.update(row)
        for statistics in (seen, seen_one_by_one):
            assert statistics.count == 1000
            assert statistics.mean == pytest.approx(data.mean(0), rel=1e-12)
            assert statistics.std == pytest.approx(data.std(0), rel=1e-9)
        assert sensor_std(seen) == tuple(seen.std)

    @pytest.mark.parametrize("value", [np.zeros((2, 2, 2)), np.zeros(0), np.zeros(2), np.zeros((4, 2))])
    def test_other_shapes_are_refused(self, value):
        seen = ObservationStatistics()
        seen.update(np.zeros(3))
        with pytest.raises(ValueError, match=r"observations must have shape \(3,\) or \(n, 3\), received"):
            seen.update(value)

    def test_what_is_not_finite_is_refused(self):
        with pytest.raises(ValueError, match="must be finite"):
            ObservationStatistics().update(np.array([np.nan]))

    def test_one_observation_has_no_deviation(self):
        seen = ObservationStatistics()
        seen.update(np.zeros(3))
        with pytest.raises(ValueError, match="has seen 1 observations"):
            sensor_std(seen)
