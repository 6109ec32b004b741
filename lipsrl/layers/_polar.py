"""One step to the polar factor that is proven to end inside the ball: one float64 Gram matrix, nothing factorised."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsrl.layers._linalg import EPS64, MARGIN
from lipsrl.layers._precision import gamma, multiplies_in_float32

#: Coefficients of ``(1 - e)^-½ = 1 + e/2 + 3e²/8 + 5e³/16 + 35e⁴/128 + …``.
SERIES = (0.5, 0.375, 0.3125, 0.2734375)

#: Terms are added until the entries of what is left (in units of the radius) are below this …
NEAR_ENOUGH = 4e-6
#: … and the step must be possible this far (relative) inside the ball. Otherwise it is not taken.
LARGEST_MARGIN = 4e-6

#: Weights of other sizes could underflow in a float32 product.
SMALLEST, LARGEST = 1e-15, 1e15


def degree_for(gap: Tensor, distance: float) -> int:
    """How many terms of the series leave entries below ``NEAR_ENOUGH``; 0 if more than three would be needed.

    What is left is ``≈ 2c_{d+1}·E^{d+1}``; its entries are at most the largest squared row of E times ``‖E‖^{d-1}``
    (Cauchy–Schwarz).
    """
    rows = distance**2 if SERIES[1] * 2 * distance**2 <= NEAR_ENOUGH else float(gap.square().sum(1).max())
    return next((d for d in (1, 2, 3) if SERIES[d] * 2 * rows * distance ** (d - 1) <= NEAR_ENOUGH), 0)


@torch.no_grad()
def proven_polar_step(
    weight: Tensor, gap: Tensor, distance: float, radius: float, *, matrix: Tensor
) -> Tensor | None:
    """``radius`` times the polar factor of ``weight`` up to 1e-5, of norm ≤ ``radius`` for certain; ``None``: too far.

    With ``E = I - SᵀS`` the polar factor of S is ``S(I - E)^-½``. The series of that root, cut off after the terms
    of degree d, maps a singular value s with ``e = 1 - s²`` in (-1, 1) to at most 1 if d is odd or e ≥ 0: all terms
    that are left out are then positive, or alternate and fall, the first of them positive (Björck & Bowie 1971; d = 1
    is a Newton–Schulz step). For even d and e < 0 it is above 1 by at most ``s·c_{d+1}·|e|^{d+1}``.

    So the product has norm ≤ 1 but for rounding, and *no float32 Gram or factorisation has to be trusted*: with
    ``C`` for the series less I,

    - the float64 Gram behind ``gap`` is off by ``γ_m·‖S‖_F²`` in float64;
    - C in float32 is off by ``2γ_{n+2}·‖E‖_F``, for every E with ``‖E‖_F < 0.1``;
    - the product ``S·C`` by ``γ_n·‖S‖_F·‖C‖_F`` in the dtype that it is made in (Higham 2002, section 3.5);
    - the sum ``S + S·C``, once rounded, by u·‖S + S·C‖_F.

    The step aims that much inside the ball: the first three are small because C is, the last is one rounding.

    Args:
        weight: (m, n) S·radius.
        gap: E in float64, of the smaller Gram matrix (k, k).
        distance: ‖E‖_F.
        radius: of the ball.
        matrix: ``weight`` in float64.
    """
    k, dtype = len(gap), weight.dtype
    distance *= 1.0 + EPS64 * k**2  # rounding of the norm
    if not (distance < 0.1 and SMALLEST < radius < LARGEST):
        return None
    degree = degree_for(gap, distance)
    if not degree:
        return None
    unit = torch.finfo(dtype).eps / 2
    size = math.sqrt(k * (1.0 + distance))  # ≥ ‖S‖_F
    series = 0.6 * distance  # ≥ ‖C‖_F
    over = 0.0 if degree % 2 else 1.1 * SERIES[degree] * distance ** (degree + 1)
    rounded = 1.05 * unit * size + over + 16 * EPS64 * sum(weight.shape) * k
    own = dtype if multiplies_in_float32(weight.device) else torch.float64
    for work in dict.fromkeys((own, torch.float64)):
        wrong = gamma(k + 2, torch.finfo(work).eps / 2)
        # of C; of the product, where the part of C that moves the aim is of size LARGEST_MARGIN·√k
        margin = rounded + wrong * 2.2 * distance + wrong * size * (series + LARGEST_MARGIN * math.sqrt(k))
        if margin <= LARGEST_MARGIN:
            break
    else:
        return None
    gap = gap.to(work)
    correction = gap * SERIES[degree - 1]
    for coefficient in reversed(SERIES[: degree - 1]):
        correction = torch.addmm(gap, gap, correction, beta=coefficient)
    aim = max(MARGIN, margin)
    correction.mul_(1.0 - aim).diagonal().sub_(aim)
    factor = weight if work == dtype else matrix
    product = factor @ correction if weight.shape[0] >= weight.shape[1] else correction @ factor
    return product.add_(factor).to(dtype)
