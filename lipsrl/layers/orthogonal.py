"""Orthogonal layers by retraction: plain weights, put back on the Stiefel manifold after each step."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors, LipschitzLayer
from lipsrl.layers._float32_gram import BLOCK
from lipsrl.layers._float32_polar import float32_polar_step, room_of
from lipsrl.layers._linalg import (
    MARGIN,
    check_finite,
    distance_from_identity,
    gap_proves_contraction,
    in_units,
    newton_schulz_step,
    polar_factor,
    random_orthonormal,
    shrink_into_ball,
    smaller_gram,
    spectral_norm,
)
from lipsrl.layers._polar import proven_polar_step

#: Entries of WᵀW may be this far from the identity's before the exact projection moves anything.
TOLERANCE = 1e-5


@torch.no_grad()
def retract_exactly(weight: Tensor, radius: float) -> Tensor | None:
    """``radius`` times the polar factor of ``weight``, inside the ball of that radius; ``None`` if it is there.

    "There" means: norm below ``radius`` by a float64 Cholesky test, and orthogonal within ``TOLERANCE`` up to a factor,
    no smaller than what :func:`~lipsrl.layers._float32_polar.float32_polar_step` leaves. From a few
    optimizer steps away :func:`~lipsrl.layers._polar.proven_polar_step` leads there; from further away, Newton–Schulz
    steps in float64 or an SVD, and a test of the result.
    """
    matrix = weight.double()
    gap = smaller_gram(matrix).mul_(-1.0 / radius)
    gap = gap.mul_(1.0 / radius) if radius != 1.0 else gap  # radius² may overflow
    gap.diagonal().add_(1.0)
    flat = gap.reshape(-1)
    distance = math.sqrt(float(torch.dot(flat, flat)))  # at a tenth of the price of a norm
    if not distance < math.inf:
        check_finite(weight)
    if _is_orthogonal(gap, distance, weight.shape) and gap_proves_contraction(gap, weight.shape):
        return None
    step = proven_polar_step(weight, gap, distance, radius, matrix=matrix)
    if step is None and 0.01 < distance < 0.5:  # one float32 step nearer, to where one is proven
        nearer, _ = newton_schulz_step(weight, radius * (1 - MARGIN))
        if nearer is not None:
            matrix = nearer.double()
            gap = smaller_gram(matrix).mul_(-1.0 / radius).mul_(1.0 / radius)
            gap.diagonal().add_(1.0)
            step = proven_polar_step(nearer, gap, float(torch.linalg.vector_norm(gap)), radius, matrix=matrix)
    return _retract_from_afar(weight, radius) if step is None else step


def _is_orthogonal(gap: Tensor, distance: float, shape: torch.Size) -> bool:
    """Whether an M of ``shape``, ``gap = I - MᵀM`` of Frobenius norm ``distance``, is orthogonal up to a factor ≤ 1."""
    k = len(gap)
    room = 2 * room_of(k, max(shape)) if k >= BLOCK else 0.0  # smaller ones never come from a float32 step
    if not distance <= TOLERANCE * k + room * math.sqrt(k):
        return False
    shrunk = min(max(float(gap.diagonal().mean()), 0.0), room)
    if shrunk <= TOLERANCE:
        return float(gap.abs().max()) <= TOLERANCE
    rest = gap.clone()
    rest.diagonal().sub_(shrunk)
    return float(rest.abs_().max()) <= TOLERANCE


@torch.no_grad()
def retract_roughly(weight: Tensor, radius: float) -> Tensor | None:
    """:func:`retract_exactly` to a radius that is smaller by ``room_of`` its shape, in float32 where that is proven."""
    step = float32_polar_step(weight, radius, TOLERANCE)
    return retract_exactly(weight, radius) if step is None else step


def _retract_from_afar(weight: Tensor, radius: float) -> Tensor:
    matrix = weight.double() / radius
    gram = smaller_gram(matrix)
    distance = distance_from_identity(gram)
    good_enough = 1e-12 if weight.dtype == torch.float64 else 1e-8  # float32 cannot hold more
    tall = matrix.shape[0] >= matrix.shape[1]
    while good_enough < distance <= 0.5 / len(gram):  # then ‖WᵀW/r² - I‖_F ≤ 1/2: Newton–Schulz converges
        correction = gram.mul_(-0.5)
        correction.diagonal().add_(1.5)
        matrix = matrix @ correction if tall else correction @ matrix
        gram = smaller_gram(matrix)
        distance = distance_from_identity(gram)
    if not distance <= good_enough:
        matrix = polar_factor(weight)
    return shrink_into_ball(matrix * (radius * (1 - MARGIN)), radius, weight.dtype)


@torch.no_grad()
def retract_cheaply(weight: Tensor, radius: float) -> float:
    """One Newton–Schulz step in place, or the exact retraction where the optimizer stepped too far for it.

    Returns ``‖WᵀW/r² - I‖_F/2`` before.
    """
    step, distance = newton_schulz_step(weight, radius * (1 - MARGIN))
    if step is None:
        step = retract_exactly(weight, radius)
    if step is not None:
        weight.copy_(step)
    return distance


@torch.no_grad()
def project_on_tangent(gradient: Tensor, weight: Tensor, radius: float = 1.0) -> None:
    """``G ← G - W·sym(WᵀG)/r²`` in place: G's part along the Stiefel manifold (Absil et al. 2008, eq. 3.35)."""
    if weight.shape[0] >= weight.shape[1]:
        product = weight.mT @ gradient
        gradient.addmm_(weight, product + product.mT, alpha=-0.5 / radius**2)
    else:
        product = gradient @ weight.mT
        gradient.addmm_(product + product.mT, weight, alpha=-0.5 / radius**2)


class Orthogonal(LipschitzLayer):
    """Linear layer with orthonormal rows or columns, times ``bound``, with an optional activation.

    Keeps the norm of gradients (Anil et al. 2019). A polyak average of two such weights is no longer
    orthogonal but still has norm ≤ ``bound``.
    """

    name: ClassVar[str] = "orthogonal"
    weight: nn.Parameter

    def reset_parameters(self, gain: float) -> None:  # cannot shrink: gain has no meaning here
        start = random_orthonormal(self.out_features, self.in_features, self.radius * (1 - MARGIN))
        self.weight = nn.Parameter(start.to(self.bias.dtype))

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        return Factors(in_units(self.weight, self.unit, dtype))

    def lipschitz_bound(self) -> float:
        return spectral_norm(self.weight) * self.unit

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> None:
        self.weight.copy_(polar_factor(weight) * (self.radius * (1 - MARGIN)))
        self.project()

    @torch.no_grad()
    def project(self) -> bool:
        return self._adopt(retract_exactly(self.weight, self.radius))

    @torch.no_grad()
    def project_roughly(self) -> bool:
        return self._adopt(retract_roughly(self.weight, self.radius))

    def _adopt(self, retracted: Tensor | None) -> bool:
        if retracted is not None:
            self.weight.copy_(retracted)
        return retracted is not None

    def project_gradient(self) -> None:
        if self.weight.grad is not None:
            project_on_tangent(self.weight.grad, self.weight, self.radius)

    @torch.no_grad()
    def project_cheaply(self) -> float:
        return retract_cheaply(self.weight, self.radius)
