"""Sandwich layers (Wang & Manchester 2023), held by projection."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors, LipschitzLayer
from lipsrl.layers._linalg import MARGIN, check_finite, random_orthonormal, spectral_norm
from lipsrl.layers.activations import is_homogeneous
from lipsrl.layers.orthogonal import project_on_tangent, retract_cheaply, retract_exactly, retract_roughly

SQRT2 = math.sqrt(2.0)

#: The stack is held at this norm times the layer's radius, and divided by it. A step of an adaptive optimizer has a
#: given size per entry, and moves ``2AᵀB`` by twice as much over it: at 2 as far as it moves a plain layer's weight.
RADIUS = 2.0

#: Radius of a layer that is told no unit: the stack then has norm 4. At 1 PPO's policy jumps (KL divergences of 3 to 15
#: in some update of every run, and two failed trainings of ten on Pendulum, docs/pendulum.md).
OWN_RADIUS = 2.0

#: Largest |log Ψ|. Float32 holds Ψ/Ψ′ between two layers up to e^±87; beyond it the merged weights are NaN.
MAX_LOG_PSI = 30.0


def stack_of(b: Tensor) -> Tensor:
    """[Aᵀ; Bᵀ] (out + in, out), float64, with orthonormal columns, of ``b`` (out, in) and ``A = (I - BBᵀ)^½``.

    The layer's slope with every unit active is ``2AᵀB``: its singular values are sin 2θ for sin θ those of B.
    """
    u, sines, _ = torch.linalg.svd(b, full_matrices=False)
    shrunk = (u * (1 - (1 - sines**2).sqrt())) @ u.mT
    return torch.cat([torch.eye(len(b), dtype=b.dtype) - shrunk, b.mT]) * (1 - MARGIN)


def balanced_stack(in_features: int, out_features: int, gain: float = 1.0) -> Tensor:
    """Random stack, float64, with all singular values of ``2AᵀB`` equal to ``gain``.

    In the first layer of a *uniformly* random stack with few inputs they are 0.4 (there B ≈ 1 and A ≈ 0.2 on the
    inputs' directions). Such a network starts, and stays for long, far below its bound.
    """
    stack = stack_of(random_orthonormal(out_features, in_features, math.sin(math.asin(gain) / 2)))
    stack[:out_features] = random_orthonormal(out_features, out_features) @ stack[:out_features]
    return stack


def sine_of_half(sine: Tensor) -> Tensor:
    """sin θ of ``sine`` = sin 2θ, for θ up to 45°."""
    return torch.sin(torch.asin(sine.clamp(0.0, 1.0)) / 2)


class Sandwich(LipschitzLayer):
    """``y = √2·Aᵀ Ψ φ(√2·Ψ⁻¹ B x + b)`` with ``AAᵀ + BBᵀ ⪯ I``: 1-Lipschitz for slopes of φ in [0, 1].

    Wang & Manchester, "Direct parameterization of Lipschitz-bounded deep networks" (ICML 2023), eq. 8–9.
    Richer than a product of contractions: each factor may have norm √2 (2 between two layers), because the
    bound counts the activation's slope. ``stack`` = [Aᵀ; Bᵀ], (out + in, out), is held as plain weights with
    orthonormal columns by one Newton–Schulz step per optimizer step, instead of the paper's Cayley map per
    forward. Only ``‖stack‖₂ ≤ 1`` is needed for the bound: with I - AAᵀ ⪰ BBᵀ the LipSDP inequality holds
    for every positive Ψ. So a polyak average (norm ≤ 1, some other Ψ) is 1-Lipschitz as well.

    Where B is small, the layer is flat, and each direction may grow by itself up to the bound. So it can start as a
    plain layer does (``gain``, :meth:`start_from`), with Ψ such that the activation receives what that one's does.

    ``log_psi`` is learned unless φ is positively homogeneous, where Ψ can be absorbed by the bias.
    """

    name: ClassVar[str] = "sandwich"
    needs_unit_slope: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    stack: nn.Parameter

    @classmethod
    def own_unit(cls, bound: float) -> float:
        return bound / OWN_RADIUS

    @property
    def held(self) -> float:
        """Norm of the stack."""
        return RADIUS * self.radius

    def reset_parameters(self, gain: float) -> None:
        if self.activation_name is None:
            raise ValueError("A sandwich layer needs an activation; use layer='spectral' for a linear one.")
        self.stack = nn.Parameter(
            (self.held * balanced_stack(self.in_features, self.out_features, gain)).to(self.bias.dtype)
        )
        self.log_psi: nn.Parameter | None = None
        if not is_homogeneous(self.activation_name):
            # at gain 1 Ψ = 1; below, such that W_out has norm 1 where W_in acts
            outer = SQRT2 * math.cos(math.asin(gain) / 2)
            self.log_psi = nn.Parameter(torch.full((self.out_features,), -math.log(outer)))

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> None:
        """As ``y = φ(weight·x + bias)`` does, for singular values of ``weight`` up to ``bound``."""
        u, sigma, v = torch.linalg.svd(weight.double(), full_matrices=False)
        sines = sine_of_half(sigma / self.bound)
        self.stack.copy_(self.held * stack_of((u * sines) @ v))
        outer = SQRT2 * (1 - sines.square().mean()).sqrt()
        if self.log_psi is None:
            self.bias.div_(outer)
        else:
            self.log_psi.fill_(-math.log(float(outer)))

    @torch.no_grad()
    def hold(self, bound: float, unit: float) -> None:
        if (bound, unit) != (self.bound, self.unit):
            check_finite(self.stack, "stack")
            stack = self.stack.double() / self.held
            # what the activation receives stays, and so does what it hands on, up to the projection: there 2AᵀB is the
            # same matrix for θ and 90° - θ, but with another A and B the layer would be another function
            stack[self.out_features :] *= self.bound / bound
            self.stack.copy_(RADIUS * bound / unit * stack)
        super().hold(bound, unit)

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """``√2·bound·Ψ⁻¹B`` and ``√2·AᵀΨ``: the bound is spent before the activation."""
        stack = self.stack if dtype is None else self.stack.to(dtype)
        # one split: its gradient is put together in one pass, that of two slices in zeros that are added
        upper, lower = torch.split(stack, [self.out_features, self.in_features])
        inner = (SQRT2 * self.bound / self.held) * lower.mT
        outer = (SQRT2 / self.held) * upper
        if self.log_psi is None:
            return Factors(inner, outer)
        log_psi = self.log_psi if dtype is None else self.log_psi.to(dtype)
        psi = torch.exp(log_psi)
        return Factors(inner * torch.exp(-log_psi).unsqueeze(1), outer * psi, unit_scale=psi)

    def lipschitz_bound(self) -> float:
        # With stack = s·(a stack of norm 1) the layer is x ↦ s·layer₁(s·x): s²-Lipschitz, for s above 1 too.
        return self.bound * (spectral_norm(self.stack) / self.held) ** 2

    @torch.no_grad()
    def project(self) -> bool:
        return self._adopt(retract_exactly(self.stack, self.held))

    @torch.no_grad()
    def project_roughly(self) -> bool:
        return self._adopt(retract_roughly(self.stack, self.held))

    def _adopt(self, retracted: Tensor | None) -> bool:
        if retracted is not None:
            self.stack.copy_(retracted)
        return self._limit_psi() or retracted is not None

    def _limit_psi(self) -> bool:
        if self.log_psi is None:
            return False
        check_finite(self.log_psi, "log_psi")
        if float(self.log_psi.abs().max()) <= MAX_LOG_PSI:
            return False
        self.log_psi.clamp_(-MAX_LOG_PSI, MAX_LOG_PSI)
        return True

    def project_gradient(self) -> None:
        if self.stack.grad is not None:
            project_on_tangent(self.stack.grad, self.stack, self.held)

    @torch.no_grad()
    def project_cheaply(self) -> float:
        return retract_cheaply(self.stack, self.held)
