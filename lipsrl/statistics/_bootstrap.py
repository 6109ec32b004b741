from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.statistics._iqm import iqm
from lipsrl.statistics._resampling import finite, in_blocks, interval, strata_of
from lipsrl.statistics._types import Array, Interval, Seed, Statistic


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
    strata = strata_of("values", values)
    generator = np.random.default_rng(seed)

    def sample(count: int) -> Array:
        drawn = [s[generator.integers(len(s), size=(count, len(s)))] for s in strata]
        return np.asarray(statistic(np.concatenate(drawn, axis=1), axis=-1))

    samples = in_blocks(sample, n_resamples, sum(map(len, strata)))
    return interval(statistic(np.concatenate(strata)[np.newaxis], axis=-1)[0], samples, confidence)


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
    array = finite("rows", rows)
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"rows must have shape (n, ...) with n > 0, received shape {array.shape}.")
    generator = np.random.default_rng(seed)

    def sample(count: int) -> Array:
        return np.asarray(statistic(array[generator.integers(len(array), size=(count, len(array)))]))

    samples = in_blocks(sample, n_resamples, array.size)
    return interval(statistic(array[np.newaxis])[0], samples, confidence)
