"""A constant offset: what a sensor is off by after it was switched on."""

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
class Bias(ScalableDisturbance):
    """``o + std · z`` with ``z ~ N(0, 1)`` drawn once per episode and dimension, the same at every step of it.

    Datasheet: turn-on bias, zero-offset repeatability (1 σ). A strength multiplies ``std``.

    Args:
        std: standard deviation over episodes in raw sensor units: one number for all dimensions, or one per
            dimension; finite and >= 0.

    Raises:
        ValueError: ``std`` is negative, not finite, not a number, empty or has more than one axis.

    Example:
        >>> import numpy as np
        >>> bias = Bias(0.1)
        >>> bias.reset(seed=0)
        >>> offset = bias(np.zeros(2))
        >>> bool((bias(np.zeros(2)) == offset).all())
        True
        >>> bias.reset()
        >>> bool((bias(np.zeros(2)) == offset).any())
        False
    """

    name = "bias"
    multiplied = "std"

    def __init__(self, std: PerDimension = 1.0) -> None:
        self.std = nonnegative("std", std)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"std": self.std}

    def batch(self, n: int) -> DisturbanceBatch:
        return _BiasBatch(self, n)


class _BiasBatch(AdditiveBatch):
    def __init__(self, disturbance: Bias, n: int) -> None:
        super().__init__(disturbance, n, "standard_normal")
        self._offset: FloatArray | None = None

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        dim = observations.shape[1]
        self._offset = memory_like(self._offset, (self.n, dim))
        self._offset[indices] = self._draws.next(indices, dim)

    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        assert self._offset is not None
        offset: FloatArray = self._offset[rows]
        return offset
