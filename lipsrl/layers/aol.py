"""Almost-orthogonal layers (AOL)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lipsrl.layers._linalg import random_orthonormal
from lipsrl.layers._maps import MappedLayer, dominating_diagonal, unit_scaled


def almost_orthogonal(weight: Tensor) -> Tensor:
    """``W·diag(Σⱼ |WᵀW|ᵢⱼ)^(-1/2)``, of norm ≤ 1, from any ``weight`` W (m, n), m ≥ n; differentiable.

    Prach & Lampert 2022, "Almost-orthogonal layers for efficient general-purpose Lipschitz networks", theorem 1. Zero
    columns stay zero.

    Raises:
        ValueError: NaN or infinite entries.
    """
    w = unit_scaled(weight)
    return w * dominating_diagonal(w.mT @ w).rsqrt()


class AOL(MappedLayer):
    """Linear layer of norm ≤ ``bound`` by :func:`almost_orthogonal`, with an optional activation.

    The cheapest map. Starts orthogonal; loose away from there (a Gaussian weight has median singular value 0.3).
    """

    name: ClassVar[str] = "aol"
    contraction = staticmethod(almost_orthogonal)

    def start(self, rows: int, columns: int) -> Tensor:
        return random_orthonormal(rows, columns)
