"""What goes in and what comes out."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Seed: TypeAlias = int | np.random.SeedSequence | None


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
