"""Orthogonal layers by the Cayley map."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lipsrl._context import own_precision
from lipsrl.layers._maps import MappedLayer
from lipsrl.layers._parametrised import limited

#: Free parameters act as if they were no larger than this: beyond, float64 would lose the bound to rounding.
LARGEST = 30.0

#: Where a row of ``I + A`` has a larger l1 norm, float32 is more than 5e-6 off and float64 computes instead.
WELL_CONDITIONED = 64.0


def cayley(weight: Tensor) -> Tensor:
    """Matrix with orthonormal columns from any ``weight`` [U; V] (m, n), m ≥ n, differentiable once.

    Trockman & Kolter 2021, "Orthogonalizing convolutional layers with the Cayley transform", section 4.2 (their
    rectangular form): ``A = U - Uᵀ + VᵀV``, ``Q = [(I - A)(I + A)⁻¹; -2V(I + A)⁻¹]``. Computed as
    ``[2S - I; -2VS]`` with ``S = (I + A)⁻¹``: solving for ``I - A`` instead loses up to 3e-3 in float32.

    Raises:
        ValueError: NaN or infinite entries.
    """
    q: Tensor = _Cayley.apply(limited(weight, LARGEST))[0]  # type: ignore[no-untyped-call]
    return q


def _one_plus_a(weight: Tensor) -> Tensor:
    n = weight.shape[1]
    shifted = torch.addmm(weight[:n], weight[n:].mT, weight[n:])
    shifted -= weight[:n].mT
    shifted.diagonal().add_(1.0)
    return shifted


class _Cayley(torch.autograd.Function):
    """:func:`cayley` and S. The backward needs no factorisation of its own: ``dS = -S dA S``.

    With a ``setup_context``, without which torch.func does not take it.
    """

    @staticmethod
    def forward(weight: Tensor) -> tuple[Tensor, Tensor]:
        n, dtype = weight.shape[1], weight.dtype
        shifted = _one_plus_a(weight)
        if dtype != torch.float64 and not float(shifted.abs().sum(dim=1).max()) <= WELL_CONDITIONED:
            weight = weight.double()
            shifted = _one_plus_a(weight)
        v = weight[n:]
        identity = torch.eye(n, dtype=weight.dtype, device=weight.device)
        # I + A is regular: its symmetric part is at least I. From the right is a fifth cheaper than `inv`.
        inverse = torch.linalg.solve(shifted, identity, left=False)
        q = torch.empty_like(weight)
        torch.mul(inverse, 2.0, out=q[:n]).diagonal().sub_(1.0)
        torch.mm(v, inverse, out=q[n:]).mul_(-2.0)
        return q.to(dtype), inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], inputs[0])

    @staticmethod
    def vmap(
        _: Any, in_dims: tuple[int | None], weight: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Any, Any]]:
        if in_dims != (None,):
            raise NotImplementedError("Cayley layers cannot be vmapped over weights; loop over the networks.")
        return _Cayley.apply(weight), (None, None)  # type: ignore[no-untyped-call]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        inverse, weight = ctx.saved_tensors
        with own_precision(inverse):
            n, dtype = len(inverse), grad.dtype
            v = weight[n:].to(inverse.dtype)
            grad = grad.to(inverse.dtype)
            by_inverse = torch.addmm(grad[:n], v.mT, grad[n:], alpha=-1.0)  # half of the gradient of S
            by_a = inverse.mT @ by_inverse @ inverse.mT  # half of the gradient of -A
            out = torch.empty_like(grad)
            torch.sub(by_a.mT, by_a, out=out[:n])
            torch.addmm(grad[n:] @ inverse.mT, v, by_a + by_a.mT, beta=-1.0, alpha=-1.0, out=out[n:])
            return out.mul_(2.0).to(dtype)


class Cayley(MappedLayer):
    """Linear layer with orthonormal rows or columns, times ``bound``, by :func:`cayley`, with an optional activation.

    Exact whatever the parameters, at the price of an inverse per training forward; ``orthogonal`` is the cheaper,
    projected form. A square Q has determinant 1 and no eigenvalue -1.
    """

    name: ClassVar[str] = "cayley"
    contraction = staticmethod(cayley)

    def start(self, rows: int, columns: int) -> Tensor:
        """Entries of variance 1/rows: then ``VᵀV`` and the rotation ``U - Uᵀ`` are of the size of I."""
        return torch.randn(rows, columns, dtype=torch.float64) / math.sqrt(rows)
