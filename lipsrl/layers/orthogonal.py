"""Orthogonal layers by retraction: plain weights, put back on the Stiefel manifold after each step."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import LipschitzLayer
from lipsrl.layers._linalg import (
    MARGIN,
    check_finite,
    is_contraction,
    newton_schulz_step,
    orthogonality_error,
    polar_factor,
    random_orthonormal,
    shrink_into_ball,
    spectral_norm,
)

#: Entries of WᵀW may be this far from the identity's before the exact projection moves anything.
TOLERANCE = 1e-5


@torch.no_grad()
def retract_exactly(weight: Tensor, radius: float) -> Tensor | None:
    """``radius`` times the polar factor of ``weight``, inside the ball of that radius; ``None`` if it is there.

    "There" means: norm below ``radius`` by a float64 Cholesky test, and orthogonal within ``TOLERANCE``.
    """
    check_finite(weight)
    matrix = weight.double() / radius
    if is_contraction(matrix) and orthogonality_error(matrix) <= TOLERANCE:
        return None
    step = newton_schulz_step(matrix)
    while step is not None and orthogonality_error(step) > 1e-12:
        step = newton_schulz_step(step)
    polar = polar_factor(weight) if step is None else step
    return shrink_into_ball(polar * (radius * (1 - MARGIN)), radius, weight.dtype)


@torch.no_grad()
def retract_cheaply(weight: Tensor, radius: float) -> Tensor:
    """One Newton–Schulz step, or the exact retraction where the optimizer stepped too far for it."""
    step = newton_schulz_step(weight, radius * (1 - MARGIN))
    if step is not None:
        return step
    exact = retract_exactly(weight, radius)
    return weight if exact is None else exact


@torch.no_grad()
def tangent_gradient(weight: Tensor, gradient: Tensor, radius: float = 1.0) -> Tensor:
    """``G - W·sym(WᵀG)/r²``: the gradient's part along the Stiefel manifold (Absil et al. 2008, eq. 3.35)."""
    tall = weight.shape[0] >= weight.shape[1]
    product = weight.mT @ gradient if tall else gradient @ weight.mT
    symmetric = (product + product.mT).mul_(0.5 / radius**2)
    return gradient - (weight @ symmetric if tall else symmetric @ weight)


class Orthogonal(LipschitzLayer):
    """Linear layer with orthonormal rows or columns, times ``bound``, with an optional activation.

    Keeps the norm of gradients (Anil et al. 2019). A polyak average of two such weights is no longer
    orthogonal but still has norm ≤ ``bound``.
    """

    name: ClassVar[str] = "orthogonal"
    weight: nn.Parameter

    def reset_parameters(self, gain: float) -> None:  # cannot shrink: gain has no meaning here
        start = random_orthonormal(self.out_features, self.in_features, self.bound * (1 - MARGIN))
        self.weight = nn.Parameter(start.to(self.bias.dtype))

    def input_weight(self) -> Tensor:
        return self.weight

    def lipschitz_bound(self) -> float:
        return spectral_norm(self.weight)

    @torch.no_grad()
    def project(self) -> bool:
        retracted = retract_exactly(self.weight, self.bound)
        if retracted is not None:
            self.weight.copy_(retracted)
        return retracted is not None

    def project_gradient(self) -> None:
        if self.weight.grad is not None:
            self.weight.grad.copy_(tangent_gradient(self.weight, self.weight.grad, self.bound))

    @torch.no_grad()
    def project_cheaply(self) -> None:
        self.weight.copy_(retract_cheaply(self.weight, self.bound))
