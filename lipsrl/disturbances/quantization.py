"""Finite resolution: the least significant bit of an analogue-to-digital converter or encoder."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parameters import PerDimension, nonnegative, per_stream
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance

_ALREADY_COARSE = 2.0**52  # from here on float64 quotients are whole numbers


def quantize(values: FloatArray, step: FloatArray) -> FloatArray:
    """``step · round(values / step)`` (mid-tread: 0 is a level), halves to the even level; fresh, same dtype.

    Every bit stays where ``step`` is 0, where a value is not finite, and where it is so large that float64 is
    coarser than ``step``.

    Args:
        values: any shape.
        step: broadcast to it, >= 0.
    """
    active = np.broadcast_to(step > 0, values.shape)
    quotient = np.zeros(values.shape, dtype=np.result_type(values.dtype, np.float64))
    with np.errstate(over="ignore"):
        np.divide(values, step, out=quotient, where=active)
    active = active & (np.abs(quotient) < _ALREADY_COARSE)
    quotient[~active] = 0.0
    quantized = values.copy()
    # + 0.0: a small negative value becomes 0.0, not -0.0
    np.copyto(quantized, np.rint(quotient) * step + 0.0, where=active, casting="same_kind")
    return quantized


@register
class Quantization(ScalableDisturbance):
    """``step · round(o / step)``: mid-tread (0 is a level), halves to the even level. Nothing is random.

    The error is at most ``step/2``; over a signal that is smooth on the scale of a step it is uniform, with
    variance ``step²/12``.

    Datasheet: resolution, 1 LSB = full scale / 2^bits. A strength multiplies ``step``.

    Args:
        step: distance of two levels in raw sensor units: one number for all dimensions, or one per
            dimension; finite and >= 0; 0 leaves a dimension as it is.

    Raises:
        ValueError: ``step`` is negative, not finite, not a number, empty or has more than one axis.

    Example:
        >>> import numpy as np
        >>> Quantization(0.5)(np.array([0.2, 0.3, -0.9])).tolist()
        [0.0, 0.5, -1.0]
    """

    name = "quantization"
    multiplied = "step"

    def __init__(self, step: PerDimension = 1.0) -> None:
        self.step = nonnegative("step", step)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"step": self.step}

    def batch(self, n: int) -> DisturbanceBatch:
        return _QuantizationBatch(self, n)


class _QuantizationBatch(DisturbanceBatch):
    def __init__(self, disturbance: Quantization, n: int) -> None:
        super().__init__(disturbance, n)
        self._step = per_stream(disturbance.step, self.n)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        return  # nothing is random

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._step[index] = parameters["step"]

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        return quantize(observations, self._step[rows])
