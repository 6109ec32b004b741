"""A disturbance for the tests only: what it adds tells where in the episode a stream is."""

from __future__ import annotations

import numpy as np

from lipsrl.disturbances import Disturbance, DisturbanceBatch
from lipsrl.disturbances._parameters import nonnegative_number


class Count(Disturbance):
    """Adds 1000 to the first observation of an episode, 2000 to the second, and so on."""

    name = "test-count"

    def __init__(self, unit=1000.0):
        self.unit = unit

    @property
    def parameters(self):
        return {"unit": self.unit}

    def scaled(self, strength):
        return Count(self.unit * nonnegative_number("strength", strength))

    def batch(self, n):
        return _CountBatch(self, n)


class _CountBatch(DisturbanceBatch):
    def __init__(self, disturbance, n):
        super().__init__(disturbance, n)
        self._count = np.zeros((n, 1))
        self._unit = disturbance.unit

    def _seed(self, index, sequence):
        pass

    def _configure(self, index, parameters):
        raise AssertionError("the wrappers leave the strength alone")

    def _begin(self, indices, observations):
        self._count[indices] = 0

    def _apply(self, observations, rows):
        self._count[rows] += 1
        return (observations + self._unit * self._count[rows]).astype(observations.dtype)
