"""White uniform noise: an error of which only the limit is known."""

from __future__ import annotations

from typing import Any

from lipsrl.disturbances._additive import AdditiveBatch
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parameters import PerDimension, nonnegative
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class UniformNoise(ScalableDisturbance):
    """``o + bound · v`` with ``v ~ U[-1, 1)``, independent in every dimension and at every step.

    Datasheet: accuracy given as ± a limit. Its standard deviation is ``bound/√3``. A strength multiplies
    ``bound``.

    Args:
        bound: half width of the interval in raw sensor units: one number for all dimensions, or one per
            dimension; finite and >= 0.

    Raises:
        ValueError: ``bound`` is negative, not finite, not a number, empty or has more than one axis.

    Example:
        >>> import numpy as np
        >>> noise = UniformNoise(bound=0.5)
        >>> noise.reset(seed=0)
        >>> bool((abs(noise(np.zeros(3))) <= 0.5).all())
        True
    """

    name = "uniform"
    multiplied = "bound"

    def __init__(self, bound: PerDimension = 1.0) -> None:
        self.bound = nonnegative("bound", bound)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"bound": self.bound}

    def batch(self, n: int) -> DisturbanceBatch:
        return _UniformBatch(self, n, "random")


class _UniformBatch(AdditiveBatch):
    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        unit: FloatArray = 2 * self._draws.next(rows, dim) - 1
        return unit
