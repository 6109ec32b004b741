"""Orthogonal layers by Björck's iteration."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lipsrl.layers._linalg import random_orthonormal
from lipsrl.layers._maps import MappedLayer, unit_scaled

#: Steps of the iteration: directions of more than 1/80 of the norm become orthonormal within 1e-3.
ITERATIONS = 15


def norm_bound(weight: Tensor) -> Tensor:
    """``‖WᵀW·WᵀW‖_F^(1/4) ≥ ‖W‖₂`` of ``weight`` (m, n), m ≥ n, at most n^(1/8) times too large; differentiable.

    Gram iteration (Delattre et al. 2023, "Efficient bound of Lipschitz constant for convolutional layers by Gram
    iteration", theorem 1), stopped after the second Gram matrix. Entries should be of order 1.
    """
    gram = weight.mT @ weight
    bound: Tensor = (gram @ gram).norm().clamp_min(1e-12) ** 0.25
    return bound


def bjorck(weight: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Matrix with nearly orthonormal columns and norm ≤ 1 from any ``weight`` (m, n), m ≥ n; differentiable.

    Anil et al. 2019, "Sorting out Lipschitz function approximation", equation 9, order 1: ``W ← W(3/2·I - WᵀW/2)`` maps
    each singular value s to (3s - s³)/2, so a norm ≤ 1 stays ≤ 1 at every iterate, converged or not.

    Raises:
        ValueError: NaN or infinite entries.
    """
    w = unit_scaled(weight)
    w = w / norm_bound(w)
    for _ in range(iterations):
        w = torch.addmm(w, w, w.mT @ w, beta=1.5, alpha=-0.5)
    return w


class Bjorck(MappedLayer):
    """Linear layer with nearly orthonormal rows or columns, times ``bound``, by :func:`bjorck`.

    Starts orthogonal. Unlike ``cayley`` it can be singular, where its free weight is.
    """

    name: ClassVar[str] = "bjorck"
    contraction = staticmethod(bjorck)

    def start(self, rows: int, columns: int) -> Tensor:
        return random_orthonormal(rows, columns)
