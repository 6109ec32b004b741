"""What all additive noises share: ``o + amplitude · u`` with a dimensionless random process ``u``."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np

from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import Draws, FloatArray, Rows
from lipsrl.disturbances._parameters import per_stream
from lipsrl.disturbances._scalable import ScalableDisturbance


def add_noise(observations: FloatArray, noise: FloatArray) -> FloatArray:
    """``observations + noise`` as a fresh array with the dtype of ``observations``.

    The sum is taken in the wider of the two dtypes and rounded once. Where the noise is 0 every bit stays
    (``-0.0 + 0.0`` would be ``0.0``).

    Args:
        observations: ``(n, dim)``.
        noise: ``(n, dim)``.
    """
    disturbed = observations.copy()
    np.add(disturbed, noise, out=disturbed, where=noise != 0, casting="same_kind")
    return disturbed


class AdditiveBatch(DisturbanceBatch):
    """``n`` streams; a family gives :meth:`_unit`, the process at amplitude 1.

    Draws are taken at strength 0 too: a stream consumes the same draws at every strength.

    Args:
        distribution: of the draws, see ``Draws``.
    """

    def __init__(
        self, disturbance: ScalableDisturbance, n: int, distribution: Literal["standard_normal", "random"]
    ) -> None:
        super().__init__(disturbance, n)
        self._key = disturbance.multiplied
        self._draws = Draws(self.n, distribution)
        self._amplitude = per_stream(disturbance.parameters[self._key], self.n)

    @abstractmethod
    def _unit(self, rows: Rows, dim: int) -> FloatArray:
        """The next value of ``u`` for the streams in ``rows``, shape ``(len(rows), dim)``."""

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        self._draws.seed(index, sequence)

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._amplitude[index] = parameters[self._key]

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        return add_noise(observations, self._amplitude[rows] * self._unit(rows, observations.shape[1]))
