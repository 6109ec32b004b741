"""SDP-based Lipschitz layers (SLL): residual blocks."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors
from lipsrl.layers._linalg import EPS64, spectral_norm
from lipsrl.layers._maps import dominating_diagonal
from lipsrl.layers._parametrised import ParametrisedLayer, limited
from lipsrl.layers.activations import is_homogeneous

#: Largest |log q| that acts.
MAX_LOG_Q = 10.0

#: Largest root of T that acts, and one over the smallest.
MAX_ROOT = 1e2


def sll_contraction(weight: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """``V = T^½ W`` and ``T^½`` (h,) with ``T_ii = 1/Σⱼ |WWᵀ|ᵢⱼ qⱼ/qᵢ``, from any ``weight`` W (h, n); differentiable.

    Araujo et al. 2023, "A unified algebraic perspective on Lipschitz neural networks", theorem 3: ``T⁻¹ ⪰ WWᵀ``, so
    V is a contraction.

    Raises:
        ValueError: NaN or infinite entries.
    """
    w = limited(weight)
    log_q = limited(log_q).clamp(-MAX_LOG_Q, MAX_LOG_Q)
    root = dominating_diagonal(w @ w.mT, log_q).rsqrt()
    return w * root.unsqueeze(1), root


class SLL(ParametrisedLayer):
    """``y = P x - 2WᵀT φ(W x + b)`` with ``T⁻¹ ⪰ WWᵀ``, times ``bound``: 1-Lipschitz for slopes of φ in [0, 1].

    Araujo et al. 2023, theorem 3. With ``V = T^½ W`` and ``Ψ = T^½`` this is ``P x - 2VᵀΨ φ(Ψ⁻¹V x + b)``, whose
    Jacobian ``I - 2VᵀDV`` has norm ≤ 1 for every diagonal 0 ≤ D ≤ I if ``‖V‖₂ ≤ 1``, whatever Ψ > 0; so Ψ may be
    limited, and is left to the bias where φ is positively homogeneous. The block is square, of size max(in, out): its
    input is padded with zeros, or its output is cut. ``weight`` is (out, max(in, out)).
    """

    name: ClassVar[str] = "sll"
    needs_unit_slope: ClassVar[bool] = True
    weight: nn.Parameter

    def reset_parameters(self, gain: float) -> None:  # cannot shrink: gain has no meaning here
        size = max(self.in_features, self.out_features)
        self.weight = nn.Parameter(torch.randn(self.out_features, size) / math.sqrt(size))
        self.log_q = nn.Parameter(torch.zeros(self.out_features))

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        v, root = self._contraction(dtype)
        inner, outer = v[:, : self.in_features], v[:, : self.out_features].mT
        scale = self.bound * (1 - self.margin)
        skip = torch.eye(self.out_features, self.in_features, dtype=v.dtype, device=v.device) * scale
        if self.activation_name is None or is_homogeneous(self.activation_name):
            return Factors(inner, (-2 * scale) * outer, skip)
        psi = root.clamp(1 / MAX_ROOT, MAX_ROOT)
        return Factors(inner / psi.unsqueeze(1), (-2 * scale) * outer * psi, skip, psi)

    def _contraction(self, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        weight, log_q = (p if dtype is None else p.to(dtype) for p in (self.weight, self.log_q))
        return sll_contraction(weight, log_q)

    def lipschitz_bound(self) -> float:
        """``bound·max(1, 2‖V‖² - 1)``, with the norm of V in float64 instead of what it should be."""
        v, _ = self._contraction(torch.float64)
        residual = max(1.0, 2 * spectral_norm(v) ** 2 - 1)
        rounding = 16 * EPS64 * sum(v.shape)  # of the products with Ψ and its inverse
        return self.bound * (1 - self.margin) * residual * (1 + rounding)
