"""Singular values of a large weight, clipped in float32, and the result proven by a counted Gram matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lipsrl.layers._float32_gram import CountedGram
from lipsrl.layers._leading import Leading, ritz
from lipsrl.layers._linalg import EPS64, gap_proves_contraction
from lipsrl.layers._precision import UNIT32, gamma

#: Up to this share of all directions, a cut is applied as a product of two thin matrices.
THIN = 1 / 8


class Cut(NamedTuple):
    """What is taken off a matrix from the left: ``C = PQᵀ`` of float32 matrices, each taken as it is.

    Attributes:
        left, right: P and Q (k, r); or C (k, k) and ``None``.
        norm: ≥ ‖C‖_F.
        size: ≥ ‖P‖_F·‖Q‖_F, or ‖C‖_F.
        rounding: a product with C in float32 is off by at most this, times the Frobenius norm of the other.
    """

    left: Tensor
    right: Tensor | None
    norm: float
    size: float
    rounding: float

    @classmethod
    def of(cls, basis: Tensor, shares: Tensor) -> Cut:
        """``B·diag(shares)·Bᵀ`` of a (k, r) basis, rounded somehow.

        Of two thin products each is off by ``γ`` of its own length, the second on top of the first.
        """
        k, r = basis.shape
        left = basis * shares
        if r > THIN * k:
            dense = left @ basis.mT
            norm = _frobenius(dense)
            return cls(dense, None, norm, norm, gamma(k + 2) * norm)
        p, q = left.double(), basis.double()
        squared = float(((p.mT @ p) * (q.mT @ q)).sum())  # tr PQᵀQPᵀ, of entries of both signs
        size = _frobenius(left) * _frobenius(basis)
        norm = math.sqrt(max(squared, 0.0) + 8 * EPS64 * k * r * size**2)
        return cls(left, basis, min(norm, size), size, (gamma(k + 2) + 1.01 * gamma(r)) * size)

    def times(self, matrix: Tensor) -> Tensor:
        """``CM``."""
        return self.left @ (matrix if self.right is None else self.right.mT @ matrix)

    def after(self, matrix: Tensor) -> Tensor:
        """``MCᵀ``."""
        return (matrix if self.right is None else matrix @ self.right) @ self.left.mT


@torch.no_grad()
def inside_by_float32(
    weight: Tensor,
    counted: CountedGram,
    slack: float,
    *,
    move_edge: bool = False,
    followed: Leading | None = None,
) -> tuple[Tensor | None, Leading | None]:
    """A matrix inside its ball for certain: ``weight`` itself where it is one, else clipped to ``1 - slack`` radii.

    With ``G`` for the computed Gram matrix and W for the weight, both in units of the radius,
    ``‖G - WWᵀ‖₂ ≤ ‖error_share·|W||W|ᵀ‖_F ≤ error_share·‖W‖_F²``, and ``‖W‖_F² ≤ tr G/(1 - error_share)``: a
    Cholesky test of ``(1 - error)·I - G`` proves ``‖W‖ ≤ 1``. One of ``(1 + error)·I - G`` that fails says that W is
    outside.

    Then its singular values are clipped by eigenvectors of G (all of them; or those that were near the edge the last
    time, followed), to ``W - CW`` with a :class:`Cut` C. The product is off by ``(rounding + 2u(1 + size))·‖W‖_F``; the
    Gram matrix of the result is ``(I - C)G(I - C)ᵀ`` but for ``error·(1 + ‖C‖_F)²`` and what its float32 products are
    wrong by (CG is in it twice, symmetrically; of CGCᵀ the test reads one triangle, hence √2); a Cholesky test that
    counts all of it proves the result. Nothing is believed of the eigenvectors.

    Args:
        counted: Gram matrix of ``weight``, in units of the radius.
        move_edge: whether to clip weights, too, of which float32 cannot say on which side of the edge they are.
        followed: what the last call returned, of weights that are not far.

    Returns:
        ``None`` where nothing of this is proven (among others of weights that are not finite); and what to follow.
    """
    tall = weight.shape[0] > weight.shape[1]
    gap = counted.lower.neg()
    gap.diagonal().add_(1.0)
    if gap_proves_contraction(gap, weight.shape, counted.error):
        return weight, followed
    if not move_edge and gap_proves_contraction(gap, weight.shape, -counted.error):
        return None, followed
    gram = counted.lower.tril()
    gram += gram.tril(-1).mT
    like = gram.float()
    if followed is not None and followed.fits(gram, weight):
        pairs = ritz(like, followed)
        if pairs is not None:
            clipped = _clipped(
                weight.mT if tall else weight, weight.shape, gram, like, counted, slack, *pairs[:2]
            )
            if clipped is not None:
                return clipped.mT if tall else clipped, pairs[2]
    squares, vectors = torch.linalg.eigh(like)
    clipped = _clipped(
        weight.mT if tall else weight, weight.shape, gram, like, counted, slack, squares, vectors
    )
    if clipped is None:
        return None, None
    return clipped.mT if tall else clipped, Leading.among(squares, vectors)


def _clipped(
    wide: Tensor,
    shape: torch.Size,
    gram: Tensor,
    like: Tensor,
    counted: CountedGram,
    slack: float,
    squares: Tensor,
    vectors: Tensor,
) -> Tensor | None:
    """``W - CW`` by these eigenpairs, in ascending order, if that is proven to be inside."""
    target = 1.0 - slack
    r = int((squares > target**2).sum())
    if r == 0:
        return None
    cut = Cut.of(vectors[:, -r:], 1.0 - target * squares[-r:].rsqrt())
    clipped = wide - cut.times(wide)
    shrunk = cut.times(like)
    after = gram - shrunk - shrunk.mT + cut.after(shrunk)
    size = math.sqrt(counted.trace * (1.0 + 2 * counted.share)) + 1e-6  # ≥ ‖W‖_F
    wrong = (cut.rounding + 2 * UNIT32 * (1.0 + cut.size)) * size
    total = counted.error * (1.0 + cut.norm) ** 2 + 2.1 * wrong * (1.0 + wrong)
    total += cut.rounding * _frobenius(gram) * (2.1 + 3.0 * cut.size)
    gap = after.neg_()
    gap.diagonal().add_(1.0)
    return clipped if gap_proves_contraction(gap, shape, total) else None


def _frobenius(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) * (1.0 + EPS64 * matrix.numel())
