"""Each family against its definition, over 10⁶ draws.

Sensors are independent replicas: a statistic is averaged per sensor, and the spread over the sensors is its standard
error. Five standard errors are allowed.
"""

from __future__ import annotations

import numpy as np
import pytest

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

STEPS, SENSORS = 10, 100_000


def shown(disturbance, steps=STEPS, sensors=SENSORS, signal=lambda step: 0.0):
    """One episode of a signal that is the same for all sensors, (steps, sensors)."""
    disturbance.reset(seed=1)
    return np.array([disturbance(np.full(sensors, signal(step), np.float64)) for step in range(steps)])


def assert_mean(samples, expected):
    """The mean of ``samples`` (..., independent replicas) is ``expected``."""
    replicas = samples.reshape(-1, samples.shape[-1]).mean(axis=0)
    error = replicas.std(ddof=1) / np.sqrt(replicas.size)
    assert error > 0
    assert abs(replicas.mean() - expected) < 5 * error


def assert_uncorrelated(samples, others):
    assert_mean(samples * others, 0.0)


class TestUniformNoise:
    @pytest.fixture(scope="class")
    @classmethod
    def errors(cls):
        return shown(UniformNoise(0.3))

    def test_moments(self, errors):
        assert errors.size == 10**6
        assert_mean(errors, 0.0)
        assert_mean(errors**2, 0.3**2 / 3)
        assert_mean(errors**4, 0.3**4 / 5)

    def test_bound_is_met_and_kept(self, errors):
        assert 0.2999 < np.abs(errors).max() <= 0.3

    def test_white(self, errors):
        assert_uncorrelated(errors[1:], errors[:-1])
        assert_uncorrelated(errors[:, 1:], errors[:, :-1])


class TestAutoregressiveNoise:
    STD, RHO = 0.2, 0.8

    @pytest.fixture(scope="class")
    @classmethod
    def errors(cls):
        return shown(AutoregressiveNoise(cls.STD, cls.RHO), steps=100, sensors=10_000)

    @pytest.mark.parametrize("step", [0, 1, 5, 99])
    def test_stationary_from_the_first_step(self, errors, step):
        assert errors.size == 10**6
        assert_mean(errors[step], 0.0)
        assert_mean(errors[step] ** 2, self.STD**2)
        assert_mean(errors[step] ** 4, 3 * self.STD**4)

    @pytest.mark.parametrize("lag", [1, 2, 5, 20])
    def test_autocorrelation(self, errors, lag):
        assert_mean(errors[lag:] * errors[:-lag], self.STD**2 * self.RHO**lag)

    def test_innovations_are_white(self, errors):
        innovations = errors[1:] - self.RHO * errors[:-1]
        assert_uncorrelated(innovations[1:], innovations[:-1])
        assert_mean(innovations**2, self.STD**2 * (1 - self.RHO**2))

    def test_sensors_are_independent(self, errors):
        assert_uncorrelated(errors[:, 1:], errors[:, :-1])

    def test_per_dimension(self):
        std, rho = np.repeat([0.1, 3.0], SENSORS // 2), np.repeat([-0.5, 0.9], SENSORS // 2)
        errors = shown(AutoregressiveNoise(std, rho)) / std
        for half, expected in ((errors[:, : SENSORS // 2], -0.5), (errors[:, SENSORS // 2 :], 0.9)):
            assert_mean(half**2, 1.0)
            assert_mean(half[1:] * half[:-1], expected)

    def test_without_correlation_it_is_white_noise_of_the_same_draws(self):
        assert np.array_equal(shown(AutoregressiveNoise(0.3, 0.0), 100, 3), shown(GaussianNoise(0.3), 100, 3))

    def test_every_episode_begins_anew(self):
        noise = AutoregressiveNoise(1.0, 0.999)
        starts = []
        for _ in range(2):
            noise.reset()
            starts.append(noise(np.zeros(SENSORS)))
        assert_uncorrelated(*starts)


class TestBias:
    def test_one_draw_per_episode(self):
        bias = Bias(0.4)
        bias.reset(seed=0)
        episodes = []
        for _ in range(10):
            bias.reset()
            first = bias(np.zeros(SENSORS))
            assert all(np.array_equal(bias(np.zeros(SENSORS)), first) for _ in range(3))
            episodes.append(first)
        errors = np.array(episodes)
        assert errors.size == 10**6
        assert_mean(errors, 0.0)
        assert_mean(errors**2, 0.4**2)
        assert_mean(errors**4, 3 * 0.4**4)
        assert_uncorrelated(errors[1:], errors[:-1])


class TestDrift:
    @pytest.fixture(scope="class")
    @classmethod
    def errors(cls):
        return shown(Drift(0.1))

    def test_variance_grows_by_one_step_per_step(self, errors):
        for step, row in enumerate(errors):
            assert_mean(row, 0.0)
            assert_mean(row**2, (step + 1) * 0.1**2)

    def test_increments_are_white(self, errors):
        increments = np.diff(errors, axis=0, prepend=0.0)
        assert increments.size == 10**6
        assert_mean(increments**2, 0.1**2)
        assert_uncorrelated(increments[1:], increments[:-1])

    def test_every_episode_begins_at_zero(self):
        drift = Drift(1.0)
        for _ in range(3):
            drift.reset()
            assert_mean(drift(np.zeros(SENSORS)) ** 2, 1.0)


class TestSpikes:
    def test_rate_sign_and_size(self):
        errors = shown(Spikes(0.02, 5.0))
        assert errors.size == 10**6
        assert np.unique(errors).tolist() == [-5.0, 0.0, 5.0]
        assert_mean(errors != 0, 0.02)
        assert_mean(errors > 0, 0.01)
        assert_mean(errors**2, 0.02 * 25)
        hit = errors != 0
        assert_mean(hit[1:] & hit[:-1], 0.02**2)
        assert_mean(hit[:, 1:] & hit[:, :-1], 0.02**2)

    @pytest.mark.parametrize(("probability", "size"), [(0.0, 0), (1.0, 10**6)])
    def test_never_and_always(self, probability, size):
        assert np.count_nonzero(shown(Spikes(probability, 1.0))) == size


class TestQuantization:
    STEP = 0.25

    def test_error_variance(self):
        signal = np.random.default_rng(0).uniform(-100 * self.STEP, 100 * self.STEP, 10**6)
        error = Quantization(self.STEP)(signal) - signal
        assert np.abs(error).max() <= self.STEP / 2
        assert_mean(error, 0.0)
        assert_mean(error**2, self.STEP**2 / 12)

    def test_levels_are_multiples_of_the_step_and_zero_is_one(self):
        levels = Quantization(self.STEP)(np.linspace(-1, 1, 10**6))
        assert np.unique(levels).tolist() == np.arange(-1, 1.25, 0.25).tolist()
        near_zero = Quantization(self.STEP)(np.array([-0.12, 0.12, -0.0]))
        assert near_zero.tolist() == [0.0, 0.0, 0.0]

    def test_halves_go_to_the_even_level(self):
        assert Quantization(1.0)(np.array([0.5, 1.5, 2.5, -0.5, -1.5])).tolist() == [0, 2, 2, 0, -2]

    def test_per_dimension(self):
        assert Quantization([0.0, 0.5, 2.0])(np.full(3, 1.3)).tolist() == [1.3, 1.5, 2.0]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_what_is_coarser_than_the_step_keeps_every_bit(self, dtype):
        values = np.array([np.inf, -np.inf, np.nan, 1e38, -1e30], dtype)
        assert Quantization(1e-300)(values).tobytes() == values.tobytes()


class TestDropout:
    def lost(self, disturbance, steps=STEPS, sensors=SENSORS):
        """Whether each reading after the first was lost, and the age of what is shown."""
        time = np.arange(steps, dtype=float)[:, None]
        age = time - shown(disturbance, steps, sensors, signal=lambda step: step)
        assert not age[0].any()  # nothing had arrived that could be held
        return age[1:] > 0, age

    def test_rate(self):
        lost, _ = self.lost(Dropout(0.3), steps=11)
        assert lost.size == 10**6
        assert_mean(lost, 0.3)
        assert_mean(lost[1:] & lost[:-1], 0.09)
        assert_mean(lost[:, 1:] & lost[:, :-1], 0.09)

    def test_the_last_that_arrived_is_held(self):
        _, age = self.lost(Dropout(0.5))
        for held in range(1, 6):
            assert_mean(age[-1] >= held, 0.5**held)
        assert set(np.diff(age, axis=0).ravel().tolist()) <= {
            1.0,
            0.0,
            -1.0,
            -2.0,
            -3.0,
            -4.0,
            -5.0,
            -6.0,
            -7.0,
            -8.0,
        }

    def test_whole_frames(self):
        dropout = Dropout(0.3, per="frame")
        batch = dropout.batch(1000)
        for index in range(1000):
            batch.reset(index, seed=index)
        lost = []
        for step in range(1001):
            frames = batch(np.full((1000, 2), float(step)))
            assert (frames[:, 0] == frames[:, 1]).all()
            lost.append(frames[:, 0] < step)
        lost = np.array(lost[1:])
        assert lost.size == 10**6
        assert_mean(lost, 0.3)

    def test_zero(self):
        readings = shown(Dropout(0.3, fill="zero"), signal=lambda step: step + 1.0)
        assert ((readings == 0) | (readings == np.arange(1, 11)[:, None])).all()
        assert_mean(readings == 0, 0.3)

    def test_per_dimension(self):
        lost, _ = self.lost(Dropout([0.0, 1.0, 0.5]), sensors=3, steps=1000)
        assert lost.mean(axis=0)[:2].tolist() == [0.0, 1.0]
        assert 0.4 < lost[:, 2].mean() < 0.6

    def test_the_strength_multiplies_the_probability_up_to_one(self):
        assert Dropout(0.3).scaled(2.0) == Dropout(0.6)
        assert Dropout([0.3, 0.6], "zero").scaled(2.0) == Dropout([0.6, 1.0], "zero")


class TestDelay:
    @pytest.mark.parametrize("steps", [0, 1, 4])
    def test_whole_steps_are_exact(self, steps):
        signal = np.random.default_rng(0).normal(size=(100, 10_000)).astype(np.float32)
        delay = Delay(steps)
        delayed = np.array([delay(row) for row in signal])
        assert delayed[steps:].tobytes() == signal[: 100 - steps].tobytes()
        assert (delayed[:steps] == signal[0]).all()

    def test_between_whole_steps_it_interpolates(self):
        delayed = shown(Delay(1.25), steps=6, sensors=1, signal=lambda step: step**2)[:, 0]
        assert delayed.tolist() == [
            0.0,
            0.0,
            0.75,
            0.75 * 4 + 0.25,
            0.75 * 9 + 0.25 * 4,
            0.75 * 16 + 0.25 * 9,
        ]

    def test_per_dimension(self):
        delayed = shown(Delay([0, 2, 0.5]), steps=5, sensors=3, signal=lambda step: 10 + step)
        assert delayed.T.tolist() == [
            [10, 11, 12, 13, 14],
            [10, 10, 10, 11, 12],
            [10, 10.5, 11.5, 12.5, 13.5],
        ]

    def test_every_episode_begins_with_its_own_first_observation(self):
        delay = Delay(3)
        for first in (5.0, -7.0):
            delay.reset()
            assert [delay(np.full(1, first + step))[0] - first for step in range(5)] == [0, 0, 0, 0, 1]

    def test_a_longer_delay_in_one_stream_leaves_the_others_alone(self):
        batch = Delay(1).batch(2)
        seen = []
        for step in range(12):
            if step == 5:
                batch.reset(1, strength=4.0)
            seen.append(batch(np.full((2, 1), float(step)))[:, 0])
        assert np.array(seen).T.tolist() == [
            [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            [0, 0, 1, 2, 3, 5, 5, 5, 5, 5, 6, 7],
        ]


class TestJitter:
    def ages(self, disturbance, steps, sensors):
        time = np.arange(steps, dtype=float)[:, None]
        return time - shown(disturbance, steps, sensors, signal=lambda step: step)

    def survival(self, maximum, age):
        """P(a >= age) in the steady state; see the class."""
        return np.prod([(maximum + 1 - j) / (maximum + 1) for j in range(1, age + 1)])

    def test_distribution_of_the_age(self):
        ages = self.ages(Jitter(3, per="sensor"), STEPS, SENSORS)
        assert ages.size == 10**6
        assert ages.max() == 3
        for age in (1, 2, 3):
            assert_mean(ages[3:] >= age, self.survival(3, age))

    def test_a_maximum_between_whole_steps(self):
        """d = 0, 1, 2 with probabilities 2/5, 2/5, 1/5."""
        ages = self.ages(Jitter(1.5, per="sensor"), STEPS, SENSORS)
        assert_mean(ages[2:] >= 1, 0.6)
        assert_mean(ages[2:] >= 2, 0.6 * 0.2)

    def test_never_out_of_order_and_the_first_is_shown_at_once(self):
        ages = self.ages(Jitter(5, per="sensor"), 100, 10_000)
        assert not ages[0].any()
        assert (np.diff(ages, axis=0) <= 1).all()  # what is shown never gets older by more than the step
        assert (ages <= np.arange(100)[:, None]).all()

    def test_whole_frames(self):
        ages = self.ages(Jitter(3), 20_000, 2)
        assert (ages[:, 0] == ages[:, 1]).all()
        assert set(ages[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0}
        batches = ages[:, 0].reshape(200, 100).T  # nearly independent: the memory is 3 steps
        assert_mean(batches >= 1, self.survival(3, 1))


class TestCompose:
    def test_the_first_acts_first(self):
        """Quantised last, everything is on a level; quantised first, the noise is not."""
        levels = shown(Compose([GaussianNoise(1.0), Quantization(0.5)]))
        assert (levels % 0.5 == 0).all()
        assert_mean(levels**2, 1 + 0.25 / 12)
        assert (shown(Compose([Quantization(0.5), GaussianNoise(1.0)])) % 0.5 != 0).any()

    def test_parts_of_one_family_are_independent(self):
        errors = shown(Compose([GaussianNoise(0.3), GaussianNoise(0.4)]))
        assert_mean(errors**2, 0.25)

    def test_parts_keep_their_own_memory(self):
        delayed = shown(Compose([Delay(1), Delay(2)]), steps=6, sensors=1, signal=lambda step: step)
        assert delayed[:, 0].tolist() == [0, 0, 0, 0, 1, 2]
