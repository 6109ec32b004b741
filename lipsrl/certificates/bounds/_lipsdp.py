"""LipSDP-Neuron bounds without a solver, every returned number verified by a float64 Cholesky factorisation."""

from __future__ import annotations

import math

import torch

from lipsrl.certificates.bounds._chain import Chain
from lipsrl.certificates.bounds._interior_point import minimise
from lipsrl.certificates.bounds._problem import Problem
from lipsrl.certificates.bounds._verification import EllipsoidBound, verified
from lipsrl.layers._linalg import EPS64

#: Relative distance from the optimum of the semidefinite program (of the squared constant) at which the search ends.
GAP = 5e-4


@torch.no_grad()
def eclipse_fast_bound(chain: Chain) -> EllipsoidBound | None:
    """ECLipsE-Fast: LipSDP multipliers in closed form, one number per layer (slopes in [0, s]).

    Xu & Sivaranjani 2024, "ECLipsE", proposition 3: ``X₀ = I; l = 2/λmax(W X⁻¹ Wᵀ); X ← l·I - l²/4·W X⁻¹ Wᵀ``.

    Returns:
        The bound, or ``None`` where a slope is negative or float64 cannot verify it.
    """
    if not chain.monotone or len(chain.weights) == 1:
        return lipsdp_bound(chain) if len(chain.weights) == 1 else None
    high = torch.cat(chain.high)
    weights = [
        w if i == 0 else w * chain.high[i - 1] for i, w in enumerate(chain.weights)
    ]  # slopes in [0, 1]
    try:
        x = torch.eye(weights[0].shape[1], dtype=torch.float64)
        multipliers = []
        for weight in weights[:-1]:
            gram = weight @ torch.linalg.solve(x, weight.mT)
            size = max(float(torch.linalg.eigvalsh(gram)[-1]), 1e-300)
            level = 2.0 / size
            multipliers.append(torch.full((len(weight),), level, dtype=torch.float64))
            x = level * torch.eye(len(weight), dtype=torch.float64) - level**2 / 4 * gram
        last = weights[-1] @ torch.linalg.solve(x, weights[-1].mT)
        rho = float(torch.linalg.eigvalsh(last)[-1]) * (1 + 1e-9)
        # M counts the output with weight one, and in units of v/s a constraint is s² times smaller
        scaled = torch.cat(multipliers) * rho / high.clamp_min(1e-300).square()
        return verified(Problem(chain), scaled)
    except RuntimeError:
        return None


@torch.no_grad()
def lipsdp_bound(chain: Chain, *, gap: float = GAP) -> EllipsoidBound | None:
    """The LipSDP-Neuron bound of ``chain``, its square within ``gap`` (relative) of the optimum.

    Args:
        chain: network of plain linear maps and elementwise activations.
        gap: when to stop; every point on the way is a sound certificate.

    Returns:
        The bound, or ``None`` where float64 cannot verify one (extreme weights).
    """
    if len(chain.weights) == 1:
        (weight,) = chain.weights
        largest = float(weight.abs().max())
        if largest and not 1e-140 < largest < 1e140:  # squares that float64 does not hold
            return None
        gram = weight.mT @ weight
        gram.diagonal().add_(4 * EPS64 * (len(weight) + 2) * float(weight.square().sum()))
        return EllipsoidBound(gram)
    unit, scale = normalised(chain)
    problem = Problem(unit)
    try:
        multipliers = minimise(problem, gap)
        found = verified(problem, multipliers)
    except RuntimeError:
        return None
    if found is None or not 1e-140 < scale < 1e140:
        return None
    return EllipsoidBound(found.matrix * scale**2, multipliers)


def normalised(chain: Chain) -> tuple[Chain, float]:
    """Weights of norm about one, by powers of two (exact), and the factor that the constant is smaller by."""
    weights, scale = [], 1.0
    for weight in chain.weights:
        norm = float(weight.norm())
        power = 2.0 ** round(math.log2(norm)) if 0.0 < norm < math.inf else 1.0
        weights.append(weight / power)
        scale *= power
    return Chain(tuple(weights), chain.low, chain.high), scale
