"""Coloured noise: errors that last for some steps, as those of filtered, thermal or vibrating sensors do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._additive import AdditiveBatch
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._history import memory_like
from lipsrl.disturbances._parameters import PerDimension, as_correlation, nonnegative, one_length, per_stream
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class AutoregressiveNoise(ScalableDisturbance):
    """``o + std · x_t`` with ``x_t = correlation · x_(t-1) + √(1 - correlation²) · z_t``, ``z_t ~ N(0, 1)``.

    A stationary AR(1) process (Gauss-Markov): ``x_0 ~ N(0, 1)``, so the standard deviation is ``std`` from the
    first observation on, and errors ``k`` steps apart have correlation ``correlation^k``. Every episode
    begins anew; dimensions are independent.

    Datasheet: bias instability with correlation time τ, ``correlation = exp(-dt/τ)``. A strength multiplies
    ``std``; the correlation stays.

    Args:
        std: standard deviation in raw sensor units, finite and >= 0.
        correlation: of successive errors, strictly between -1 and 1; 0 is white noise. An error that never
            changes is a :class:`~lipsrl.disturbances.Bias`. Both: one number, or one per dimension.

    Raises:
        ValueError: an argument out of its range, or both per dimension with different lengths.

    Example:
        >>> import numpy as np
        >>> noise = AutoregressiveNoise(std=0.1, correlation=0.999)
        >>> noise.reset(seed=0)
        >>> first, second = noise(np.zeros(1)), noise(np.zeros(1))
        >>> bool(abs(second - first)[0] < 0.05)
        True
    """

    name = "ar1"
    multiplied = "std"

    def __init__(self, std: PerDimension, correlation: PerDimension) -> None:
        self.std = nonnegative("std", std)
        self.correlation = as_correlation("correlation", correlation)
        one_length(self.parameters)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"std": self.std, "correlation": self.correlation}

    def batch(self, n: int) -> DisturbanceBatch:
        return _AutoregressiveBatch(self, n)


class _AutoregressiveBatch(AdditiveBatch):
    def __init__(self, disturbance: AutoregressiveNoise, n: int) -> None:
        super().__init__(disturbance, n, "standard_normal")
        self._correlation = per_stream(disturbance.correlation, self.n)
        self._innovation = np.sqrt(1 - self._correlation**2)
        self._state: FloatArray | None = None
        self._first: NDArray[np.bool_] = np.ones(self.n, dtype=np.bool_)

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        self._state = memory_like(self._state, (self.n, observations.shape[1]))
        self._first[indices] = True

    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        assert self._state is not None
        normal = self._draws.next(rows, dim)
        state: FloatArray = self._correlation[rows] * self._state[rows] + self._innovation[rows] * normal
        first = self._first[rows]
        if first.any():
            state[first] = normal[first]
            self._first[rows] = False
        self._state[rows] = state
        return state
