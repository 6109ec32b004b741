"""White Gaussian noise: the noise floor that a sensor's datasheet gives as a standard deviation (RMS)."""

from __future__ import annotations

from typing import Any

from lipsrl.disturbances._additive import AdditiveBatch
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parameters import PerDimension, nonnegative
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class GaussianNoise(ScalableDisturbance):
    """``o + std · z`` with ``z ~ N(0, 1)``, independent in every dimension and at every step.

    Datasheet: RMS noise. From a noise density D (unit/√Hz) and a bandwidth B (Hz), ``std = D·√B``. A strength
    multiplies ``std``.

    Args:
        std: standard deviation in raw sensor units: one number for all dimensions, or one per dimension;
            finite and >= 0. The default 1.0 is the unit that strengths multiply.

    Raises:
        ValueError: ``std`` is negative, not finite, not a number, empty or has more than one axis.

    Example:
        >>> import numpy as np
        >>> noise = GaussianNoise(std=[0.1, 0.0])
        >>> noise.reset(seed=0)
        >>> noisy = noise(np.zeros(2, dtype=np.float32))
        >>> noisy.dtype, bool(noisy[0] != 0), float(noisy[1])
        (dtype('float32'), True, 0.0)
        >>> noise.scaled(2.0)
        GaussianNoise(std=(0.2, 0.0))
    """

    name = "gaussian"
    multiplied = "std"

    def __init__(self, std: PerDimension = 1.0) -> None:
        self.std = nonnegative("std", std)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"std": self.std}

    def batch(self, n: int) -> DisturbanceBatch:
        return _GaussianBatch(self, n, "standard_normal")


class _GaussianBatch(AdditiveBatch):
    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        return self._draws.next(rows, dim)
