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
