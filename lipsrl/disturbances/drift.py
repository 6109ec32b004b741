"""An offset that wanders: integrated sensors (gyroscopes, odometry) without a reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._additive import AdditiveBatch
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._history import memory_like
from lipsrl.disturbances._parameters import PerDimension, nonnegative
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class Drift(ScalableDisturbance):
    """``o + std · w_t`` with the random walk ``w_t = w_(t-1) + z_t``, ``z_t ~ N(0, 1)``, per dimension.

    ``std`` is the standard deviation of one step's increment: the ``k``-th observation of an episode (that of
    reset is the first) is off by N(0, k·std²). Every episode begins at 0.

    Datasheet: rate random walk, angle random walk; from a coefficient N (unit/√s), ``std = N·√dt``. A strength
    multiplies ``std``.

    Args:
        std: standard deviation of the increment per step in raw sensor units: one number for all dimensions,
            or one per dimension; finite and >= 0.

    Raises:
        ValueError: ``std`` is negative, not finite, not a number, empty or has more than one axis.

    Example:
        >>> import numpy as np
        >>> drift = Drift([0.1, 0.0])
        >>> drift.reset(seed=0)
        >>> off = np.array([drift(np.zeros(2)) for _ in range(1000)])
        >>> bool(abs(off[-100:, 0]).mean() > abs(off[:10, 0]).mean()), float(abs(off[:, 1]).max())
        (True, 0.0)
    """

    name = "drift"
    multiplied = "std"

    def __init__(self, std: PerDimension = 1.0) -> None:
        self.std = nonnegative("std", std)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"std": self.std}

    def batch(self, n: int) -> DisturbanceBatch:
        return _DriftBatch(self, n)


class _DriftBatch(AdditiveBatch):
    def __init__(self, disturbance: Drift, n: int) -> None:
        super().__init__(disturbance, n, "standard_normal")
        self._walk: FloatArray | None = None

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        self._walk = memory_like(self._walk, (self.n, observations.shape[1]))
        self._walk[indices] = 0.0

    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        assert self._walk is not None
        self._walk[rows] += self._draws.next(rows, dim)
        walk: FloatArray = self._walk[rows]
        return walk
