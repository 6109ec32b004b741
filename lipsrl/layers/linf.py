"""The l-inf ball: plain weights whose rows are kept in the l1 ball."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors, LipschitzLayer
from lipsrl.layers._linalg import EPS64, MARGIN, check_finite, operator_norm

#: Rows further outside the ball than this (relative) are scaled to there before they are projected.
FAR = 1e4


@torch.no_grad()
def project_rows(weight: Tensor, radius: float) -> Tensor:
    """Euclidean projection of each row of ``weight`` (m, n) on the l1 ball of ``radius``.

    Duchi et al. 2008, "Efficient projections onto the l1-ball", figure 1: soft thresholding, with the threshold from
    the sorted magnitudes. Rows inside the ball keep every bit.
    """
    size = weight.abs().sum(dim=1, keepdim=True)
    # far outside, the threshold would lose the radius to rounding
    inside = weight * (FAR * radius / size).clamp(max=1.0)
    magnitude = inside.abs()
    ordered = magnitude.sort(dim=1, descending=True).values
    excess = ordered.cumsum(dim=1) - radius
    rank = torch.arange(1, weight.shape[1] + 1, device=weight.device, dtype=weight.dtype)
    count = (ordered * rank > excess).sum(dim=1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, count - 1) / count
    projected = inside.sign() * (magnitude - threshold).clamp_min(0.0)
    return torch.where(size > radius, projected, weight)


class LInf(LipschitzLayer):
    """Linear layer with ``‖Wx‖_inf ≤ bound·‖x‖_inf``: every row has l1 norm ≤ ``bound``; with an optional activation.

    Exact: the largest l1 norm of a row *is* the operator norm. The set is convex, so averages of feasible weights are
    feasible. Starts as a random matrix with rows of norm ``gain·bound``.
    """

    name: ClassVar[str] = "linf"
    norm: ClassVar[str] = "linf"
    weight: nn.Parameter

    def reset_parameters(self, gain: float) -> None:
        start = torch.randn(self.out_features, self.in_features, dtype=torch.float64)
        start *= gain * self.bound * (1 - MARGIN) / start.abs().sum(dim=1, keepdim=True)
        self.weight = nn.Parameter(start.to(self.bias.dtype))

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        return Factors(self.weight if dtype is None else self.weight.to(dtype))

    def lipschitz_bound(self) -> float:
        return operator_norm(self.weight, "linf")

    @torch.no_grad()
    def project(self) -> bool:
        check_finite(self.weight)
        exact = self.weight.double()
        slack = 2 * EPS64 * self.in_features
        if bool((exact.abs().sum(dim=1) <= self.bound * (1 - slack)).all()):
            return False
        self.weight.copy_(project_rows(exact, self.bound * (1 - MARGIN)))
        return True

    @torch.no_grad()
    def project_cheaply(self) -> float:
        excess = operator_norm(self.weight, "linf") / self.bound - 1.0
        self.weight.copy_(project_rows(self.weight, self.bound * (1 - MARGIN)))
        return max(excess, 0.0)
