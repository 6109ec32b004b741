"""Add a loss to another one through the gradient of a tensor that the other one depends on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Ride(torch.autograd.Function):
    """Identity in ``carrier``; in the backward pass ``loss`` receives the gradient 1."""

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, loss: Tensor) -> Tensor:
        return carrier.view_as(carrier)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor]:
        gradient: Tensor = gradients[0]
        return gradient, gradient.new_ones(())


def ride(carrier: Tensor, loss: Tensor) -> Tensor:
    """``carrier``, unchanged; whoever calls ``backward`` on a function of it adds the gradients of ``loss`` once.

    So the parameters receive the gradients of "their loss + ``loss``", without a copy of the code that computes theirs.

    Args:
        carrier: any tensor that their loss depends on, in exactly one ``backward``.
        loss: scalar (), of the same dtype.
    """
    carried: Tensor = _Ride.apply(carrier, loss)  # type: ignore[no-untyped-call]
    return carried
