"""Spectral ball held by rescaling the whole weight."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lipsrl.layers._linalg import MARGIN, check_finite, is_contraction, shrink_into_ball, spectral_norm
from lipsrl.layers.spectral import Spectral


@torch.no_grad()
def power_step(weight: Tensor, direction: Tensor) -> tuple[float, Tensor]:
    """Lower bound ``‖Wv‖`` of the norm of ``weight`` (m, n), by one power iteration from ``direction`` (n,).

    Returns:
        The estimate (0 or NaN where W annihilates the direction or floats give out), and the unit vector v.
    """
    v = F.normalize(weight.mT @ F.normalize(weight @ direction, dim=0), dim=0)
    return float((weight @ v).norm()), v


class Rescaled(Spectral):
    """Linear layer in the spectral ball ``‖W‖₂ ≤ bound``: a weight outside is divided by its norm as a whole.

    Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz continuity", algorithm 1, with the exact
    norm. Cheaper between two steps than ``spectral``, but one growing direction shrinks all others with it.
    """

    name: ClassVar[str] = "rescaled"

    @torch.no_grad()
    def project(self) -> bool:
        check_finite(self.weight)
        if is_contraction(self.weight.double() / self.radius):
            return False
        scale = self.radius * (1 - MARGIN) / spectral_norm(self.weight)
        self.weight.copy_(shrink_into_ball(self.weight.double() * scale, self.radius, self.weight.dtype))
        return True

    @torch.no_grad()
    def project_cheaply(self) -> float:
        direction = self._basis
        if (
            direction is None
            or direction.device != self.weight.device
            or direction.dtype != self.weight.dtype
        ):
            direction = F.normalize(self.weight[self.weight.norm(dim=1).argmax()], dim=0)
        sigma, direction = power_step(self.weight, direction)
        self._basis = direction if sigma > 0 else None  # else start afresh
        excess = sigma / self.radius - 1
        if excess > 0:
            self.weight.mul_(self.radius / sigma)
        return max(excess, 0.0)
