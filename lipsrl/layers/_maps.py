"""What the parametrised families share: the layer around a map, and a diagonal that dominates a Gram matrix."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors
from lipsrl.layers._linalg import spectral_norm
from lipsrl.layers._parametrised import ParametrisedLayer, limited

#: Weights with no entry above this are not scaled up: the gradient of a map that ignores scale would overflow.
SMALLEST_SCALE = 1e-30

#: Least entry of :func:`dominating_diagonal`.
LEAST_DIAGONAL = 1e-20


def unit_scaled(weight: Tensor) -> Tensor:
    """``weight / max|W|``, for maps that do not depend on the scale of ``weight`` but would under- or overflow.

    For them the gradient is exact with the scale as a constant. All but zero weights stay as they are.

    Raises:
        ValueError: NaN or infinite entries.
    """
    weight = limited(weight, 1.0)
    largest = float(weight.detach().abs().max())
    return weight / largest if largest > SMALLEST_SCALE else weight


def dominating_diagonal(gram: Tensor, log_q: Tensor | None = None) -> Tensor:
    """``dᵢ = Σⱼ |Gᵢⱼ|·qⱼ/qᵢ``, so that ``diag(d) ⪰ G``, for a symmetric ``gram`` (n, n) and any q > 0.

    Prach & Lampert 2022 (AOL), theorem 1, with q = 1; Araujo et al. 2023 (SLL), theorem 3. ``diag(d)·Q - G·Q`` is
    diagonally dominant with a diagonal ≥ 0. A larger d dominates as well, so zero rows get a small one.

    Args:
        log_q: (n,) logarithm of q; ``None`` for q = 1.
    """
    rows = gram.abs()
    if log_q is None:
        return rows.sum(dim=1).clamp_min(LEAST_DIAGONAL)
    q = torch.exp(log_q)
    return (rows @ q / q).clamp_min(LEAST_DIAGONAL)


class MappedLayer(ParametrisedLayer):
    """``y = φ(bound·Q x + b)`` with ``Q = contraction(weight)``, ``‖Q‖₂ ≤ 1``, and an optional activation φ.

    A polyak average is taken of the free ``weight`` (out_features, in_features), so its map is a contraction as well.
    None of these layers can shrink: ``gain`` has no meaning in them.
    """

    weight: nn.Parameter

    @staticmethod
    @abstractmethod
    def contraction(weight: Tensor) -> Tensor:
        """The map: any ``weight`` (m, n) with m ≥ n to a matrix of that shape and of norm at most 1."""

    @abstractmethod
    def start(self, rows: int, columns: int) -> Tensor:
        """Initial weight (rows, columns), rows ≥ columns, for :meth:`contraction`; float64."""

    def reset_parameters(self, gain: float) -> None:
        sizes = self.out_features, self.in_features
        start = self.start(max(sizes), min(sizes))
        self.weight = nn.Parameter((start.mT if self.wide else start).to(self.bias.dtype).contiguous())

    @property
    def wide(self) -> bool:
        return self.out_features < self.in_features

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        weight = self.weight if dtype is None else self.weight.to(dtype)
        q = self.contraction(weight.mT).mT if self.wide else self.contraction(weight)
        return Factors(q * (self.bound * (1 - self.margin)))

    def lipschitz_bound(self) -> float:
        return spectral_norm(self.factors(torch.float64).input)
