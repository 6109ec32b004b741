"""Spectral ball: plain weights whose largest singular value is kept at most ``bound`` by projection."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import LipschitzLayer
from lipsrl.layers._linalg import (
    MARGIN,
    check_finite,
    clip_singular_values,
    is_contraction,
    random_orthonormal,
    shrink_into_ball,
    spectral_norm,
)


@torch.no_grad()
def clip_top_singular_value(weight: Tensor, bound: float, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Clip the leading singular value of ``weight`` (m, n) to ``bound``, found by one warm power iteration.

    Returns the new weight and the right singular vector (n,) to start from next time. A cheap stand-in for
    the Euclidean projection (singular value clipping) between two optimizer steps; it *under*estimates the
    norm, so it is never used where a bound is claimed.
    """
    left = torch.mv(weight, vector)
    left = left / left.norm().clamp_min(1e-30)
    right = torch.mv(weight.mT, left)
    sigma = right.norm()
    right = right / sigma.clamp_min(1e-30)
    excess = (sigma - bound).clamp_min(0.0)
    return torch.addr(weight, left, right, alpha=-float(excess)), right


class Spectral(LipschitzLayer):
    """Linear layer in the spectral ball ``‖W‖₂ ≤ bound``, with an optional activation.

    The ball is convex, so a polyak average of feasible weights is feasible. The exact projection clips the
    singular values in float64 (Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz
    continuity", use rescaling; clipping is the Euclidean projection). Starts orthogonal, at ``gain·bound``.
    """

    name: ClassVar[str] = "spectral"
    weight: nn.Parameter

    def reset_parameters(self, gain: float) -> None:
        start = random_orthonormal(self.out_features, self.in_features, gain * self.bound * (1 - MARGIN))
        self.weight = nn.Parameter(start.to(self.bias.dtype))
        self._right_vector: Tensor | None = None  # warm start only: never part of what the layer means

    def input_weight(self) -> Tensor:
        return self.weight

    def lipschitz_bound(self) -> float:
        return spectral_norm(self.weight)

    @torch.no_grad()
    def project(self) -> bool:
        check_finite(self.weight)
        if is_contraction(self.weight.double() / self.bound):
            return False
        clipped = clip_singular_values(self.weight, self.bound * (1 - MARGIN))
        self.weight.copy_(shrink_into_ball(clipped, self.bound, self.weight.dtype))
        return True

    @torch.no_grad()
    def project_cheaply(self) -> None:
        vector = self._right_vector
        if vector is None or vector.device != self.weight.device or vector.dtype != self.weight.dtype:
            vector = torch.ones_like(self.weight[0]) / self.in_features**0.5
        clipped, self._right_vector = clip_top_singular_value(self.weight, self.bound, vector)
        self.weight.copy_(clipped)
