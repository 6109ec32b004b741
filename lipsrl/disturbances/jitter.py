"""Random latency: messages that take a different time each."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import Draws, FloatArray, Rows
from lipsrl.disturbances._history import History
from lipsrl.disturbances._parameters import PerDimension, delay_steps, per_stream
from lipsrl.disturbances._per import check_per
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class Jitter(ScalableDisturbance):
    """``o_(t - a_t)`` with a random age ``a_t``, never out of order: what was shown is not followed by older.

    At every step a delay ``d_t = ⌊u·(max_steps + 1)⌋``, ``u ~ U[0, 1)``, is drawn: 0 … max_steps, equally
    likely where max_steps is whole. The age is ``a_t = min(a_(t-1) + 1, d_t)``: a message that is slower than
    a later one is dropped, as any controller does that takes the newest. With m = max_steps whole,
    P(a ≥ k) = Π_(j=1…k) (m + 1 - j)/(m + 1). At the first observation of an episode the age is 0.

    Datasheet: jitter, latency range ``max_steps = (latest - earliest)/dt``; a constant part is a
    :class:`~lipsrl.disturbances.Delay`. A strength multiplies ``max_steps``.

    Args:
        max_steps: the largest delay in control steps, from 0 to 10,000: one number, or (with ``per="sensor"``)
            one per dimension.
        per: ``"frame"``: one message carries the whole observation. ``"sensor"``: each dimension has its own.

    Raises:
        ValueError: an argument out of its range, or one value per dimension for whole frames.

    Example:
        >>> import numpy as np
        >>> jitter = Jitter(3)
        >>> jitter.reset(seed=0)
        >>> shown = np.array([jitter(np.array([float(t)]))[0] for t in range(100)])
        >>> bool((np.diff(shown) >= 0).all()), int((np.arange(100) - shown).max())
        (True, 3)
    """

    name = "jitter"
    multiplied = "max_steps"
    in_sensor_units = False

    def __init__(self, max_steps: PerDimension = 1.0, per: Literal["frame", "sensor"] = "frame") -> None:
        self.max_steps = delay_steps("max_steps", max_steps)
        self.per = check_per(per, "max_steps", self.max_steps)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"max_steps": self.max_steps, "per": self.per}

    def batch(self, n: int) -> DisturbanceBatch:
        return _JitterBatch(self, n)


class _JitterBatch(DisturbanceBatch):
    def __init__(self, disturbance: Jitter, n: int) -> None:
        super().__init__(disturbance, n)
        self._draws = Draws(self.n, "random")
        self._history = History(self.n)
        self._max_steps = per_stream(disturbance.max_steps, self.n)
        self._frame = disturbance.per == "frame"
        self._age: NDArray[np.intp] | None = None  # (n, 1) or (n, dim)
        self._deepen()

    def _deepen(self) -> None:
        self._history.deepen(math.ceil(self._max_steps.max()) + 1)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        self._draws.seed(index, sequence)

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._max_steps[index] = parameters["max_steps"]
        self._deepen()

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        self._history.begin(indices, observations)
        if self._age is None:
            self._age = np.zeros((self.n, 1 if self._frame else observations.shape[1]), dtype=np.intp)
        self._age[indices] = -1  # the first observation has age 0, whatever is drawn

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        assert self._age is not None
        drawn = self._draws.next(rows, self._age.shape[1])
        delay = np.floor(drawn * (self._max_steps[rows] + 1)).astype(np.intp)
        age = np.minimum(self._age[rows] + 1, delay)
        self._age[rows] = age
        self._history.push(rows, observations)
        return self._history.back(rows, age).astype(observations.dtype, copy=False)
