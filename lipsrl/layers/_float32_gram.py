"""Large weights that are put some way inside their ball: one float32 Gram matrix, its error counted, decides."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lipsrl.layers._linalg import EPS64, gap_proves_contraction
from lipsrl.layers._precision import UNIT32, gamma, multiplies_in_float32

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


@torch.no_grad()
def inside_by_float32(
    weight: Tensor, counted: CountedGram, slack: float, *, move_edge: bool = False
) -> Tensor | None:
    """A matrix inside its ball for certain: ``weight`` itself where it is one, else clipped to ``1 - slack`` radii.

    With ``G`` for the computed Gram matrix and W for the weight, both in units of the radius,
    ``‖G - WWᵀ‖₂ ≤ ‖error_share·|W||W|ᵀ‖_F ≤ error_share·‖W‖_F²``, and ``‖W‖_F² ≤ tr G/(1 - error_share)``: a
    Cholesky test of ``(1 - error)·I - G`` proves ``‖W‖ ≤ 1``. One of ``(1 + error)·I - G`` that fails says that W is
    outside.

    Then its singular values are clipped by the eigenvectors of G, to ``W - CW``, with a float32 C that is taken as it
    is. The product is off by ``(γ_k‖C‖_F + 2u(1 + ‖C‖_F))·‖W‖_F``; the Gram matrix of the result is
    ``(I - C)G(I - C)ᵀ`` but for ``error·(1 + ‖C‖_F)²`` and what its float32 products are wrong by (CG is in it twice,
    symmetrically; of CGCᵀ the test reads one triangle, hence √2); a Cholesky test that counts all of it proves the
    result. Nothing is believed of the eigenvectors.

    Args:
        counted: Gram matrix of ``weight``, in units of the radius.
        move_edge: whether to clip weights, too, of which float32 cannot say on which side of the edge they are.

    Returns:
        ``None`` where nothing of this is proven (among others of weights that are not finite).
    """
    tall = weight.shape[0] > weight.shape[1]
    wide = weight.mT if tall else weight
    k, (lower, trace, share, error) = len(wide), counted
    gap = lower.neg()
    gap.diagonal().add_(1.0)
    if gap_proves_contraction(gap, weight.shape, error):
        return weight
    if not move_edge and gap_proves_contraction(gap, weight.shape, -error):
        return None
    gram = lower.tril()
    gram += gram.tril(-1).mT
    squares, vectors = torch.linalg.eigh(gram.float())
    target = 1.0 - slack
    r = int((squares > target**2).sum())
    if r == 0:
        return None
    basis = vectors[:, -r:]
    cut = (basis * (1.0 - target * squares[-r:].rsqrt())) @ basis.mT
    clipped: Tensor = wide - cut @ wide

    shrunk = cut @ gram.float()
    twice = shrunk @ cut.mT
    after = gram - shrunk - shrunk.mT + twice
    c, g = _frobenius(cut), _frobenius(gram)
    size = math.sqrt(trace * (1.0 + 2 * share)) + 1e-6  # ≥ ‖W‖_F
    wrong = (gamma(k) * c + 2 * UNIT32 * (1.0 + c)) * size
    total = error * (1.0 + c) ** 2 + 2.1 * wrong * (1.0 + wrong) + gamma(k + 2) * c * g * (2.1 + 3.0 * c)
    gap = after.neg_()
    gap.diagonal().add_(1.0)
    if not gap_proves_contraction(gap, weight.shape, total):
        return None
    return clipped.mT if tall else clipped


def _frobenius(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) * (1.0 + EPS64 * matrix.numel())
