"""Latency: the policy sees what was true some time ago."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._history import History
from lipsrl.disturbances._parameters import PerDimension, delay_steps, per_stream
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class Delay(ScalableDisturbance):
    """``o_(t - steps)``; until there is one, the first observation of the episode. Nothing is random.

    Between two whole numbers the two observations are interpolated linearly, ``(1 - f)·o_(t-k) + f·o_(t-k-1)``
    with ``steps = k + f``: a sensor whose latency is not a multiple of the control period. So the curve over
    strengths has no jumps, and whole delays are exact, bit for bit.

    Datasheet: latency or group delay, ``steps = latency/dt``. A strength multiplies ``steps``.

    Args:
        steps: in control steps: one number for all dimensions, or one per dimension; from 0 to 10,000.

    Raises:
        ValueError: ``steps`` is out of its range, not a number, empty or has more than one axis.

    Example:
        >>> import numpy as np
        >>> delay = Delay(2)
        >>> [float(delay(np.array([t]))[0]) for t in (5.0, 6.0, 7.0, 8.0)]
        [5.0, 5.0, 5.0, 6.0]
        >>> half = delay.scaled(0.25)
        >>> [float(half(np.array([t]))[0]) for t in (5.0, 6.0, 7.0, 8.0)]
        [5.0, 5.5, 6.5, 7.5]
    """

    name = "delay"
    multiplied = "steps"
    in_sensor_units = False

    def __init__(self, steps: PerDimension = 1.0) -> None:
        self.steps = delay_steps("steps", steps)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def batch(self, n: int) -> DisturbanceBatch:
        return _DelayBatch(self, n)


class _DelayBatch(DisturbanceBatch):
    def __init__(self, disturbance: Delay, n: int) -> None:
        super().__init__(disturbance, n)
        self._history = History(self.n)
        self._steps = per_stream(disturbance.steps, self.n)
        self._update()

    def _update(self) -> None:
        whole = np.floor(self._steps)
        self._whole = whole.astype(np.intp)
        self._fraction = self._steps - whole
        self._fractional = bool(self._fraction.any())
        self._history.deepen(int(self._whole.max()) + 2)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        return  # nothing is random

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._steps[index] = parameters["steps"]
        self._update()

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        self._history.begin(indices, observations)

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        self._history.push(rows, observations)
        delayed = self._history.back(rows, self._whole[rows])
        if self._fractional:
            older, fraction = self._history.back(rows, self._whole[rows] + 1), self._fraction[rows]
            with np.errstate(invalid="ignore"):  # an infinity between two sides is nan, as it should be
                between = (1 - fraction) * delayed + fraction * older
            np.copyto(delayed, between, where=fraction > 0, casting="same_kind")
        return delayed.astype(observations.dtype, copy=False)
