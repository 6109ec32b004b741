from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.statistics._resampling import counts, cumulated, finite, in_blocks, strata_of, tails
from lipsrl.statistics._types import Array, Profile, Seed


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
    strata = [np.sort(s) for s in strata_of("values", values)]
    grid = finite("thresholds", thresholds)
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"thresholds must have shape (K,) with K > 0, received shape {grid.shape}.")
    total = sum(map(len, strata))
    below = [np.searchsorted(s, grid, side="right") for s in strata]
    generator = np.random.default_rng(seed)

    def sample(count: int) -> Array:
        failed = np.zeros((count, grid.size))
        for stratum, ranks in zip(strata, below, strict=True):
            failed += cumulated(counts(generator, len(stratum), count))[:, ranks]
        return 1 - failed / total

    low, high = np.quantile(in_blocks(sample, n_resamples, total), tails(confidence), axis=0)
    return Profile(grid, 1 - np.sum(below, axis=0) / total, low, high)
