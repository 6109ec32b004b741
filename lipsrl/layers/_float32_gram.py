"""Large weights that are put some way inside their ball: one float32 Gram matrix, its error counted, decides."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lipsrl.layers._precision import gamma, multiplies_in_float32

#: Products that are summed in float32 before their sum is added to others, such sums that are added up before *their*
#: sum is: errors grow with the longest chain of additions, 78 for 3136 inputs.
CHUNK, GROUP = 64, 7

#: Rows and columns of the Gram matrix that are computed at a time; what is above its diagonal is left out.
BLOCK = 128

#: The error of the Gram matrix may be this share of what the slack leaves for it.
LARGEST_SHARE = 0.25

#: Weights of other sizes could underflow.
SMALLEST, LARGEST = 1e-12, 1e12


def worth_it(weight: Tensor, radius: float, slack: float) -> bool:
    """Whether ``weight`` is large enough to gain, and its slack enough to hide what float32 is wrong by."""
    k, n = min(weight.shape), max(weight.shape)
    return (
        weight.dtype == torch.float32
        and k >= BLOCK
        and error_share(n) * k <= LARGEST_SHARE * 2 * slack
        and SMALLEST < radius < LARGEST
        and multiplies_in_float32(weight.device)
    )


def error_share(n: int) -> float:
    """Largest error of a sum of ``n`` products in :func:`full_gram`, relative to the sum of their sizes."""
    groups = -(-n // (CHUNK * GROUP))
    return gamma(CHUNK + GROUP + groups)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``LRᵀ`` of (a, n) and (b, n): sums of ``CHUNK`` products, of ``GROUP`` of those, and of these."""
    n, total = left.shape[1], left.new_zeros(len(left), len(right))
    product = torch.empty_like(total)
    group = total if n <= CHUNK * GROUP else torch.empty_like(total)
    for start in range(0, n, CHUNK * GROUP):
        if group is not total:
            group.zero_()
        for i in range(start, min(n, start + CHUNK * GROUP), CHUNK):
            torch.mm(left[:, i : i + CHUNK], right[:, i : i + CHUNK].mT, out=product)
            group.add_(product)
        if group is not total:
            total.add_(group)
    return total


@torch.no_grad()
def full_gram(wide: Tensor) -> Tensor:
    """``WWᵀ`` (k, k) of a float32 ``wide`` (k, n).

    Each entry is off by at most ``error_share(n)·|W||W|ᵀ``, whatever the order of the sums inside a product of
    ``CHUNK`` (Higham 2002, section 3.1).
    """
    gram = wide.new_empty(len(wide), len(wide))
    for i in range(0, len(wide), BLOCK):
        gram[i:, i : i + BLOCK] = column = _product(wide[i:], wide[i : i + BLOCK])
        gram[i : i + BLOCK, i + BLOCK :] = column[BLOCK:].mT
    return gram


@torch.no_grad()
def lower_gram(wide: Tensor) -> Tensor:
    """The lower triangle of :func:`full_gram`; zeros and rubbish above it."""
    gram = wide.new_zeros(len(wide), len(wide))
    for i in range(0, len(wide), BLOCK):
        gram[i:, i : i + BLOCK] = _product(wide[i:], wide[i : i + BLOCK])
    return gram


class CountedGram(NamedTuple):
    """The smaller Gram matrix of a weight in units of its radius, and what it is wrong by at most.

    Attributes:
        lower: float64, its lower triangle.
        trace: of it.
        share: of :func:`error_share`.
        error: in the 2-norm.
    """

    lower: Tensor
    trace: float
    share: float
    error: float

    @classmethod
    @torch.no_grad()
    def of(cls, weight: Tensor, radius: float) -> CountedGram | None:
        """``None`` where it is not finite."""
        wide = weight if weight.shape[0] <= weight.shape[1] else weight.mT
        lower = lower_gram(wide.contiguous()).double().mul_(radius**-2)
        trace = float(lower.trace())
        if not trace < math.inf:
            return None
        share = error_share(wide.shape[1])
        # the last: products that underflow
        return cls(lower, trace, share, share / (1.0 - share) * trace * (1.0 + 1e-6) + 1e-7)
