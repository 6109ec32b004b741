from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.statistics._resampling import counts, cumulated, in_blocks, interval, strata_of
from lipsrl.statistics._types import Array, Interval, Seed


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
    not say. Ranks are used, never the ``n·m`` comparisons.

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
    first, second = strata_of("x", x), strata_of("y", y)
    if len(first) != len(second):
        raise ValueError(f"x and y must have as many tasks, received {len(first)} and {len(second)}.")
    generator = np.random.default_rng(seed)
    ranks = [_ranks(a, b) for a, b in zip(first, second, strict=True)]

    def sample(count: int) -> Array:
        total = np.zeros(count)
        for a, b, (below, upto) in zip(first, second, ranks, strict=True):
            of_a = counts(generator, len(a), count)
            beaten = cumulated(counts(generator, len(b), count))
            total += (of_a * (beaten[:, below] + beaten[:, upto])).sum(axis=1) / (2 * len(a) * len(b))
        return total / len(ranks)

    size = max(len(a) + len(b) for a, b in zip(first, second, strict=True))
    estimate = np.mean(
        [(below + upto).mean() / (2 * len(b)) for (below, upto), b in zip(ranks, second, strict=True)]
    )
    return interval(estimate, in_blocks(sample, n_resamples, size), confidence)


def _ranks(a: Array, b: Array) -> tuple[np.ndarray, np.ndarray]:
    """For each value of ``a``: how many of ``b`` lie below it, and how many not above it."""
    ordered = np.sort(b)
    return np.searchsorted(ordered, a, side="left"), np.searchsorted(ordered, a, side="right")
