from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.statistics._iqm import iqm
from lipsrl.statistics._resampling import in_blocks, interval, strata_of
from lipsrl.statistics._types import Array, Interval, Seed, Statistic

Paired: TypeAlias = ArrayLike | Sequence[ArrayLike] | Mapping[object, float]


def paired_difference(
    a: Paired,
    b: Paired,
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
        a, b: two mappings key → value with the same keys; or two arrays ``(n,)`` in the same order, or
            ``(runs, tasks)`` or lists of strata, one per task, where pairs are drawn anew within each task.
        statistic: as `bootstrap_ci`, of all values together; note that the difference of two IQMs is not the
            IQM of the differences.
        confidence, n_resamples, seed: as `bootstrap_ci`.

    Raises:
        ValueError: for keys or shapes that do not match, no values, or values that are not finite.

    Example:
        >>> from lipsrl.statistics import paired_difference
        >>> paired_difference({"s0": 5.0, "s1": 50.0}, {"s1": 49.0, "s0": 4.0})
        Interval(estimate=1.0, low=1.0, high=1.0)
    """

    def difference(samples: Array) -> Array:
        return statistic(samples[..., 0], axis=-1) - statistic(samples[..., 1], axis=-1)

    return _bootstrap(a, b, difference, confidence, n_resamples, seed)


def paired_ratio(
    a: Paired,
    b: Paired,
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

    return _bootstrap(a, b, ratio, confidence, n_resamples, seed)


def _bootstrap(
    a: Paired,
    b: Paired,
    combine: Callable[[Array], Array],
    confidence: float,
    n_resamples: int,
    seed: Seed,
) -> Interval:
    """``combine`` maps ``(resamples, pairs, 2)`` to ``(resamples,)``."""
    strata = _pairs(a, b)
    generator = np.random.default_rng(seed)

    def sample(count: int) -> Array:
        drawn = [pairs[generator.integers(len(pairs), size=(count, len(pairs)))] for pairs in strata]
        return np.asarray(combine(np.concatenate(drawn, axis=1)))

    samples = in_blocks(sample, n_resamples, sum(pairs.size for pairs in strata))
    return interval(combine(np.concatenate(strata)[np.newaxis])[0], samples, confidence)


def _pairs(a: Paired, b: Paired) -> list[Array]:
    """One ``(n, 2)`` per stratum."""
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
    first, second = strata_of("a", a), strata_of("b", b)
    if [s.shape for s in first] != [s.shape for s in second]:
        raise ValueError(
            f"a and b must be measured on the same units to be paired, received the shapes {np.shape(first[0])} × "
            f"{len(first)} and {np.shape(second[0])} × {len(second)}."
        )
    return [np.column_stack(pair) for pair in zip(first, second, strict=True)]
