"""Lost readings: packets that do not arrive, loose contacts."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import Draws, FloatArray, Rows
from lipsrl.disturbances._history import memory_like
from lipsrl.disturbances._parameters import PerDimension, as_probability, per_stream, times
from lipsrl.disturbances._per import Per, check_per, word
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance

Fill = Literal["hold", "zero"]


@register
class Dropout(ScalableDisturbance):
    """With ``probability`` a reading is lost, and the last one that arrived is shown again.

    Losses are independent from step to step. Before the first observation of an episode nothing has arrived:
    held, it is shown in any case.

    Datasheet: packet loss rate, availability = 1 - probability. A strength multiplies ``probability``, up to 1:
    beyond that every reading is lost already.

    Args:
        probability: of a loss per step, from 0 to 1: one number, or (with ``per="sensor"``) one per dimension.
        fill: ``"hold"``: the last reading that arrived, as sample-and-hold electronics and drivers do.
            ``"zero"``: 0 in raw sensor units, as a disconnected sensor may read.
        per: ``"sensor"``: each dimension is lost by itself. ``"frame"``: all together.

    Raises:
        ValueError: an argument out of its range, or one probability per dimension for whole frames.

    Example:
        >>> import numpy as np
        >>> dropout = Dropout(0.5)
        >>> dropout.reset(seed=1)
        >>> shown = [float(dropout(np.array([t]))[0]) for t in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
        >>> shown[0], len(set(shown)) < 6, 0.0 in shown
        (1.0, True, False)
    """

    name = "dropout"
    multiplied = "probability"
    in_sensor_units = False

    def __init__(self, probability: PerDimension = 1.0, fill: Fill = "hold", per: Per = "sensor") -> None:
        self.probability = as_probability("probability", probability)
        self.fill = word("fill", fill, get_args(Fill))
        self.per = check_per(per, "probability", self.probability)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"probability": self.probability, "fill": self.fill, "per": self.per}

    def _multiplied_by(self, factor: float | tuple[float, ...]) -> Dropout:
        product = times(self.probability, factor)
        capped = tuple(min(p, 1.0) for p in product) if isinstance(product, tuple) else min(product, 1.0)
        return Dropout(capped, self.fill, self.per)

    def batch(self, n: int) -> DisturbanceBatch:
        return _DropoutBatch(self, n)


class _DropoutBatch(DisturbanceBatch):
    def __init__(self, disturbance: Dropout, n: int) -> None:
        super().__init__(disturbance, n)
        self._draws = Draws(self.n, "random")
        self._probability = per_stream(disturbance.probability, self.n)
        self._frame = disturbance.per == "frame"
        self._hold = disturbance.fill == "hold"
        self._last: FloatArray | None = None  # (n, dim)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        self._draws.seed(index, sequence)

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._probability[index] = parameters["probability"]

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        self._last = memory_like(self._last, (self.n, observations.shape[1]), observations.dtype)
        if self._hold:
            self._last[indices] = observations

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        assert self._last is not None
        drawn = self._draws.next(rows, 1 if self._frame else observations.shape[1])
        shown = observations.copy()
        np.copyto(shown, self._last[rows], where=drawn < self._probability[rows], casting="same_kind")
        if self._hold:
            self._last = memory_like(self._last, self._last.shape, observations.dtype)
            self._last[rows] = shown
        return shown
