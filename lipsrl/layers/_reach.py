"""How far a weight may move from one whose norm is proven before its norm must be proven again."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lipsrl.layers._linalg import gap_proves_contraction

#: What is proven is this much (of the square) above the estimate, …
ROOM = 0.1
#: … and not tried where it would leave less than this (relative) to the radius, …
LEAST = 0.01
#: … nor this many times after the weight was outside.
PAUSE = 8
#: Norms below this share of the radius are proven to be this share: what rounding is counted with belongs to 1.
SMALLEST = 0.05
#: Steps of the power iteration. It starts where the last one ended.
STEPS = 4
#: Differences of weights in smaller balls could underflow, and other types than these round more.
TINY, TYPES = 1e-12, (torch.float32, torch.float64)
#: More than float32 and float64 are wrong by, relative, in a difference and its Frobenius norm.
ROUNDING = 1e-6


class Reach(NamedTuple):
    """A weight of proven norm; by the triangle inequality it speaks for its neighbours, ``‖W‖ ≤ ‖W₀‖ + ‖W - W₀‖_F``.

    Attributes:
        weight: W₀ (m, n), nobody else's.
        norm: ≥ ‖W₀‖₂.
    """

    weight: Tensor
    norm: float

    @torch.no_grad()
    def covers(self, weight: Tensor, radius: float) -> bool:
        """Whether ``weight`` (m, n) is proven to have a norm ≤ ``radius``. Never of NaN or infinity."""
        if not (
            self.norm < radius and radius > TINY and _alike(weight, self.weight) and weight.dtype in TYPES
        ):
            return False
        moved = float(torch.linalg.vector_norm(weight - self.weight, dtype=torch.float64))
        return self.norm + moved * (1.0 + ROUNDING) <= radius * (1.0 - ROUNDING)


@torch.no_grad()
def norm_below(
    gram: Tensor, shape: torch.Size, error: float, start: Tensor | None
) -> tuple[float | None, Tensor]:
    """A proven upper bound, clearly below 1, of the norm of a matrix; ``None`` where there is none.

    A power iteration guesses; a Cholesky test of ``(1 + ROOM)·guess·I - G`` proves (what
    :func:`~lipsrl.layers._linalg.gap_proves_contraction` counts for rounding covers multiples of I below 1, too).

    Args:
        gram: lower triangle of the smaller Gram matrix (k, k), float64; what is above it is not read.
        shape: of the matrix.
        error: what ``gram`` may be wrong by, in the 2-norm.
        start: the vector (k,) that the last call returned.

    Returns:
        The bound, and where the power iteration ended.
    """
    lower, diagonal = gram.tril(), gram.diagonal()
    vector = torch.ones_like(diagonal) if start is None or not _alike(start, diagonal) else start
    for _ in range(STEPS):
        image = lower @ vector + lower.mT @ vector - diagonal * vector
        size = torch.linalg.vector_norm(image)
        vector = image / size.clamp_min(1e-300)
    guess = float(size)  # of the image of a unit vector
    if not guess < math.inf:
        return None, torch.ones_like(diagonal)
    if guess == 0.0:  # no direction to go on from
        vector = torch.ones_like(diagonal)
    square = max((1.0 + ROOM) * guess + error, SMALLEST**2)
    if not square < (1.0 - LEAST) ** 2:
        return None, vector
    gap = lower.neg()
    gap.diagonal().add_(square)
    proven = gap_proves_contraction(gap, shape, error)
    return math.sqrt(square) * (1.0 + ROUNDING) if proven else None, vector


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
