"""Gaussian noise: its statistics, its parameters, its draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lipsrl.disturbances import GaussianNoise
from lipsrl.disturbances._seeding import seed_sequence

amplitudes = st.floats(0, 1e6)
seeds = st.integers(0, 2**64)


STD = np.array([0.05, 3.0])


@pytest.fixture(scope="module")
def draws():
    """A million normalised draws, (steps, streams, sensors): 25 000 x 20 x 2."""
    batch = GaussianNoise(STD).batch(20)
    for index in range(20):
        batch.reset(index, seed=index)
    zeros = np.zeros((20, 2))
    return np.array([batch(zeros) for _ in range(25_000)]) / STD


class TestStatistics:
    """Tolerances are four standard errors."""

    def test_mean_is_zero(self, draws):
        assert draws.size == 10**6
        assert np.abs(draws.mean((0, 1))).max() < 4 / np.sqrt(draws[..., 0].size)

    def test_standard_deviation_is_that_of_each_sensor(self, draws):
        assert draws.std((0, 1)) == pytest.approx([1, 1], abs=4 / np.sqrt(2 * draws[..., 0].size))

    def test_the_distribution_is_normal(self, draws):
        z = draws.ravel()
        assert (z**3).mean() == pytest.approx(0, abs=4 * np.sqrt(15 / z.size))
        assert (z**4).mean() == pytest.approx(3, abs=4 * np.sqrt(96 / z.size))
        for quantile, fraction in ((-1.959964, 0.025), (0.0, 0.5), (2.326348, 0.99)):
            tolerance = 4 * np.sqrt(fraction * (1 - fraction) / z.size)
            assert (z < quantile).mean() == pytest.approx(fraction, abs=tolerance)

    @pytest.mark.parametrize("lag", [1, 2, 63, 64, 65])  # around the length of a block of draws
    def test_successive_steps_are_uncorrelated(self, draws, lag):
        products = draws[lag:] * draws[:-lag]
        assert np.abs(products.mean((0, 1))).max() < 4 / np.sqrt(products[..., 0].size)

    def test_sensors_are_uncorrelated(self, draws):
        """One scalar draw for all sensors would give 1."""
        products = draws[..., 0] * draws[..., 1]
        assert abs(products.mean()) < 4 / np.sqrt(products.size)

    def test_streams_are_uncorrelated(self, draws):
        correlation = np.corrcoef(draws[..., 0].T)
        np.fill_diagonal(correlation, 0)
        assert np.abs(correlation).max() < 5 / np.sqrt(len(draws))


class TestDraws:
    def test_they_are_those_of_the_seed_one_step_after_the_other(self):
        noise = GaussianNoise([1.0, 2.0])
        noise.reset(seed=3)
        generator = np.random.default_rng(seed_sequence(3))
        for _ in range(200):
            assert np.array_equal(noise(np.zeros(2)), [1.0, 2.0] * generator.standard_normal(2))

    def test_they_are_not_those_of_an_environment_with_the_same_seed(self):
        """Gymnasium seeds ``env.np_random`` with the plain ``SeedSequence(seed)``."""
        noise = GaussianNoise(1.0)
        noise.reset(seed=3)
        draws = np.array([noise(np.zeros(1))[0] for _ in range(1000)])
        environment = np.random.default_rng(3).standard_normal(1000)
        assert abs(np.corrcoef(draws, environment)[0, 1]) < 0.15

    def test_the_sum_is_rounded_once(self):
        observation = np.array([1.0, -2.5, 1e-3], np.float32)
        noise = GaussianNoise(0.1)
        noise.reset(seed=0)
        drawn = np.random.default_rng(seed_sequence(0)).standard_normal(3)
        assert np.array_equal(
            noise(observation), (observation.astype(float) + 0.1 * drawn).astype(np.float32)
        )

    def test_a_sensor_without_noise_keeps_every_bit(self):
        batch = GaussianNoise([0.0, 1.0]).batch(2)
        disturbed = batch(np.array([[-0.0, 1.0], [np.nan, 2.0]]))
        assert np.signbit(disturbed[0, 0])
        assert np.isnan(disturbed[1, 0])
        assert (disturbed[:, 1] != [1.0, 2.0]).all()


class TestParameters:
    @pytest.mark.parametrize(
        ("std", "stored"),
        [
            (0.2, 0.2),
            (1, 1.0),
            (np.float32(0.5), 0.5),
            (np.array(0.5), 0.5),
            ([1, 2], (1.0, 2.0)),
            ((0.1,), (0.1,)),
            (np.array([0.1, 0.0]), (0.1, 0.0)),
        ],
    )
    def test_a_number_or_one_per_dimension(self, std, stored):
        assert GaussianNoise(std).std == stored
        assert type(GaussianNoise(std).std) is type(stored)

    def test_the_unit_is_the_default(self):
        assert GaussianNoise() == GaussianNoise(1.0)

    @pytest.mark.parametrize(
        "std",
        [
            -0.1,
            np.nan,
            np.inf,
            "0.1",
            None,
            True,
            1j,
            [],
            [0.1, -0.1],
            [0.1, np.nan],
            [[0.1]],
            [0.1, [0.2]],
            {},
        ],
    )
    def test_what_is_no_standard_deviation_is_refused(self, std):
        with pytest.raises(ValueError, match=r"std must be a finite number >= 0, or a sequence .* received"):
            GaussianNoise(std)

    def test_a_strength_beyond_floats_is_refused(self):
        with pytest.raises(ValueError, match="std must be a finite number"):
            GaussianNoise(1e300).scaled(1e300)

    def test_the_length_must_be_that_of_the_observation(self):
        message = r"GaussianNoise\(std=\(0.1, 0.2\)\) has 2 values.*has length 3.*one number.*or 3 values"
        with pytest.raises(ValueError, match=message):
            GaussianNoise([0.1, 0.2])(np.zeros(3))
        with pytest.raises(ValueError, match=message):
            GaussianNoise([0.1, 0.2]).batch(2)(np.zeros((2, 3)))

    def test_an_array_that_changes_later_changes_nothing(self):
        std = np.array([0.1, 0.2])
        noise = GaussianNoise(std)
        std[:] = 5
        assert noise == GaussianNoise([0.1, 0.2])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_batch_equals_loop_for_any_size_scale_and_seed(data):
    n, dim, steps = (data.draw(st.integers(1, high)) for high in (4, 5, 70))
    std = data.draw(amplitudes | st.lists(amplitudes, min_size=dim, max_size=dim))
    strengths = data.draw(st.lists(st.floats(0, 100), min_size=n, max_size=n))
    stream_seeds = data.draw(st.lists(seeds, min_size=n, max_size=n))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    observations = data.draw(hnp.arrays(dtype, (n, dim), elements=st.floats(-1e6, 1e6, width=32)))
    noise = GaussianNoise(std)
    batch, singles = noise.batch(n), [noise.scaled(strength) for strength in strengths]
    for index in range(n):
        batch.reset(index, stream_seeds[index], strengths[index])
        singles[index].reset(stream_seeds[index])
    for _ in range(steps):
        together = batch(observations)
        alone = np.array([single(row) for single, row in zip(singles, observations, strict=True)])
        assert together.tobytes() == alone.tobytes()
        assert together.dtype == alone.dtype == dtype


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2),
        elements=st.floats(width=16),
    ),
    amplitudes,
)
def test_strength_zero_is_the_identity_for_any_array(observations, std):
    before = observations.copy()
    disturbed = GaussianNoise(std).scaled(0).batch(len(observations))(observations)
    assert disturbed.tobytes() == before.tobytes() == observations.tobytes()
    assert disturbed.dtype == observations.dtype
    assert not np.may_share_memory(disturbed, observations)
