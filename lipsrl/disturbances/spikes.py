"""Outliers: rare readings that are far off, from bit errors, multipath or interference."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipsrl.disturbances._additive import AdditiveBatch
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parameters import PerDimension, as_probability, nonnegative, one_length, per_stream
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._scalable import ScalableDisturbance


@register
class Spikes(ScalableDisturbance):
    """``o ± magnitude`` with ``probability`` (either sign equally likely), else ``o``.

    Independent in every dimension and at every step; the variance of what is added is
    ``probability · magnitude²``.

    Datasheet: outlier or bit-error rate, and the size of an outlier. A strength multiplies ``magnitude``; the
    rate stays.

    Args:
        probability: of a spike, per dimension and step, from 0 to 1.
        magnitude: size in raw sensor units, finite and >= 0. Both: one number, or one per dimension.

    Raises:
        ValueError: an argument out of its range, or both per dimension with different lengths.

    Example:
        >>> import numpy as np
        >>> spikes = Spikes(probability=0.01, magnitude=5.0)
        >>> spikes.reset(seed=0)
        >>> sorted({float(spikes(np.zeros(1))[0]) for _ in range(1000)})
        [-5.0, 0.0, 5.0]
    """

    name = "spikes"
    multiplied = "magnitude"

    def __init__(self, probability: PerDimension, magnitude: PerDimension) -> None:
        self.probability = as_probability("probability", probability)
        self.magnitude = nonnegative("magnitude", magnitude)
        one_length(self.parameters)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"probability": self.probability, "magnitude": self.magnitude}

    def batch(self, n: int) -> DisturbanceBatch:
        return _SpikesBatch(self, n)


class _SpikesBatch(AdditiveBatch):
    def __init__(self, disturbance: Spikes, n: int) -> None:
        super().__init__(disturbance, n, "random")
        self._probability = per_stream(disturbance.probability, self.n)

    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        # one draw says both: [0, p/2) is a spike up, [p/2, p) a spike down
        drawn, probability = self._draws.next(rows, dim), self._probability[rows]
        up, any_spike = drawn < probability / 2, drawn < probability
        unit: FloatArray = np.subtract(2.0 * up, any_spike)
        return unit
