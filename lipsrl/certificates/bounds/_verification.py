"""Multipliers of LipSDP-Neuron → a bound that a float64 Cholesky factorisation proves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lipsrl.certificates.bounds._problem import Problem, cholesky
from lipsrl.layers._linalg import EPS64


@dataclass(frozen=True)
class EllipsoidBound:
    """``‖f(x) - f(x′)‖₂² ≤ (x - x′)ᵀ S (x - x′)`` for all x, x′.

    Attributes:
        matrix: S (n, n), positive semidefinite, float64.
        multipliers: (units,) of LipSDP-Neuron, of the :func:`~._lipsdp.normalised` chain, or ``None``.
    """

    matrix: Tensor
    multipliers: Tensor | None = None

    @property
    def lipschitz(self) -> float:
        """Upper bound of the l2 Lipschitz constant."""
        largest = float(torch.linalg.eigvalsh(self.matrix)[-1])
        slack = 4 * EPS64 * len(self.matrix) * float(self.matrix.norm())
        return math.sqrt(max(largest, 0.0) + slack) * (1 + 4 * EPS64)

    @property
    def per_input(self) -> tuple[float, ...]:
        """For each input alone: upper bound of ‖Δf‖₂ per unit of it."""
        return tuple(math.sqrt(max(float(v), 0.0)) * (1 + 4 * EPS64) for v in self.matrix.diagonal())


def verified(problem: Problem, multipliers: Tensor) -> EllipsoidBound | None:
    """The ellipsoid of ``multipliers``, if a Cholesky test proves it (Rump 2006: a shifted factorisation succeeds)."""
    if not bool((multipliers >= 0).all()):
        return None
    shape = problem.schur(multipliers)
    n = problem.inputs
    size = max(float(torch.linalg.eigvalsh(shape)[-1]), 1e-300)
    for inflation in (1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2):
        ellipsoid = shape + inflation * size * torch.eye(n, dtype=torch.float64)
        matrix = problem.matrix(multipliers, 0.0)
        matrix[:n, :n] += ellipsoid
        # a congruence by powers of two is exact and brings the diagonal near one
        diagonal = matrix.diagonal()
        if not bool((diagonal > 0).all()):
            continue
        scale = torch.exp2(-torch.round(torch.log2(diagonal) / 2))
        magnitude = _magnitude(problem, multipliers, ellipsoid) * scale.unsqueeze(1) * scale
        matrix = matrix * scale.unsqueeze(1) * scale
        # rounding while M was put together, and in the factorisation
        assembling = 4 * EPS64 * (problem.units + 8) * float(magnitude.sum(dim=1).max())
        factoring = 4 * EPS64 * (problem.size + 4) * float(matrix.diagonal().sum())
        matrix.diagonal().sub_(assembling + factoring)
        if cholesky(matrix) is not None:
            return EllipsoidBound(ellipsoid)
    return None


def _magnitude(problem: Problem, multipliers: Tensor, ellipsoid: Tensor) -> Tensor:
    """Entrywise sums of absolute values of the terms of M: what its rounding errors are relative to."""
    total = torch.zeros(problem.size, problem.size, dtype=torch.float64)
    for units, own, columns, weight in problem.blocks:
        scaled = multipliers[units].unsqueeze(1) * weight.abs()
        total[columns, columns] += weight.abs().mT @ (problem.product[units].abs().unsqueeze(1) * scaled)
        cross = problem.mean[units].abs().unsqueeze(1) * scaled
        total[own, columns] += cross
        total[columns, own] += cross.mT
    last = problem.chain.weights[-1].abs()
    total[-last.shape[1] :, -last.shape[1] :] += last.mT @ last
    n = problem.inputs
    total.diagonal()[n:] += multipliers
    total[:n, :n] += ellipsoid.abs()
    return total
