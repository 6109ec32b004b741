"""One step to the polar factor in float32 alone, proven a priori to end inside the ball: for weights in training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsrl.layers._float32_gram import BLOCK, LARGEST, SMALLEST, error_share, full_gram
from lipsrl.layers._polar import SERIES, degree_for
from lipsrl.layers._precision import UNIT32, gamma, multiplies_in_float32

#: How far (relative) inside the ball the step aims, at least and at most: what float32 may be wrong by must be less.
ROOM, LARGEST_ROOM = 1e-3, 2e-3


def room_of(k: int, n: int) -> float:
    """How far inside the ball the step of a (k, n) or (n, k) weight aims; a quarter more than the proof needs."""
    return max(ROOM, 0.8 * error_share(n) * k)


@torch.no_grad()
def float32_polar_step(weight: Tensor, radius: float, near: float) -> Tensor | None:
    """``r = radius·(1 - room_of(k, n))`` times the polar factor of ``weight``, of norm ≤ ``radius`` for certain.

    The step is that of :func:`~lipsrl.layers._polar.proven_polar_step`, whose notation this has. There the Gram matrix
    is known in float64. Here the computed E is off by at most ``δ = error_share·‖S‖_F²`` and two roundings of its
    entries, the series by ``0.6δ`` more, the result by 1.05 times that. δ is 1.1e-3 for 512×256, 1.7e-3 for 400×403:
    so much room is left that nothing has to be verified.

    Args:
        weight: (m, n) S·r.
        near: weights of which all singular values are equal up to this are left to the exact projection, which leaves
            them as they are if they are inside.

    Returns:
        ``None`` where nothing is proven, or nothing to be done.
    """
    k, n = min(weight.shape), max(weight.shape)
    room = room_of(k, n)
    if (
        weight.dtype != torch.float32
        or k < BLOCK
        or room > LARGEST_ROOM
        or not SMALLEST < radius < LARGEST
        or not multiplies_in_float32(weight.device)
    ):
        return None
    tall = weight.shape[0] >= weight.shape[1]
    gap = full_gram(weight.mT if tall else weight).mul_(-1.0 / (radius * (1.0 - room)) ** 2)
    gap.diagonal().add_(1.0)
    flat = gap.reshape(-1)
    distance = math.sqrt(float(torch.dot(flat, flat))) * (1.0 + gamma(flat.numel()))
    if not distance < 0.1 + 2.1 * room * math.sqrt(k):
        return None
    square = k + math.sqrt(k) * distance  # ≥ ‖S‖_F² but for δ
    share = error_share(n)
    delta = share * square / (1.0 - share) + 3 * UNIT32 * math.sqrt(k) * (1.0 + distance) + 1e-7
    size = math.sqrt(square + math.sqrt(k) * delta)
    shrunk = float(gap.diagonal().mean())
    if abs(shrunk) < 3 * room and distance - abs(shrunk) * math.sqrt(k) < near * k:
        rest = gap.clone()
        rest.diagonal().sub_(shrunk)
        if float(rest.abs_().max()) <= near:
            return None
    degree = degree_for(gap, distance)
    distance += delta
    if not (degree and distance < 0.1):
        return None
    over = 0.0 if degree % 2 else 1.1 * SERIES[degree] * distance ** (degree + 1)
    of_series = 0.6 * delta + 2.2 * gamma(k + 2) * distance
    total = 1.05 * of_series + gamma(k) * size * 0.6 * distance + 1.05 * UNIT32 * size + over
    if not total <= room:
        return None
    correction = gap * SERIES[degree - 1]
    for coefficient in reversed(SERIES[: degree - 1]):
        correction = torch.addmm(gap, gap, correction, beta=coefficient)
    product = weight @ correction if tall else correction @ weight
    return product.add_(weight)
