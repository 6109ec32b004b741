"""Statistics against SciPy, closed forms and coverage."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import lipsrl.statistics
from lipsrl.statistics import (
    bootstrap_ci,
    bootstrap_rows_ci,
    iqm,
    paired_difference,
    paired_ratio,
    performance_profile,
    probability_of_improvement,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(lipsrl.statistics.__path__)])
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"lipsrl.statistics.{module}")).failed == 0


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, array_shapes(max_dims=3, max_side=13), elements=st.floats(-1e6, 1e6)), st.data())
def test_iqm_is_scipys_trimmed_mean(values, data):
    axis = data.draw(st.sampled_from([None, *range(values.ndim)]))
    expected = scipy.stats.trim_mean(values, 0.25, axis=axis)
    np.testing.assert_allclose(iqm(values, axis=axis), expected, rtol=1e-12, atol=1e-9)


def test_iqm_does_not_hide_nan_and_needs_values():
    assert np.isnan(iqm([0.0, 1.0, 2.0, 3.0, np.nan]))
    np.testing.assert_array_equal(np.isnan(iqm(np.array([[1.0, np.nan], [1.0, 1.0]]), axis=1)), [True, False])
    with pytest.raises(ValueError, match="at least one value"):
        iqm(np.zeros((3, 0)), axis=1)


def test_mean_interval_is_that_of_the_normal_approximation():
    values = RNG.normal(size=400)
    interval = bootstrap_ci(values, np.mean, n_resamples=20_000)
    standard_error = values.std() / np.sqrt(400)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * standard_error, abs=0.05 * standard_error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * standard_error, abs=0.05 * standard_error)


def test_agrees_with_scipys_percentile_bootstrap():
    values = RNG.normal(size=30)
    reference = scipy.stats.bootstrap(
        (values,), iqm, axis=-1, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    ours = bootstrap_ci(values, n_resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.02)


def test_interval_covers_the_truth_as_often_as_it_says():
    samples = RNG.normal(size=(400, 40))
    covered = [
        low <= 0 <= high
        for _, low, high in (
            bootstrap_ci(s, confidence=0.9, n_resamples=300, seed=i) for i, s in enumerate(samples)
        )
    ]
    # percentile intervals of 40 values are a little narrow; four standard errors of 400 trials are 6 points
    assert 0.82 <= np.mean(covered) <= 0.95


def test_strata_are_drawn_within_themselves():
    """Two tasks of very different scale: stratified, only the spread within tasks counts."""
    tasks = np.column_stack([RNG.normal(0.0, 0.1, 10), RNG.normal(1000.0, 0.1, 10)])
    stratified = bootstrap_ci(tasks, np.mean)
    pooled = bootstrap_ci(tasks.ravel(), np.mean)
    assert stratified.high - stratified.low < 0.2 < 100 < pooled.high - pooled.low
    assert bootstrap_ci(list(tasks.T), np.mean) == stratified
    ragged = bootstrap_ci([[0.0, 0.0, 0.0], [10.0]], np.mean)
    assert ragged == (2.5, 2.5, 2.5)


def test_same_seed_same_interval_whatever_the_block(monkeypatch):
    values = RNG.normal(size=50)
    first = bootstrap_ci(values, seed=3)
    assert first == bootstrap_ci(values, seed=3)
    assert first != bootstrap_ci(values, seed=4)
    monkeypatch.setattr(importlib.import_module("lipsrl.statistics._resampling"), "_BLOCK", 170)
    assert first == bootstrap_ci(values, seed=3)


def test_rows_stay_together():
    shared = RNG.normal(scale=100.0, size=20)
    pairs = np.column_stack([shared + 1.0, shared])
    interval = bootstrap_rows_ci(pairs, lambda s: (s[..., 0] - s[..., 1]).mean(axis=1))
    assert interval == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)


def test_pairing_removes_what_is_common():
    shared = RNG.normal(scale=100.0, size=30)
    a = shared + 5.0 + RNG.normal(size=30)
    paired = paired_difference(a, shared, np.mean)
    assert 4 < paired.low < paired.estimate < paired.high < 6
    assert paired.estimate == pytest.approx(np.mean(a) - np.mean(shared))
    shuffled = paired_difference(a, RNG.permutation(shared), np.mean)
    assert shuffled.high - shuffled.low > 10 * (paired.high - paired.low)


def test_pairs_are_drawn_within_their_task():
    """What tasks and runs have in common cancels; a difference within one task is not spread over others."""
    shared = np.column_stack([RNG.normal(0, 5, 12), RNG.normal(1000, 5, 12)])
    assert paired_difference(shared + 2.0, shared, np.mean) == pytest.approx((2.0, 2.0, 2.0))
    uneven = shared + np.array([0.0, 4.0])
    assert paired_difference(uneven, shared, np.mean) == pytest.approx((2.0, 2.0, 2.0))
    assert paired_difference(list(uneven.T), list(shared.T), np.mean) == paired_difference(
        uneven, shared, np.mean
    )
    pooled = paired_difference(uneven.ravel(), shared.ravel(), np.mean)
    assert pooled.low < 1.5 < 2.5 < pooled.high
    with pytest.raises(ValueError, match="measured on the same units"):
        paired_difference(shared, shared[:5])


def test_pairs_by_key_in_any_order():
    a = {("s", i): float(i) for i in range(8)}
    b = {("s", i): i - 2.0 for i in reversed(range(8))}
    assert paired_difference(a, b) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match=r"only one has \('s', 7\)"):
        paired_difference(a, {k: v for k, v in b.items() if k != ("s", 7)})
    with pytest.raises(ValueError, match="both be mappings"):
        paired_difference(a, [1.0] * 8)


def test_ratio_of_statistics():
    b = RNG.uniform(1, 2, size=40)
    interval = paired_ratio(0.6 * b + RNG.normal(scale=0.01, size=40), b)
    assert interval.estimate == pytest.approx(0.6, abs=0.01)
    assert 0.58 < interval.low < interval.high < 0.62
    assert paired_ratio([1.0], [0.0]) == (np.inf, np.inf, np.inf)
    assert np.isnan(paired_ratio([0.0], [0.0])).all()
    low, high = paired_ratio([1.0, 1.0], [0.0, 1.0], np.mean)[1:]
    assert (low, high) == (1.0, np.inf)


def test_profile_counts_runs_above():
    values = RNG.normal(size=(50, 3))
    profile = performance_profile(values, [-1.0, 0.0, 1.0])
    np.testing.assert_allclose(profile.share, [(values > t).mean() for t in (-1, 0, 1)])
    assert (profile.low <= profile.share).all()
    assert (profile.share <= profile.high).all()
    assert (profile.high - profile.low > 0.05).all()


def test_probability_of_improvement_is_mann_whitney():
    x, y = RNG.integers(0, 6, size=15).astype(float), RNG.integers(0, 6, size=11).astype(float)
    u = scipy.stats.mannwhitneyu(x, y).statistic
    interval = probability_of_improvement(x, y)
    assert interval.estimate == pytest.approx(u / (15 * 11))
    assert interval.low < interval.estimate < interval.high
    assert probability_of_improvement([x + 10, y], [x, y]).estimate == pytest.approx(0.75)


def test_probability_of_improvement_redraws_both_sides():
    """The spread of the resamples is that of U drawn by hand."""
    x, y = RNG.normal(size=12), RNG.normal(size=9)
    by_hand = [np.mean(RNG.choice(x, 12)[:, None] > RNG.choice(y, 9)) for _ in range(4000)]
    interval = probability_of_improvement(x, y, n_resamples=4000)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(by_hand, [0.025, 0.975]), abs=0.03)


def test_profile_resamples_runs():
    """The spread of the resamples is that of a profile drawn by hand."""
    values = RNG.normal(size=(11, 2))
    by_hand = [
        np.mean([RNG.choice(task, 11) for task in values.T] > np.reshape([-0.5, 0.5], (2, 1, 1)), axis=(1, 2))
        for _ in range(4000)
    ]
    profile = performance_profile(values, [-0.5, 0.5], n_resamples=4000)
    np.testing.assert_allclose(
        [profile.low, profile.high], np.quantile(by_hand, [0.025, 0.975], axis=0), atol=0.05
    )


def test_no_pair_of_runs_is_ever_listed():
    """A table of runs by runs would hold 4·10¹⁰ entries."""
    x, y = RNG.normal(0.1, size=200_000), RNG.normal(size=200_000)
    interval = probability_of_improvement(x, y, n_resamples=20)
    expected = scipy.stats.norm.cdf(0.1 / np.sqrt(2))
    assert interval.low < expected < interval.high
    assert interval.high - interval.low < 0.01


class TestAgainstRliable:
    """Optional: rliable 1.2 needs pandas 2 (``python -m venv V; V/bin/pip install rliable "pandas<3" pytest``)."""

    X = np.round(np.random.default_rng(0).normal(1.0, 1, (10, 6)), 1)
    Y = np.round(np.random.default_rng(1).normal(0.6, 1, (8, 6)), 1)

    @pytest.fixture
    def rliable(self):
        try:
            return importlib.import_module("rliable.library"), importlib.import_module("rliable.metrics")
        except Exception as error:  # with pandas 3 it fails in its own imports
            pytest.skip(f"rliable cannot be imported: {error}")

    def test_estimates_are_the_same(self, rliable):
        library, metrics = rliable
        assert iqm(self.X) == metrics.aggregate_iqm(self.X)
        ours = probability_of_improvement(self.X, self.Y).estimate
        assert ours == pytest.approx(metrics.probability_of_improvement(self.X, self.Y), abs=1e-12)
        thresholds = np.linspace(-1, 3, 9)
        profile, _ = library.create_performance_profile({"x": self.X}, thresholds, reps=10)
        np.testing.assert_allclose(performance_profile(self.X, thresholds).share, profile["x"], atol=1e-12)

    def test_intervals_agree(self, rliable):
        library, metrics = rliable
        for theirs, ours in ((metrics.aggregate_iqm, iqm), (metrics.aggregate_mean, np.mean)):
            _, ends = library.get_interval_estimates(
                {"x": self.X}, lambda s, f=theirs: np.array([f(s)]), reps=5000
            )
            interval = bootstrap_ci(self.X, ours, n_resamples=5000)
            np.testing.assert_allclose(ends["x"].ravel(), interval[1:], atol=0.02)

        def wins(x, y):
            return np.array([((np.sign(x[:, np.newaxis] - y) + 1) / 2).mean()])

        _, ends = library.get_interval_estimates({"xy": (self.X, self.Y)}, wins, reps=5000)
        interval = probability_of_improvement(self.X, self.Y, n_resamples=5000)
        np.testing.assert_allclose(ends["xy"].ravel(), interval[1:], atol=0.015)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: bootstrap_ci([]), "none of them empty"),
        (lambda: bootstrap_ci(np.zeros((2, 2, 2))), "array"),
        (lambda: bootstrap_ci([[1.0], []]), "none of them empty"),
        (lambda: bootstrap_ci([1.0, np.nan]), "values must be finite"),
        (lambda: bootstrap_ci([1.0], confidence=95), "confidence must be in"),
        (lambda: bootstrap_ci([1.0], n_resamples=0), "n_resamples"),
        (lambda: bootstrap_rows_ci(np.zeros((0, 2)), np.mean), "n > 0"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "shapes"),
        (lambda: paired_difference([], []), "none of them empty"),
        (lambda: performance_profile([1.0], [[0.0]]), "thresholds"),
        (lambda: probability_of_improvement(np.zeros((2, 2)), [1.0]), "as many tasks"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
