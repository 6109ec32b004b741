"""Smoothness metrics against their closed forms."""

import doctest
import importlib
import itertools
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import lipsrl.metrics
from lipsrl.metrics import (
    action_fluctuation,
    high_frequency_ratio,
    jerk,
    per_channel,
    saturation,
    spectral_smoothness,
    total_variation,
)

SEQUENCE_METRICS = [action_fluctuation, total_variation, jerk, spectral_smoothness, high_frequency_ratio]
STEPS = 200
TIME = np.arange(STEPS)


def sine(cycles: int, amplitude: float = 1.0) -> np.ndarray:
    """A sine that fits the window, so that its spectrum is one bin."""
    return amplitude * np.sin(2 * np.pi * cycles * TIME / STEPS)


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(lipsrl.metrics.__path__)])
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"lipsrl.metrics.{module}")).failed == 0


def test_fluctuation_of_a_ramp_is_its_slope():
    assert action_fluctuation(np.outer(TIME, [3.0, 4.0])) == pytest.approx(5.0, abs=1e-12)


def test_fluctuation_of_a_sine():
    """A sine of amplitude A that starts and ends at a zero travels 4A per cycle, here over T − 1 steps."""
    quarters = 1.5 * np.sin(np.linspace(0, 2 * np.pi * 5, 201))
    assert action_fluctuation(quarters) == pytest.approx(4 * 1.5 * 5 / 200, abs=1e-9)
    assert total_variation(quarters) == pytest.approx(4 * 1.5 * 5, abs=1e-9)


def test_expectations_of_white_noise_over_all_sign_sequences():
    """White noise of ±1 has only 2^n sequences: the expectation is their mean, exactly."""
    sequences = np.array(list(itertools.product([-1.0, 1.0], repeat=8)))
    assert np.mean([action_fluctuation(s) for s in sequences]) == pytest.approx(1.0, abs=1e-6)
    assert np.mean([total_variation(s) for s in sequences]) == pytest.approx(7.0, abs=1e-6)
    # |±1 ±3 ±3 ±1| is 8, 6, 6, 4, 2, 2, 0, 0 over the patterns up to sign
    assert np.mean([jerk(s) for s in sequences]) == pytest.approx(28 / 8, abs=1e-6)


def gaussian_mean(metric, u, v, kink=0.0):
    """E of metric(z₁u + z₂v), z standard normal, of a metric that is homogeneous and even: by polar coordinates.

    E r = √(π/2), and over the angle Gauss–Legendre on the half circle that begins where the metric has its kink.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    angles = kink + (nodes + 1) * np.pi / 2
    values = [metric(np.cos(angle) * u + np.sin(angle) * v) for angle in angles]
    return np.sqrt(np.pi / 2) * np.dot(weights, values) / 2


def test_expectations_of_gaussian_white_noise():
    """2s/√π, (T − 1)·2s/√π and s·√(40/π), without a random number."""
    first, second = 0.3 * np.eye(2)
    assert gaussian_mean(action_fluctuation, first, second, np.pi / 4) == pytest.approx(
        0.6 / np.sqrt(np.pi), abs=1e-9
    )
    assert gaussian_mean(total_variation, first, second, np.pi / 4) == pytest.approx(
        0.6 / np.sqrt(np.pi), abs=1e-9
    )
    # the third difference sees one direction of the four only, and is zero in all that are orthogonal to it
    seen, unseen = (
        np.array([-1.0, 3.0, -3.0, 1.0]) / np.sqrt(20),
        np.array([3.0, 1.0, 1.0, 3.0]) / np.sqrt(20),
    )
    assert jerk(unseen) == pytest.approx(0.0, abs=1e-12)
    assert gaussian_mean(jerk, seen, unseen, np.pi / 2) == pytest.approx(np.sqrt(40 / np.pi), abs=1e-9)


@pytest.mark.parametrize("steps", [50, 51])
def test_spectral_smoothness_of_gaussian_white_noise(steps):
    """The sum over bins of the expected amplitude of each: white noise is as large in every direction."""
    phases = 2 * np.pi * np.outer(np.arange(1, (steps + 1) // 2), np.arange(steps)) / steps
    planes = zip(np.sqrt(2 / steps) * np.cos(phases), np.sqrt(2 / steps) * np.sin(phases), strict=True)
    bins = [(0.7 * u, 0.7 * v) for u, v in planes]
    normalized = sum(gaussian_mean(spectral_smoothness, u, v) for u, v in bins)
    assert normalized == pytest.approx(0.7 / 2 * np.sqrt(np.pi / steps), abs=1e-9)
    if steps % 2:
        raw = sum(gaussian_mean(lambda a: spectral_smoothness(a, scaling="raw"), u, v) for u, v in bins)
        assert raw == pytest.approx(0.7 * np.sqrt(np.pi / steps) * (steps**2 - 1) / (8 * steps), abs=1e-9)


def test_gaussian_white_noise_fluctuates_by_two_over_root_pi():
    noise = np.random.default_rng(0).normal(scale=0.3, size=1_000_000)
    assert action_fluctuation(noise) == pytest.approx(0.3 * 2 / np.sqrt(np.pi), rel=3e-3)


@pytest.mark.parametrize("cutoff", [0.0, 0.25, 0.5, 0.9])
def test_high_frequency_share_of_white_noise(cutoff):
    episodes = np.random.default_rng(1).normal(size=(4000, 50))
    two_sided = np.abs(np.fft.fftfreq(50)) * 2
    expected = (two_sided > cutoff + 1e-12).sum() / 49
    shares = [high_frequency_ratio(e, cutoff=cutoff) for e in episodes]
    assert np.mean(shares) == pytest.approx(expected, abs=5 * np.std(shares) / np.sqrt(4000) + 1e-9)


@pytest.mark.parametrize("steps", [50, 51])
def test_high_frequency_share_of_an_impulse_counts_bins(steps):
    impulse = np.zeros(steps)
    impulse[7] = 2.5
    above = (np.abs(np.fft.fftfreq(steps)) * 2 > 0.5 + 1e-12).sum()
    assert high_frequency_ratio(impulse) == pytest.approx(above / (steps - 1), abs=1e-9)


def test_high_frequency_share_of_two_sines():
    mixture = np.column_stack([sine(5, 3.0), sine(90, 4.0)]) + 7.0
    assert high_frequency_ratio(mixture) == pytest.approx(16 / 25, abs=1e-9)
    assert high_frequency_ratio(mixture * 1e-200) == pytest.approx(16 / 25, abs=1e-9)


def test_high_frequency_bin_at_the_cutoff_does_not_count():
    assert high_frequency_ratio(sine(10), cutoff=0.1) == pytest.approx(0.0, abs=1e-12)
    assert high_frequency_ratio(sine(11), cutoff=0.1) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("cycles", [1, 10, 60, 99])
def test_spectral_smoothness_of_a_sine(cycles):
    amplitude, bins = 1.7, STEPS // 2
    assert spectral_smoothness(sine(cycles, amplitude)) == pytest.approx(
        amplitude * cycles / (bins * (bins - 1)), abs=1e-9
    )
    assert spectral_smoothness(sine(cycles, amplitude), scaling="raw") == pytest.approx(
        amplitude * cycles / STEPS, abs=1e-9
    )


def test_spectral_smoothness_averages_channels_and_names_its_scalings():
    both = np.column_stack([sine(10), np.zeros(STEPS)])
    assert spectral_smoothness(both) == pytest.approx(spectral_smoothness(sine(10)) / 2, abs=1e-12)
    with pytest.raises(ValueError, match=r"scaling='normalised'.*Did you mean 'normalized'"):
        spectral_smoothness(both, scaling="normalised")


def test_jerk_of_a_cubic_is_its_third_derivative():
    dt = 0.05
    cubic = 2.0 * (np.arange(40) * dt) ** 3
    assert jerk(cubic, dt=dt) == pytest.approx(12.0, rel=1e-6)
    assert jerk((np.arange(40) * dt) ** 2, dt=dt) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "undefined_below", "value_when_undefined"),
    [
        (action_fluctuation, 2, np.nan),
        (total_variation, 2, 0.0),
        (jerk, 4, np.nan),
        (spectral_smoothness, 4, np.nan),
        (high_frequency_ratio, 2, np.nan),
    ],
)
def test_short_episodes(metric, undefined_below, value_when_undefined):
    uneven = np.array([1.0, -2.0, 4.0, -9.0, 1.0])
    for length in range(1, 6):
        value = metric(uneven[:length])
        if length < undefined_below:
            np.testing.assert_equal(value, value_when_undefined)
        else:
            assert value > 0


@pytest.mark.parametrize("metric", SEQUENCE_METRICS)
def test_constant_actions_are_perfectly_smooth(metric):
    assert metric(np.full((30, 2), 0.1)) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("metric", SEQUENCE_METRICS)
@pytest.mark.parametrize(
    ("actions", "match"),
    [
        ([], "at least one row"),
        (np.zeros((3, 2, 1)), "shape"),
        (np.zeros((3, 0)), "at least one row and one channel"),
        ([0.0, np.nan], "must be finite, received nan in row 1"),
    ],
)
def test_bad_sequences(metric, actions, match):
    with pytest.raises(ValueError, match=match):
        metric(actions)


def test_bad_parameters():
    with pytest.raises(ValueError, match="dt must be"):
        jerk([1.0], dt=0)
    with pytest.raises(ValueError, match="cutoff"):
        high_frequency_ratio([1.0, 2.0], cutoff=1.0)


@pytest.mark.parametrize("metric", SEQUENCE_METRICS)
def test_per_channel_is_the_metric_of_each_column(metric):
    actions = np.column_stack([sine(5, 3.0), sine(90, 4.0), np.zeros(STEPS)])
    expected = [metric(column) for column in actions.T]
    assert per_channel(metric, actions).tolist() == expected
    assert expected[0] != expected[1]


def test_channels_have_limits_of_their_own():
    actions = np.column_stack([TIME / STEPS, TIME / STEPS])
    shares = per_channel(saturation, actions, [-1.0, -9.0], [0.75, 9.0], tolerance=0.0)
    np.testing.assert_allclose(shares, [0.25, 0.0])
    with pytest.raises(ValueError, match=r"limits must be numbers or one per channel \(2\)"):
        per_channel(saturation, actions, [-1.0, -1.0, -1.0], 1.0)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (12, 2), elements=st.floats(-10, 10)), st.floats(0.1, 10), st.floats(-5, 5))
def test_scaling_and_offset(actions, gain, offset):
    """Each metric is homogeneous in the action and blind to a constant offset."""
    for metric in (action_fluctuation, total_variation, jerk):
        assert metric(gain * actions + offset) == pytest.approx(gain * metric(actions), rel=1e-6, abs=1e-9)
    for scaling in ("normalized", "raw"):
        assert spectral_smoothness(gain * actions + offset, scaling=scaling) == pytest.approx(
            gain * spectral_smoothness(actions, scaling=scaling), rel=1e-6, abs=1e-9
        )
    assert 0 <= high_frequency_ratio(actions) <= 1
