"""Sandwich layers (Wang & Manchester 2023) by one Cayley map."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors
from lipsrl.layers._linalg import check_finite, random_orthonormal, spectral_norm
from lipsrl.layers._parametrised import ParametrisedLayer, limited
from lipsrl.layers.activations import is_homogeneous
from lipsrl.layers.cayley import cayley
from lipsrl.layers.sandwich import MAX_LOG_PSI, SQRT2

#: The Cayley map is taken of the weight divided by it, so it sets how far one step of an adaptive optimizer turns the
#: layer: at 1 seven to ten times as far as one of :class:`~lipsrl.layers.sandwich.Sandwich`, at 8 about as far. 4 is
#: what was trained (docs/layers.md). Zips are read with it: another value would be another function.
RADIUS = 4.0


def balanced_start(in_features: int, out_features: int) -> Tensor:
    """Free weight (out + in, out), float64, whose Cayley map [Aᵀ; Bᵀ] has all singular values of B equal to 1/√2.

    With U = 0 and V = (√2 - 1)·(orthonormal), A is symmetric and the layer's slope with every unit active, ``2AᵀB``,
    has singular values 1, as that of :func:`~lipsrl.layers.sandwich.balanced_stack`.
    """
    v = random_orthonormal(in_features, out_features, SQRT2 - 1)
    return torch.cat([torch.zeros(out_features, out_features, dtype=v.dtype), v])


class SandwichCayley(ParametrisedLayer):
    """``y = √2·Aᵀ Ψ φ(√2·Ψ⁻¹ B x + b)`` with ``AAᵀ + BBᵀ = I``: 1-Lipschitz for slopes of φ in [0, 1].

    Wang & Manchester, "Direct parameterization of Lipschitz-bounded deep networks" (ICML 2023), eq. 8–9: [Aᵀ; Bᵀ] is
    the Cayley map of ``weight`` (out + in, out). :class:`~lipsrl.layers.sandwich.Sandwich` is the cheaper, projected
    form. A polyak average is taken of the free parameters, so it is a Sandwich layer as well.

    ``log_psi`` is learned unless φ is positively homogeneous, where Ψ can be absorbed by the bias; it acts as if its
    entries were at most :data:`~lipsrl.layers.sandwich.MAX_LOG_PSI`.
    """

    name: ClassVar[str] = "sandwich-cayley"
    needs_unit_slope: ClassVar[bool] = True
    weight: nn.Parameter

    def reset_parameters(self, gain: float) -> None:  # cannot shrink: gain has no meaning here
        if self.activation_name is None:
            raise ValueError("A sandwich layer needs an activation; use layer='cayley' for a linear one.")
        start = RADIUS * balanced_start(self.in_features, self.out_features)
        self.weight = nn.Parameter(start.to(self.bias.dtype))
        self.log_psi: nn.Parameter | None = None
        if not is_homogeneous(self.activation_name):
            self.log_psi = nn.Parameter(torch.zeros(self.out_features))

    def stack(self, dtype: torch.dtype | None = None) -> Tensor:
        """[Aᵀ; Bᵀ] (out + in, out), differentiable, computed in ``dtype``."""
        weight = self.weight if dtype is None else self.weight.to(dtype)
        return cayley(weight / RADIUS) * (1 - self.margin)

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """``√2·bound·Ψ⁻¹B`` and ``√2·AᵀΨ``: the bound is spent before the activation."""
        stack = self.stack(dtype)
        inner = (SQRT2 * self.bound) * stack[self.out_features :].mT
        outer = SQRT2 * stack[: self.out_features]
        if self.log_psi is None:
            return Factors(inner, outer)
        log_psi = limited(self.log_psi).to(stack.dtype).clamp(-MAX_LOG_PSI, MAX_LOG_PSI)
        psi = torch.exp(log_psi)
        return Factors(inner * torch.exp(-log_psi).unsqueeze(1), outer * psi, unit_scale=psi)

    def lipschitz_bound(self) -> float:
        if self.log_psi is not None:
            check_finite(self.log_psi, "log_psi")
        return self.bound * spectral_norm(self.stack(torch.float64)) ** 2
