"""Statistics of few, expensive runs: interquartile mean, bootstrap intervals, profiles, paired differences.

NumPy only, vectorised over resamples, and seeded: the same arguments give the same interval, bit for bit. All
intervals are percentile bootstrap intervals, the convention of Agarwal et al., Deep Reinforcement Learning at
the Edge of the Statistical Precipice (NeurIPS 2021), whose IQM and stratification are followed too. With
fewer than about five runs a bootstrap interval is too narrow; with one it has no width. Neither can be
repaired here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl._validation import positive_int

Array: TypeAlias = NDArray[np.float64]
Seed: TypeAlias = int | np.random.SeedSequence | None

# resamples are drawn in blocks of about this many entries, so that memory does not grow with their number
_BLOCK = 2_000_000


class Statistic(Protocol):
    """A reduction over one axis, such as `iqm`, ``np.mean`` or ``np.median``."""

    def __call__(self, values: Array, /, *, axis: int) -> Array: ...


class Interval(NamedTuple):
    """An estimate and its confidence interval, in the units of the statistic."""

    estimate: float
    low: float
    high: float


class Profile(NamedTuple):
    """A performance profile: for each threshold the share of runs above it, with a pointwise interval."""

    thresholds: Array
    share: Array
    low: Array
    high: Array


def iqm(values: ArrayLike, axis: int | None = None) -> Array:
    """Interquartile mean: the mean of what is left when a quarter is cut off at each end.

    ``floor(n/4)`` values are cut at each end, as by ``scipy.stats.trim_mean(values, 0.25)``; with n < 4 it is
    the mean. Robust like the median, but it uses half of the data instead of one or two points.

    Args:
        values: any shape, at least one entry along ``axis``.
        axis: the axis to reduce; None flattens.

    Returns:
        ``values`` without that axis (a NumPy scalar for None). ``nan`` in, ``nan`` out.

    Raises:
        ValueError: if there is nothing along the axis.

    Source:
        Agarwal et al. (NeurIPS 2021), section 4.3.

    Example:
        >>> from lipsrl.statistics import iqm
        >>> float(iqm([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0]))
        3.5
    """
    array = np.asarray(values, dtype=np.float64)
    if axis is None:
        array, axis = array.reshape(-1), 0
    n = array.shape[axis]
    if n == 0:
        raise ValueError(
            f"values must hold at least one value along axis {axis}, received shape {np.shape(values)}."
        )
    cut = n // 4
    # sorting puts nan last, where it would be cut off unseen
    middle = np.moveaxis(np.sort(array, axis=axis), axis, -1)
    result = np.asarray(middle[..., cut : n - cut].mean(axis=-1))
    return np.where(np.isnan(middle[..., -1]), np.nan, result)[()]


def bootstrap_ci(
    values: ArrayLike | Sequence[ArrayLike],
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: Seed = 0,
) -> Interval:
    """Stratified percentile bootstrap of a statistic of all values together.

    Args:
        values: an array ``(runs,)``; or an array ``(runs, tasks)``, where runs are drawn anew within each
            task; or a list (tuple) of one-dimensional strata of any lengths, one per task.
        statistic: reduces one axis; called as ``statistic(samples, axis=-1)`` on ``(resamples, values)``.
        confidence: in (0, 1).
        n_resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        The statistic of ``values`` and its interval.

    Raises:
        ValueError: for no values, values that are not finite, or a confidence outside (0, 1).

    Example:
        >>> from lipsrl.statistics import bootstrap_ci
        >>> bootstrap_ci([3.0, 3.0, 3.0])
        Interval(estimate=3.0, low=3.0, high=3.0)
    """
    strata = _strata("values", values)
    generator = np.random.default_rng(seed)

    def sample(count: int) -> Array:
        drawn = [s[generator.integers(len(s), size=(count, len(s)))] for s in strata]
        return np.asarray(statistic(np.concatenate(drawn, axis=1), axis=-1))

    samples = _in_blocks(sample, n_resamples, sum(map(len, strata)))
    return _interval(statistic(np.concatenate(strata)[np.newaxis], axis=-1)[0], samples, confidence)


def bootstrap_rows_ci(
    rows: ArrayLike,
    statistic: Callable[[Array], Array],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: Seed = 0,
) -> Interval:
    """Percentile bootstrap where whole rows are drawn: whatever belongs together (a pair, a curve) stays
    together.

    Args:
        rows: ``(n, ...)``, one row per independent unit (a training seed, an episode).
        statistic: maps samples ``(resamples, n, ...)`` to ``(resamples,)``.
        confidence, n_resamples, seed: as `bootstrap_ci`.

    Returns:
        The statistic of ``rows`` and its interval.

    Raises:
        ValueError: as `bootstrap_ci`.

    Example:
        >>> import numpy as np
        >>> from lipsrl.statistics import bootstrap_rows_ci
        >>> pairs = np.array([[1.0, 2.0], [10.0, 11.0], [100.0, 101.0]])
        >>> bootstrap_rows_ci(pairs, lambda s: (s[..., 1] - s[..., 0]).mean(axis=1))
        Interval(estimate=1.0, low=1.0, high=1.0)
    """
    array = _finite("rows", rows)
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"rows must have shape (n, ...) with n > 0, received shape {array.shape}.")
    generator = np.random.default_rng(seed)

    def sample(count: int) -> Array:
        return np.asarray(statistic(array[generator.integers(len(array), size=(count, len(array)))]))

    samples = _in_blocks(sample, n_resamples, array.size)
    return _interval(statistic(array[np.newaxis])[0], samples, confidence)


def paired_difference(
    a: ArrayLike | Mapping[object, float],
    b: ArrayLike | Mapping[object, float],
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: Seed = 0,
) -> Interval:
    """``statistic(a) − statistic(b)`` where a and b were measured on the same units (seeds, episodes).

    Pairs are drawn together, so what is common to both (an easy start state, a lucky seed) cancels, and the
    interval is narrower than that of independent samples. It excludes 0 where the two differ.

    Args:
        a, b: two mappings key → value with the same keys, or two arrays ``(n,)`` in the same order.
        statistic: as `bootstrap_ci`; note that the difference of two IQMs is not the IQM of the differences.
        confidence, n_resamples, seed: as `bootstrap_ci`.

    Raises:
        ValueError: for keys or lengths that do not match, no values, or values that are not finite.

    Example:
        >>> from lipsrl.statistics import paired_difference
        >>> paired_difference({"s0": 5.0, "s1": 50.0}, {"s1": 49.0, "s0": 4.0})
        Interval(estimate=1.0, low=1.0, high=1.0)
    """
    return bootstrap_rows_ci(
        _pairs(a, b),
        lambda s: statistic(s[..., 0], axis=-1) - statistic(s[..., 1], axis=-1),
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )


def paired_ratio(
    a: ArrayLike | Mapping[object, float],
    b: ArrayLike | Mapping[object, float],
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: Seed = 0,
) -> Interval:
    """``statistic(a) / statistic(b)`` by the same paired bootstrap as `paired_difference`.

    Meant for quantities with a natural zero (chatter, sensitivity). Where ``statistic(b)`` is zero the
    estimate is infinite or ``nan``, and where it is zero in some resample so may the interval's ends be.

    Example:
        >>> from lipsrl.statistics import paired_ratio
        >>> paired_ratio([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
        Interval(estimate=0.5, low=0.5, high=0.5)
    """

    def ratio(samples: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(statistic(samples[..., 0], axis=-1), statistic(samples[..., 1], axis=-1))

    return bootstrap_rows_ci(_pairs(a, b), ratio, confidence=confidence, n_resamples=n_resamples, seed=seed)


def performance_profile(
    values: ArrayLike | Sequence[ArrayLike],
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: Seed = 0,
) -> Profile:
    """The share of runs whose value lies above each threshold, ``P(X > τ)``: a whole distribution at a
    glance.

    Args:
        values: as `bootstrap_ci` (strata are drawn separately, each run counts the same).
        thresholds: ``(K,)``.
        confidence, n_resamples, seed: as `bootstrap_ci`; intervals are pointwise.

    Raises:
        ValueError: as `bootstrap_ci`, or for thresholds that are not ``(K,)`` and finite.

    Source:
        Agarwal et al. (NeurIPS 2021), section 4.2 (run-score distributions).

    Example:
        >>> from lipsrl.statistics import performance_profile
        >>> performance_profile([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0]).share.tolist()
        [1.0, 0.5, 0.0]
    """
    strata = _strata("values", values)
    grid = _finite("thresholds", thresholds)
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"thresholds must have shape (K,) with K > 0, received shape {grid.shape}.")
    generator = np.random.default_rng(seed)
    above = [s[:, np.newaxis] > grid for s in strata]

    def sample(count: int) -> Array:
        drawn = [a[generator.integers(len(a), size=(count, len(a)))] for a in above]
        return np.asarray(np.concatenate(drawn, axis=1).mean(axis=1))

    share = np.concatenate(above).mean(axis=0)
    samples = _in_blocks(sample, n_resamples, sum(map(len, strata)) * grid.size)
    low, high = np.quantile(samples, _tails(confidence), axis=0)
    return Profile(grid, share, low, high)


def probability_of_improvement(
    x: ArrayLike | Sequence[ArrayLike],
    y: ArrayLike | Sequence[ArrayLike],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: Seed = 0,
) -> Interval:
    """``P(X > Y) + P(X = Y)/2`` for a run of X and a run of Y drawn at random, averaged over tasks.

    The Mann–Whitney U statistic over ``n·m``, task by task. 0.5 says nothing; how much better X is, it does
    not say.

    Args:
        x, y: ``(runs,)``, ``(runs, tasks)`` or lists of strata, one per task; as many tasks in both, while
            the number of runs may differ. Runs are drawn anew within each task, for x and y independently.
        confidence, n_resamples, seed: as `bootstrap_ci`.

    Raises:
        ValueError: as `bootstrap_ci`, or for another number of tasks in x and y.

    Source:
        Agarwal et al. (NeurIPS 2021), section 4.3.

    Example:
        >>> from lipsrl.statistics import probability_of_improvement
        >>> probability_of_improvement([2.0, 4.0], [1.0, 2.0, 3.0, 0.0]).estimate
        0.8125
    """
    first, second = _strata("x", x), _strata("y", y)
    if len(first) != len(second):
        raise ValueError(f"x and y must have as many tasks, received {len(first)} and {len(second)}.")
    generator = np.random.default_rng(seed)
    wins = [(np.sign(a[:, np.newaxis] - b) + 1) / 2 for a, b in zip(first, second, strict=True)]

    def sample(count: int) -> Array:
        total = np.zeros(count)
        for win in wins:
            n, m = win.shape
            rows = generator.integers(n, size=(count, n, 1))
            columns = generator.integers(m, size=(count, 1, m))
            total += win[rows, columns].mean(axis=(1, 2))
        return total / len(wins)

    samples = _in_blocks(sample, n_resamples, max(win.size for win in wins))
    return _interval(np.mean([win.mean() for win in wins]), samples, confidence)


def _in_blocks(sample: Callable[[int], Array], n_resamples: int, size: int) -> Array:
    """``n_resamples`` samples of ``size`` entries each, drawn so that a block of them fits in memory."""
    remaining = positive_int("n_resamples", n_resamples)
    block = max(1, _BLOCK // size)
    parts = []
    while remaining > 0:
        parts.append(sample(min(block, remaining)))
        remaining -= block
    return np.concatenate(parts)


def _tails(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), such as 0.95, received {confidence!r}.")
    return (1 - confidence) / 2, (1 + confidence) / 2


def _interval(estimate: float | np.floating, samples: Array, confidence: float) -> Interval:
    # An undefined resample makes the ends undefined rather than being left out. An infinite one (a strength
    # where nothing breaks down yet, a ratio by zero) counts, but nothing can be interpolated next to it.
    tails = _tails(confidence)
    if np.isinf(samples).any():
        low = np.quantile(samples, tails[0], method="lower")
        high = np.quantile(samples, tails[1], method="higher")
    else:
        low, high = np.quantile(samples, tails)
    return Interval(float(estimate), float(low), float(high))


def _finite(argument: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{argument} must be finite, received {array[~np.isfinite(array)][0]}.")
    return array


def _strata(argument: str, values: ArrayLike | Sequence[ArrayLike]) -> list[Array]:
    """The one-dimensional arrays within which to draw: the columns of an array, or the members of a list."""
    if isinstance(values, (list, tuple)) and any(np.ndim(part) > 0 for part in values):
        strata = [_finite(argument, part) for part in values]
    else:
        array = _finite(argument, values)  # type: ignore[arg-type]
        strata = list(array.T) if array.ndim == 2 else [array]
    if not strata or any(s.ndim != 1 or s.size == 0 for s in strata):
        raise ValueError(
            f"{argument} must be an array (runs,) or (runs, tasks), or a list of one-dimensional strata, "
            f"none of them empty; received the shapes {[s.shape for s in strata]}."
        )
    return strata


def _pairs(a: ArrayLike | Mapping[object, float], b: ArrayLike | Mapping[object, float]) -> Array:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            odd = sorted(map(repr, a.keys() ^ b.keys()))
            raise ValueError(
                f"a and b must have the same keys to be paired, but only one has {', '.join(odd[:5])}"
                f"{' …' if len(odd) > 5 else ''}. Leave unpaired ones out of both."
            )
        a, b = list(a.values()), [b[key] for key in a]
    elif isinstance(a, Mapping) or isinstance(b, Mapping):
        raise ValueError("a and b must both be mappings key -> value, or both arrays.")
    first, second = _finite("a", a), _finite("b", b)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"a and b must be pairs of shape (n,) with n > 0, received shapes {first.shape} and "
            f"{second.shape}."
        )
    return np.column_stack([first, second])
