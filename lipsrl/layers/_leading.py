"""Leading singular directions of a weight that changes slowly: followed, clipped, and the rest verified."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lipsrl.layers._linalg import EPS64, gap_proves_contraction

#: Directions above this share of the radius are followed, and some more for what will come near it.
NEAR, MORE = 0.97, 8
#: Of all directions, at most this share: beyond it a full factorisation is no dearer.
LARGEST_SHARE = 1 / 3
#: Layers with fewer directions are factorised.
SMALLEST = 48
#: Followed directions are put this far (relative) inside the ball: room for what is not followed to the last digit.
SLACK = 1e-4
#: Degree of the filter.
DEGREE = 4


class Leading(NamedTuple):
    """What is followed.

    Attributes:
        basis: (k, r) orthonormal, of the k directions of the smaller Gram matrix.
        edge: smallest singular value of those, relative to the radius.
    """

    basis: Tensor
    edge: float

    @classmethod
    def of(cls, gram: Tensor, like: Tensor) -> Leading | None:
        """From the eigenvectors of ``gram`` (k, k), in the dtype of ``like``; ``None``: too many are near 1."""
        return None if len(gram) < SMALLEST else cls.among(*torch.linalg.eigh(gram.to(like.dtype)))

    @classmethod
    def among(cls, squares: Tensor, vectors: Tensor) -> Leading | None:
        """Of all eigenvalues (k,) in ascending order and their vectors (k, k); ``None``: too many are near 1."""
        k, sizes = len(squares), squares.clamp_min(0.0).sqrt()
        r = int((sizes > NEAR).sum()) + MORE
        if k < SMALLEST or not r <= LARGEST_SHARE * k:
            return None
        return cls(vectors[:, -r:].contiguous(), float(sizes[-r]))

    def fits(self, gram: Tensor, like: Tensor) -> bool:
        """Whether it belongs to a layer of this size, device and dtype."""
        return (
            len(self.basis) == len(gram)
            and self.basis.device == like.device
            and self.basis.dtype == like.dtype
        )


def _filtered(gram: Tensor, leading: Leading) -> Tensor:
    """A Chebyshev polynomial of ``gram`` times the basis: what lies above its edge grows, the rest does not.

    Zhou & Saad 2007, "A Chebyshev–Davidson algorithm for large symmetric eigenproblems", algorithm 2.1.
    """
    middle = max(leading.edge**2, 1e-3) / 2
    before, now = leading.basis, (gram @ leading.basis) / middle - leading.basis
    for _ in range(DEGREE - 1):
        before, now = now, (gram @ now) * (2 / middle) - 2 * now - before
    return now


@torch.no_grad()
def ritz(gram: Tensor, leading: Leading) -> tuple[Tensor, Tensor, Leading] | None:
    """Approximate eigenvalues (r,), ascending, and vectors (k, r) of what was followed, and what to follow.

    Rayleigh–Ritz on the filtered basis, all in the dtype of ``gram``. ``None`` where ``gram`` is not finite.
    """
    found = torch.linalg.qr(_filtered(gram, leading)).Q
    small = found.mT @ (gram @ found)
    if not math.isfinite(float(small.sum())):  # LAPACK would not say so kindly
        return None
    squares, rotation = torch.linalg.eigh(small)
    return squares, found @ rotation, Leading(found, math.sqrt(max(float(squares[0]), 0.0)))


@torch.no_grad()
def clip_leading(
    matrix: Tensor, gram: Tensor, leading: Leading, slack: float, dtype: torch.dtype
) -> tuple[Tensor | None, Leading, bool]:
    """Clip the followed singular values of the float64 ``matrix`` (m, n) to ``1 - slack`` and *prove* all below 1.

    Rayleigh–Ritz on the filtered basis. With its vectors V and shares D the result is ``M(I - VDVᵀ)`` (or from the
    left), whatever V is; its Gram matrix follows from the old one by a product of rank 2r. A Cholesky test of that
    verifies the norm, with what rounding to ``dtype`` adds (``u·‖M‖_F``) counted.

    Args:
        gram: float64, the smaller Gram matrix of ``matrix``.
        dtype: of the result.

    Returns:
        The result, or ``None`` where it is not proven; what to follow next time; whether anything was clipped.
    """
    found = torch.linalg.qr(_filtered(gram.to(leading.basis.dtype), leading)).Q
    exact = found.double()
    image = gram @ exact
    small = exact.mT @ image
    if not math.isfinite(float(small.sum())):  # LAPACK would not say so kindly
        return None, leading, False
    squares, rotation = torch.linalg.eigh(small)
    leading = Leading(found, math.sqrt(max(float(squares[0]), 0.0)))
    gap = gram.neg()
    gap.diagonal().add_(1.0)
    if float(squares[-1]) <= 1.0:  # inside, if nothing else is outside: every bit stays
        return (matrix if gap_proves_contraction(gap, matrix.shape) else None), leading, False
    above = int((squares > (1.0 - slack) ** 2).sum())
    share = 1.0 - (1.0 - slack) / squares[-above:].sqrt()
    vectors, image = exact @ rotation[:, -above:], image @ rotation[:, -above:]
    cut = vectors * share
    half = image * share - cut @ ((vectors.mT @ image) * share) / 2
    gap.addmm_(vectors, half.mT).addmm_(half, vectors.mT)
    if matrix.shape[0] >= matrix.shape[1]:
        clipped = matrix - (matrix @ cut) @ vectors.mT
    else:
        clipped = matrix - vectors @ (cut.mT @ matrix)
    size = math.sqrt(float(gram.trace()))
    rounding = 1.1 * torch.finfo(dtype).eps / 2 * size + 64 * EPS64 * sum(matrix.shape) * (1.0 + size**2)
    proven = gap_proves_contraction(gap, matrix.shape, 2 * rounding)
    return (clipped if proven else None), leading, True
