"""Activations that torch has not: sorting, reflecting, clipped and divided ones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl._validation import positive_int


class ClippedReLU(nn.Module):
    """``min(max(x, 0), 1)``: a ReLU clipped at 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0.0, 1.0)


class Abs(nn.Module):
    """``|x|``: keeps the norm of every gradient. Its slope is ±1, so it is not for proofs that need [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Divided(nn.Module, ABC):
    """An activation of torch divided by its steepest slope; slightly decreasing for x < 0, so not in [0, 1].

    ``divisor`` is the maximum of the derivative, at the root of the second one, bracketed in 60-digit decimal
    arithmetic and rounded up to the next float32 number. Float32 and float64 divide by the very same number, and the
    quotient's slope is below 1 by 1e-8 to 7e-8.
    """

    divisor: ClassVar[float]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""


class DividedSiLU(Divided):
    """``x·sigmoid(x)`` / 1.0998393297…; steepest at x = 2.39935728….

    Chen et al. 2019, "Residual flows for invertible generative modeling", section 3.3, divide by 1.1 (LipSwish).
    """

    divisor = 1.0998393297195435

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x) / self.divisor


class DividedGELU(Divided):
    """``x·Φ(x)`` / 1.1289042234…; steepest at x = √2, where the slope is (1 + erf 1)/2 + 1/(e·√π)."""

    divisor = 1.1289042234420776

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x) / self.divisor


class DividedMish(Divided):
    """``x·tanh(softplus(x))`` / 1.0884982347…; steepest at x = 1.49057118…."""

    divisor = 1.0884982347488403

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(x) / self.divisor


class Grouped(nn.Module, ABC):
    """Acts jointly on groups of units of the last dimension; 1-Lipschitz in l2 as a whole.

    n = features // size groups of the units i, i + n, i + 2n, …: contiguous parts, which are faster than neighbours.
    The units left over at the end form a smaller group; a single one passes unchanged. Any output of a group may
    follow any of its inputs, so what holds unit by unit (slopes in [0, 1], diagonal scalings) does not hold here.
    """

    #: Units per group; ``None`` for all.
    group: ClassVar[int | None]

    @abstractmethod
    def on_groups(self, x: Tensor) -> Tensor:
        """(…, size, groups) → the same shape, group by group."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (…, features) to (…, features)."""
        return self._by_group(x, self.on_groups)

    def spread(self, error: Tensor) -> Tensor:
        """Bounds of each output's error (…, features) from bounds ≥ 0 of each input's.

        √2 times the largest of the group: sorting is 1-Lipschitz in l-inf, and an l2 isometry of a pair moves an
        output by at most √2 times the larger of two errors.
        """
        return math.sqrt(2.0) * self._by_group(error, lambda e: e.amax(dim=-2, keepdim=True).expand_as(e))

    def _by_group(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        size = self.group or x.shape[-1]
        groups, left = divmod(x.shape[-1], size)
        whole, rest = x[..., : groups * size], x[..., groups * size :]
        y = function(whole.reshape(*x.shape[:-1], size, groups)).flatten(-2)
        if left == 0:
            return y
        return torch.cat([y, rest if left == 1 else function(rest.unsqueeze(-1)).squeeze(-1)], dim=-1)


class MaxMin(Grouped):
    """Each pair as (larger, smaller). Anil, Lucas & Grosse 2019, "Sorting out Lipschitz function approximation".

    A permutation at every place: 1-Lipschitz in every l_p, and gradients keep their norm.
    """

    group = 2

    def on_groups(self, x: Tensor) -> Tensor:
        a, b = x.unbind(-2)
        return torch.stack([torch.maximum(a, b), torch.minimum(a, b)], dim=-2)


class GroupSort(Grouped):
    """Sorts groups of four, ascending; a permutation like :class:`MaxMin`. Anil et al. 2019, section 4.1."""

    group: ClassVar[int | None] = 4

    def on_groups(self, x: Tensor) -> Tensor:
        return x.sort(dim=-2).values


class FullSort(GroupSort):
    """Sorts all units, ascending. Anil et al. 2019, section 4.1."""

    group = None


class Householder(Grouped):
    """Reflects each pair z into the half plane ``vᵀz ≥ 0``, with v = (sin θ/2, -cos θ/2) and one learned θ per pair.

    Singla, Singla & Feizi 2021, "Improved deterministic l2 robustness on CIFAR-10 and CIFAR-100", order 1: z where
    ``vᵀz > 0``, ``(I - 2vvᵀ)z`` elsewhere. Continuous and piecewise orthogonal, so 1-Lipschitz in l2 (not in l-inf)
    for every θ. Starts at θ = π/2, where it is :class:`MaxMin`.

    Args:
        features: units it acts on.
    """

    group = 2

    def __init__(self, features: int) -> None:
        super().__init__()
        self.angle = nn.Parameter(torch.full((positive_int("features", features) // 2,), math.pi / 2))

    def on_groups(self, x: Tensor) -> Tensor:
        half = self.angle / 2
        normal = torch.stack([half.sin(), -half.cos()])
        behind = (x * normal).sum(dim=-2, keepdim=True).clamp(max=0.0)
        return x - 2.0 * behind * normal

    def extra_repr(self) -> str:
        return f"pairs={self.angle.numel()}"
