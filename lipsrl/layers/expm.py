"""Orthogonal layers by the matrix exponential: the slow reference."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lipsrl.layers._maps import MappedLayer
from lipsrl.layers._parametrised import limited


def exponential(weight: Tensor) -> Tensor:
    """Matrix with orthonormal columns from any ``weight`` (m, n), m ≥ n: the first n columns of ``exp(X - Xᵀ)``.

    X (m, m) is ``weight`` followed by zeros (Lezcano-Casado & Martínez-Rubio 2019, "Cheap orthogonal constraints in
    neural networks", section 4, for m = n). Always computed in float64: an exponent of norm θ loses θ·eps.

    Raises:
        ValueError: NaN or infinite entries.
    """
    m, n = weight.shape
    x = F.pad(limited(weight.double()), (0, m - n))
    q: Tensor = torch.linalg.matrix_exp(x - x.mT)[:, :n].to(weight.dtype)
    return q


class Expm(MappedLayer):
    """Linear layer with orthonormal rows or columns, times ``bound``, by :func:`exponential`.

    For comparison; ``cayley`` and ``orthogonal`` do the same faster.
    """

    name: ClassVar[str] = "expm"
    contraction = staticmethod(exponential)

    def start(self, rows: int, columns: int) -> Tensor:
        """Rotations by about a right angle, so that every row of Q gets its share."""
        return torch.randn(rows, columns, dtype=torch.float64) * (math.pi / 2 / math.sqrt(rows))
