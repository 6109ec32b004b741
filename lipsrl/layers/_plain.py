"""Plain torch modules from given weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A fresh ``nn.Linear`` with copies of ``weight`` (out, in) and ``bias`` (out,).

    Its random initialisation is skipped: it would draw from torch's global generator, and looking at a network
    (a certificate in a callback) must not change the training that goes on.
    """
    linear = nn.Linear(
        weight.shape[1], weight.shape[0], bias=bias is not None, device="meta", dtype=weight.dtype
    ).to_empty(device=weight.device)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear


class Residual(nn.Module):
    """``x ↦ S x + branch(x)``: what a residual layer is merged into.

    Attributes:
        branch: ``nn.Sequential`` of plain modules.
        skip: ``nn.Linear`` without bias; the identity is written out, padded or cut where the sizes differ.
    """

    def __init__(self, branch: Iterable[nn.Module], skip: Tensor) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.skip = plain_linear(skip, None)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x) + self.skip(x)
        return out


class Scale(nn.Module):
    """``x ↦ factor·x``: SB3 divides images by 255 before a policy sees them."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = float(factor)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor:g}"


class Parallel(nn.Module):
    """Each branch on its own slice of the input, the results side by side: what a Dict observation goes through.

    Args:
        branches: plain modules, first slice first.
        sizes: length of each slice.
    """

    def __init__(self, branches: Iterable[nn.Sequential], sizes: Iterable[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (n, Σ sizes) to (n, Σ outputs)."""
        slices = torch.split(x, list(self.sizes), dim=-1)
        return torch.cat([branch(part) for branch, part in zip(self.branches, slices, strict=True)], dim=-1)

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}"
