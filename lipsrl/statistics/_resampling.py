"""Strata, the draws within them, and the interval of what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lipsrl._validation import positive_int
from lipsrl.statistics._types import Array, Interval

# resamples are drawn in blocks of about this many entries, so that memory does not grow with their number
_BLOCK = 2_000_000


def finite(argument: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{argument} must be finite, received {array[~np.isfinite(array)][0]}.")
    return array


def strata_of(argument: str, values: ArrayLike | Sequence[ArrayLike]) -> list[Array]:
    """The one-dimensional arrays within which to draw: the columns of an array, or the members of a list."""
    if isinstance(values, (list, tuple)) and any(np.ndim(part) > 0 for part in values):
        strata = [finite(argument, part) for part in values]
    else:
        array = finite(argument, values)  # type: ignore[arg-type]
        strata = list(array.T) if array.ndim == 2 else [array]
    if not strata or any(s.ndim != 1 or s.size == 0 for s in strata):
        raise ValueError(
            f"{argument} must be an array (runs,) or (runs, tasks), or a list of one-dimensional strata, "
            f"none of them empty; received the shapes {[s.shape for s in strata]}."
        )
    return strata


def counts(generator: np.random.Generator, n: int, resamples: int) -> Array:
    """How often each of ``n`` values is drawn: ``(resamples, n)``, each row a sample with replacement."""
    drawn = generator.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, np.newaxis]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def cumulated(drawn: Array) -> Array:
    """``(resamples, n)`` counts to ``(resamples, n + 1)``: how many of the first 0 … n values were drawn."""
    return np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn, axis=1)], axis=1)


def in_blocks(sample: Callable[[int], Array], n_resamples: int, size: int) -> Array:
    """``n_resamples`` samples of ``size`` entries each, drawn so that a block of them fits in memory."""
    remaining = positive_int("n_resamples", n_resamples)
    block = max(1, _BLOCK // size)
    parts = []
    while remaining > 0:
        parts.append(sample(min(block, remaining)))
        remaining -= block
    return np.concatenate(parts)


def tails(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), such as 0.95, received {confidence!r}.")
    return (1 - confidence) / 2, (1 + confidence) / 2


def interval(estimate: float | np.floating, samples: Array, confidence: float) -> Interval:
    # An undefined resample makes the ends undefined rather than being left out. An infinite one (a strength
    # where nothing breaks down yet, a ratio by zero) counts, but nothing can be interpolated next to it.
    ends = tails(confidence)
    if np.isinf(samples).any():
        low = np.quantile(samples, ends[0], method="lower")
        high = np.quantile(samples, ends[1], method="higher")
    else:
        low, high = np.quantile(samples, ends)
    return Interval(float(estimate), float(low), float(high))
