"""The balls that an attack may move in: l-inf and l2, rows of arrays at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FloatArray = NDArray[np.floating[Any]]

# rounding must not carry a vector on the sphere out of the ball
_INWARDS = 1.0 - 1e-12
# below it squares of coordinates underflow, and a length is no longer known: of such a ball the centre is left
_SMALLEST = 1e-150


class Norm(ABC):
    """One norm on the rows of ``(n, dim)`` arrays; a new one joins by a line in :data:`NORMS`."""

    @abstractmethod
    def project(self, vectors: FloatArray, radius: FloatArray) -> FloatArray:
        """The nearest (l2) points in the balls of ``radius`` (n, 1) around 0; what is inside stays as it is."""

    @abstractmethod
    def steepest(self, gradients: FloatArray) -> FloatArray:
        """The vectors of norm 1 along which linear functions with these gradients rise most; 0 where they are 0."""

    @abstractmethod
    def uniform(self, normals: FloatArray) -> FloatArray:
        """Points ``(n, dim)``, uniform in the unit ball, from independent standard normals ``(n, dim + 2)``."""


class _LInf(Norm):
    def project(self, vectors: FloatArray, radius: FloatArray) -> FloatArray:
        return np.clip(vectors, -radius, radius)

    def steepest(self, gradients: FloatArray) -> FloatArray:
        return np.sign(gradients)

    def uniform(self, normals: FloatArray) -> FloatArray:
        """By the probability integral transform, coordinate by coordinate."""
        points: FloatArray = 2.0 * ndtr(normals[:, :-2]) - 1.0
        return points


class _L2(Norm):
    def project(self, vectors: FloatArray, radius: FloatArray) -> FloatArray:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        radius = _INWARDS * radius
        scale = np.divide(radius, lengths, out=np.ones_like(lengths), where=lengths > radius)
        projected: FloatArray = np.where(radius < _SMALLEST, 0.0, vectors * scale)
        return projected

    def steepest(self, gradients: FloatArray) -> FloatArray:
        lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
        directions: FloatArray = np.divide(
            gradients, lengths, out=np.zeros_like(gradients), where=lengths > 0
        )
        return directions

    def uniform(self, normals: FloatArray) -> FloatArray:
        """The first ``dim`` coordinates of a uniform point on the sphere in ``dim + 2`` dimensions.

        Barthe, Guédon, Mendelson, Naor 2005, "A probabilistic approach to the geometry of the l_p^n-ball".
        """
        return self.steepest(normals)[:, :-2]


#: name -> norm of every budget
NORMS: dict[str, Norm] = {"linf": _LInf(), "l2": _L2()}
