"""A constant offset: what a sensor is off by after it was switched on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._additive import AdditiveBatch
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._history import memory_like
from lipsrl.disturbances._parameters import Numbers, PerDimension, nonnegative, one_length
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class Bias(ScalableDisturbance):
    """``o + std · z`` with ``z ~ N(0, 1)`` drawn once per episode and dimension, the same at every step of it.

    Datasheet: turn-on bias, zero-offset repeatability (1 σ). A strength multiplies ``std``. With ``signs`` nothing is
    drawn: ``o + std · signs`` in every episode, a corner of the box of half width ``std``.

    Args:
        std: standard deviation over episodes in raw sensor units: one number for all dimensions, or one per
            dimension; finite and >= 0.
        signs: -1, 0 or 1, for all dimensions or for each: the one pattern of all episodes; None: drawn as above.

    Raises:
        ValueError: ``std`` is negative, not finite, not a number, empty or has more than one axis; ``signs`` holds
            something else, or is not as long as ``std``.

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

    def __init__(self, std: PerDimension = 1.0, signs: PerDimension | None = None) -> None:
        self.std = nonnegative("std", std)
        self.signs = None if signs is None else _signs(signs)
        if self.signs is not None:
            one_length({"std": self.std, "signs": self.signs})

    @property
    def parameters(self) -> dict[str, Any]:
        # as it always was where there is no pattern: seeds of evaluations and files hang on it
        return {"std": self.std} | ({} if self.signs is None else {"signs": self.signs})

    def batch(self, n: int) -> DisturbanceBatch:
        return _BiasBatch(self, n)


class _BiasBatch(AdditiveBatch):
    def __init__(self, disturbance: Bias, n: int) -> None:
        super().__init__(disturbance, n, "standard_normal")
        self._signs = disturbance.signs
        self._offset: FloatArray | None = None

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        dim = observations.shape[1]
        self._offset = memory_like(self._offset, (self.n, dim))
        drawn = self._draws.next(indices, dim)
        self._offset[indices] = drawn if self._signs is None else self._signs

    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        assert self._offset is not None
        offset: FloatArray = self._offset[rows]
        return offset


def _signs(value: Any) -> Numbers:
    given = np.asarray(value, dtype=object)
    pattern = np.atleast_1d(given).tolist()
    if not pattern or not all(
        isinstance(sign, int | float | np.number) and sign in (-1, 0, 1) for sign in pattern
    ):
        raise ValueError(
            f"signs must be -1, 0 or 1, one for all dimensions or one per observation dimension, received {value!r}."
        )
    return tuple(map(float, pattern)) if given.ndim else float(pattern[0])
