"""Sandwich layers (Wang & Manchester 2023), held by projection."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import LipschitzLayer
from lipsrl.layers._linalg import MARGIN, random_orthonormal, spectral_norm
from lipsrl.layers.activations import POSITIVELY_HOMOGENEOUS
from lipsrl.layers.orthogonal import retract_cheaply, retract_exactly

SQRT2 = math.sqrt(2.0)


class Sandwich(LipschitzLayer):
    """``y = √2·Aᵀ Ψ φ(√2·Ψ⁻¹ B x + b)`` with ``AAᵀ + BBᵀ ⪯ I``: 1-Lipschitz for slopes of φ in [0, 1].

    Wang & Manchester, "Direct parameterization of Lipschitz-bounded deep networks" (ICML 2023), eq. 8–9.
    Richer than a product of contractions: each factor may have norm √2 (2 between two layers), because the
    bound counts the activation's slope. ``stack`` = [Aᵀ; Bᵀ], (out + in, out), is held as plain weights with
    orthonormal columns by one Newton–Schulz step per optimizer step, instead of the paper's Cayley map per
    forward. Only ``‖stack‖₂ ≤ 1`` is needed for the bound: with I - AAᵀ ⪰ BBᵀ the LipSDP inequality holds
    for every positive Ψ. So a polyak average (norm ≤ 1, some other Ψ) is 1-Lipschitz as well.

    ``log_psi`` is learned unless φ is positively homogeneous, where Ψ can be absorbed by the bias.
    """

    name: ClassVar[str] = "sandwich"
    stack: nn.Parameter

    def reset_parameters(self, gain: float) -> None:  # cannot shrink: gain has no meaning here
        if self.activation_name is None:
            raise ValueError("A sandwich layer needs an activation; use layer='spectral' for a linear one.")
        rows = self.out_features + self.in_features
        self.stack = nn.Parameter(
            random_orthonormal(rows, self.out_features, 1 - MARGIN).to(self.bias.dtype)
        )
        self.log_psi: nn.Parameter | None = None
        if self.activation_name not in POSITIVELY_HOMOGENEOUS:
            self.log_psi = nn.Parameter(torch.zeros(self.out_features))

    def input_weight(self) -> Tensor:
        """``√2·bound·Ψ⁻¹B``: the bound is spent before the activation."""
        weight = (SQRT2 * self.bound) * self.stack[self.out_features :].mT
        return weight if self.log_psi is None else weight * torch.exp(-self.log_psi).unsqueeze(1)

    def output_weight(self) -> Tensor:
        """``√2·AᵀΨ``."""
        weight = SQRT2 * self.stack[: self.out_features]
        return weight if self.log_psi is None else weight * torch.exp(self.log_psi)

    def lipschitz_bound(self) -> float:
        # With stack = s·(a stack of norm 1) the layer is x ↦ s·layer₁(s·x): s²-Lipschitz, for s above 1 too.
        return self.bound * spectral_norm(self.stack) ** 2

    @torch.no_grad()
    def project(self) -> bool:
        retracted = retract_exactly(self.stack, 1.0)
        if retracted is not None:
            self.stack.copy_(retracted)
        return retracted is not None

    @torch.no_grad()
    def project_cheaply(self) -> None:
        self.stack.copy_(retract_cheaply(self.stack, 1.0))
