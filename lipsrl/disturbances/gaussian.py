"""White Gaussian noise: the noise floor that a sensor's datasheet gives as a standard deviation (RMS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lipsrl.disturbances._additive import add_noise
from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import Draws, FloatArray, Rows
from lipsrl.disturbances._parameters import nonnegative, nonnegative_number, times
from lipsrl.disturbances._registry import register


@register
class GaussianNoise(Disturbance):
    """``o + std · z`` with ``z ~ N(0, 1)``, independent in every dimension and at every step.

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

    def __init__(self, std: float | Sequence[float] | FloatArray = 1.0) -> None:
        self.std = nonnegative("std", std)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"std": self.std}

    def scaled(self, strength: float) -> GaussianNoise:
        return GaussianNoise(times(self.std, nonnegative_number("strength", strength)))

    def batch(self, n: int) -> DisturbanceBatch:
        return _GaussianBatch(self, n)


class _GaussianBatch(DisturbanceBatch):
    def __init__(self, disturbance: GaussianNoise, n: int) -> None:
        super().__init__(disturbance, n)
        self._normals = Draws(self.n, "standard_normal")
        self._std = np.tile(np.atleast_1d(disturbance.std), (self.n, 1))  # (n, 1) or (n, dim)
        self._mark_active()

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        self._normals.seed(index, sequence)

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._std[index] = parameters["std"]
        self._mark_active()

    def _mark_active(self) -> None:
        self._active = self._std > 0
        self._all_active = bool(self._active.all())

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        # drawn at strength 0 too: a stream consumes the same draws at every strength
        noise = self._std[rows] * self._normals.next(rows, observations.shape[1])
        return add_noise(observations, noise, None if self._all_active else self._active[rows])
